r"""Figures: the steps that every plot begins and ends with.

A plot draws into the caller's axes as they are, or into a figure of its own in our style; it
is written to a file if a path is given. Our figures are not registered with pyplot, so none stays
open and plots may be made in threads. A notebook shows them all the same, as a cell's last
expression; for a window with `plt.show()`, pass axes of `plt.subplots()`. The time axis runs in
the direction of the solve: from 1 down to ε for a reverse problem.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole
from diffsde.views.shown_figure import shown_once
from diffsde.views.style import Theme

__all__ = [
    "Array",
    "PathLike",
    "axes_for",
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
    """The figure, after writing it to `path` if there is one."""
    if path is not None:
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return figure


def time_axis(axes: Axes, sol: Trajectory) -> None:
    """Let t run from left to right in the direction of the solve."""
    first, last = float(sol.ts[0]), float(sol.ts[-1])
    if first != last:
        axes.set_xlim(first, last)
    axes.set_xlabel("t")


def times_of(sol: Trajectory) -> Array:
    times: Array = sol.ts.detach().double().cpu().numpy()
    return times


def values_of(sol: Trajectory) -> NDArray[np.float32]:
    """Every coordinate of every sample, P in all: (T, P)."""
    values: NDArray[np.float32] = sol.ys.detach().float().cpu().reshape(len(sol), -1).numpy()
    return values


def name_of(sol: Trajectory, what: str) -> str:
    """The name of one of a trajectory's curves in a legend."""
    return f"{sol.method}, {what}" if sol.method else what
