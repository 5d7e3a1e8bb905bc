r"""What samples are drawn with if nobody says otherwise, in Python and on the command line.

A model's `sample` and the commands that draw share these. `solve`, which takes equations of every
kind, has defaults of its own: the methods and the even steps in t of the tutorial.

Nothing is imported here, so that the command line can show the defaults at once.
"""

__all__ = ["CLOCK", "METHODS", "STEPS"]

METHODS = {"sde": "sde_dpmpp_2m", "ode": "dpmpp_2m"}
"""The method for each kind of problem."""

STEPS = 50  # of a method that does not choose its own
CLOCK = "karras"
