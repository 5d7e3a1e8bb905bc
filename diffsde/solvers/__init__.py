r"""Solvers: a problem and a method's name make a trajectory.

May import `equations` and what lies below it: a solver knows no network and no picture.

    solving      `solve`, one door to every solver
    catalogue    the methods by name
    settings     the settings of a solve with every default filled in
    trajectory   what a solve returns
    methods/     the steps: torchsde's, torchdiffeq's and our own
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
