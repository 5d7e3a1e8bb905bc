r"""Figures: what every plot begins and ends with.

A plot draws into the caller's axes as they are, or into a figure of its own in our style; it
is written if a path is given. Figures belong to no global state: nothing stays open, and
threads may plot. The time axis runs as the solve did: from 1 down to ε for a reverse one.
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
    """The caller's axes as they are, or our own in our style."""
    if ax is None:
        figure = look.figure(width, height)
        return figure, look.dress(figure.add_subplot())
    return figure_of(ax), ax


def figure_of(ax: Axes) -> Figure:
    figure: Any = ax.figure
    while not isinstance(figure, Figure):  # axes may lie in a subfigure
        figure = figure.figure
    return figure


def written(figure: Figure, path: PathLike) -> Figure:
    if path is not None:
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return figure


def time_axis(axes: Axes, sol: Trajectory) -> None:
    """t from left to right as it was solved."""
    first, last = float(sol.ts[0]), float(sol.ts[-1])
    if first != last:
        axes.set_xlim(first, last)
    axes.set_xlabel("t")


def times_of(sol: Trajectory) -> Array:
    times: Array = sol.ts.detach().double().cpu().numpy()
    return times


def values_of(sol: Trajectory) -> NDArray[np.float32]:
    """All values of all samples: (T, P)."""
    values: NDArray[np.float32] = sol.ys.detach().float().cpu().reshape(len(sol), -1).numpy()
    return values


def name_of(sol: Trajectory, what: str) -> str:
    return f"{sol.method}, {what}" if sol.method else what
