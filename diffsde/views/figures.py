r"""Figures: the steps that every plot begins and ends with.

A plot draws into the caller's axes as they are, or into a figure of its own in our style; it
is written to a file if a path is given. Our figures are not registered with pyplot, so none stays
open and plots may be made in threads. A notebook shows them all the same, as a cell's last
expression; for a window with `plt.show()`, pass axes of `plt.subplots()`. The time axis runs in
the direction of the solve: from 1 down to ε for a reverse problem.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole
from diffsde.views.display import title_of
from diffsde.views.shown_figure import shown_once
from diffsde.views.style import Theme

__all__ = [
    "Array",
    "PathLike",
    "asinh_axis",
    "axes_for",
    "caption",
    "figure_of",
    "name_of",
    "time_axis",
    "times_of",
    "values_of",
    "written",
]

PathLike = str | os.PathLike[str] | None
Array = NDArray[np.float64]


def axes_for(ax: Axes | None, look: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    """The caller's axes as they are, or new ones in our style, with their figure."""
    if ax is None:
        figure = look.figure(width, height)
        return figure, look.dress(figure.add_subplot())
    return figure_of(ax), ax


def figure_of(ax: Axes) -> Figure:
    """The figure of the caller's axes."""
    figure: Any = ax.figure
    while not isinstance(figure, Figure):  # the axes may belong to a subfigure
        figure = figure.figure
    return shown_once(figure)


def written(figure: Figure, path: PathLike) -> Figure:
    """The figure, after writing it to `path` if there is one.

    Raises:
        InputError: the suffix names no format.
        FileError: the file cannot be written.
    """
    if path is not None:
        _check_format(path, figure)
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return figure


def _check_format(path: str | os.PathLike[str], figure: Figure) -> None:
    suffix, formats = Path(path).suffix, figure.canvas.get_supported_filetypes()
    if suffix.removeprefix(".").lower() not in formats:
        valid = name_list(suffix, [f".{name}" for name in formats])
        raise InputError(f"{path}: its suffix {suffix!r} names no format of pictures. {valid}")


def time_axis(axes: Axes, sol: Trajectory) -> None:
    """Let t run from left to right in the direction of the solve."""
    first, last = float(sol.ts[0]), float(sol.ts[-1])
    if first != last:
        axes.set_xlim(first, last)
    axes.set_xlabel("t")


def asinh_axis(axis: Axis, linear: float, top: float) -> None:
    """Make an axis linear up to ±`linear` and logarithmic beyond, with ticks up to ±`top`."""
    last = int(np.floor(np.log10(top)))
    decades = range(min(int(np.ceil(np.log10(linear))), last - 1), last + 1)
    marks = (1, 3) if len(decades) <= 3 else (1,)
    ticks = [m * 10.0**k for k in decades for m in marks if 0.4 * linear < m * 10.0**k < top]
    change = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    change("asinh", linear_width=linear)
    axis.set_ticks([*(-t for t in reversed(ticks)), 0.0, *ticks])
    axis.set_major_formatter("{x:g}")


def caption(figure: Figure, text: str, look: Theme) -> None:
    """A small line of text below all axes of a figure of our own."""
    figure.supxlabel(text, fontsize=8, color=look.ink)


def times_of(sol: Trajectory) -> Array:
    times: Array = sol.ts.detach().double().cpu().numpy()
    return times


def values_of(sol: Trajectory) -> NDArray[np.float32]:
    """Every coordinate of every sample, P in all: (T, P)."""
    values: NDArray[np.float32] = sol.ys.detach().float().cpu().reshape(len(sol), -1).numpy()
    return values


def name_of(sol: Trajectory, what: str) -> str:
    """The name of one of a trajectory's curves in a legend."""
    title = title_of(sol)
    return f"{title}, {what}" if title else what
