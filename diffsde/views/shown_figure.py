r"""Figures that a notebook shows exactly once.

A figure of our own is not known to pyplot, and matplotlib teaches IPython to show figures only
when pyplot is imported. So our figures bring their picture along.

A figure of the caller's, from `plt.subplots()`, has the opposite problem. As a cell's last
expression it is shown as the result, and the inline backend shows it again at the end of the
cell, as it does with every open figure, and closes it. So a figure that we have drawn in is
closed when it is first shown, which the backend would do a moment later.
"""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure

__all__ = ["ShownFigure", "shown_once"]

_INLINE = ("inline", "module://matplotlib_inline.backend_inline")


class ShownFigure(Figure):
    """A figure that a notebook shows as a picture, and that pyplot does not know about."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def shown_once(figure: Figure) -> Figure:
    """The caller's figure, which a notebook's inline backend will not show twice."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    number = getattr(figure, "number", None)  # of the figures that pyplot has made
    if pyplot is None or number is None or not pyplot.fignum_exists(number):
        return figure
    if matplotlib.get_backend() in _INLINE:
        # IPython looks for this name in the object, before any picture of it is made.
        figure.__dict__["_ipython_display_"] = partial(_close, figure)
    return figure


def _close(figure: Figure) -> None:
    """Close the figure in pyplot, and let IPython show it as it does without us."""
    sys.modules["matplotlib.pyplot"].close(figure)
    raise NotImplementedError  # which IPython takes for "no display of its own"
