r"""Signals on a sheet: a batch as lines in a grid, or the path of a batch at a few times.

All cells lie in one pair of axes, each a unit square, in which the values that it spans are mapped
to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.numbers import whole_number
from diffsde.views.display import Shading
from diffsde.views.figures import PathLike, axes_for, caption, written
from diffsde.views.film_fit import fit_signals
from diffsde.views.film_signals import thinned
from diffsde.views.film_view import View, round_number
from diffsde.views.kinds import as_signals
from diffsde.views.style import Theme, theme

__all__ = ["plot_signals", "strip_of_signals"]

_ACROSS, _DOWN = 0.08, 0.16  # gaps between columns and between rows, of a cell
_EDGE = 0.015  # beside a cell, for the dots at its ends
_ROOM = 1.08  # of the extent of what is drawn
_FINEST = 600  # steps that a line of one cell can show
_DPI = 100
_SPARSE = 24  # positions, up to which each has a dot
_STRIP_CELL = (1.15, 0.8)  # width and height in inches

Limits = tuple[float, float]
Signals = NDArray[np.float32]


def plot_signals(
    x: Tensor | Trajectory,
    path: PathLike = None,
    *,
    n: int = 16,
    columns: int | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Signals as lines in a grid: values over positions, with a line for each channel.

    Args:
        x: signals (B, C, L), or points (B, D), which have one channel; or a trajectory of such
            states, for its last ones.
        path: where to write the figure, if anywhere.
        n: how many signals to show, at most: the first ones.
        columns: signals per row; by default their cells are as large as fits.

    Raises:
        InputError: x does not have such a shape, or n or columns is no positive number.
    """
    look, most = theme(dark), whole_number(n, "n")
    signals = as_signals(x.final, x.shape) if isinstance(x, Trajectory) else as_signals(x, ())
    if not signals.size:
        raise InputError(f"signals of shape {signals.shape}: there is nothing to show")
    shown = signals[:most]
    across = None if columns is None else whole_number(columns, "columns")
    cells = fit_signals(len(shown), 1, across)
    rows = -(-len(shown) // cells.columns)
    size = cells.columns * cells.width / _DPI + 0.7, rows * cells.height / _DPI + 0.7
    figure, axes = axes_for(ax, look, *size)
    sheet = _Sheet(axes, look, rows, cells.columns)
    limits = _limits(shown)
    for i, signal in enumerate(shown):
        sheet.draw(divmod(i, cells.columns), signal, limits)
    sheet.label(limits, shown.shape[2])
    if ax is None and len(shown) < len(signals):
        caption(figure, f"The first {len(shown)} of {len(signals):,}.", look)
    if 1 < shown.shape[1] <= len(look.lines):
        look.legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return written(figure, path)


def _limits(signals: Signals) -> Limits:
    """What all cells span, with some room."""
    finite = signals[np.isfinite(signals)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return _around((low + high) / 2, _ROOM * (high - low) / 2 or 1.0)


def _around(middle: float, half: float) -> Limits:
    return float(middle) - half, float(middle) + half


def strip_of_signals(
    sol: Trajectory,
    path: PathLike,
    shown: Sequence[int],
    n: int,
    denoised: bool,
    shading: Shading,
    ax: Axes | None,
    dark: bool,
) -> Figure:
    """`film_strip` of signals; the arguments are its own, but for the saved states to show."""
    look, view, data = theme(dark), View([sol], shading, 1), View([sol], "data", 1)
    count, step = min(n, sol.ys.shape[1]), 2 if denoised else 1
    rows, (width, height) = step * count, _STRIP_CELL
    figure, axes = axes_for(ax, look, len(shown) * width, rows * height + 0.3)
    sheet = _Sheet(axes, look, rows, len(shown))
    for column, k in enumerate(shown):
        noise = _around(view.middle[0], view.half_at(sol, k))
        for row, signal in enumerate(as_signals(sol.ys[k], sol.shape)[:count]):
            sheet.draw((step * row, column), signal, noise)
        if denoised and sol.denoised is not None:
            for row, signal in enumerate(as_signals(sol.denoised[k], sol.shape)[:count]):
                sheet.draw((2 * row + 1, column), signal, _around(data.middle[0], data.half))
    labels = [f"t = {float(sol.ts[k]):.2g}" for k in shown]
    axes.set_xticks([column * (1 + _ACROSS) + 0.5 for column in range(len(shown))], labels)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    axes.set_yticks([])
    return written(figure, path)


class _Sheet:
    """Cells in rows and columns of a pair of axes, each a square of side 1."""

    def __init__(self, axes: Axes, look: Theme, rows: int, columns: int) -> None:
        self.axes, self.look, self.rows, self.columns = axes, look, rows, columns
        axes.grid(False)
        axes.spines[:].set_visible(False)
        width, height = columns * (1 + _ACROSS) - _ACROSS, rows * (1 + _DOWN) - _DOWN
        axes.set(xlim=(-_EDGE, width + _EDGE), ylim=(-height, 0))

    def draw(self, place: tuple[int, int], signal: NDArray[np.float32], limits: Limits) -> None:
        """One sample (C, L) in the cell of this row and column, which spans these values."""
        left, below = self._corner(*place)
        for value in _round_values(limits):
            ink = self.look.grid if value else self.look.muted
            height = below + _share(value, limits)
            self.axes.plot([left, left + 1], [height] * 2, color=ink, linewidth=0.8)
        cell = Rectangle((left - _EDGE, below), 1 + 2 * _EDGE, 1, transform=self.axes.transData)
        for c, values in enumerate(signal):
            shares, kept = thinned(values, _FINEST)
            heights = below + _share(np.where(np.isfinite(kept), kept, np.nan), limits)
            marker = "o" if len(kept) <= _SPARSE else None
            name = f"channel {c}" if place == (0, 0) and len(signal) > 1 else None
            (line,) = self.axes.plot(
                left + shares, heights, color=self.look.line(c), linewidth=1.2,
                marker=marker, markersize=3, label=name,
            )  # fmt: skip
            line.set_clip_path(cell)

    def label(self, limits: Limits, length: int) -> None:
        """The values beside each row, and the first and the last index below each column."""
        values = _round_values(limits)
        belows = [self._corner(row, 0)[1] for row in range(self.rows)]
        heights = [below + _share(value, limits) for below in belows for value in values]
        self.axes.set_yticks(heights, [f"{v:g}".replace("-", "−") for v in values] * self.rows)
        ends = {0.0: ("0", "left"), 1.0: (str(length - 1), "right")}
        ends = ends if length > 1 else {0.5: ("0", "center")}
        lefts = [self._corner(0, column)[0] for column in range(self.columns)]
        self.axes.set_xticks([left + share for left in lefts for share in ends])
        names, sides = zip(*ends.values(), strict=True)
        labels = self.axes.set_xticklabels(names * self.columns)
        for text, side in zip(labels, sides * self.columns, strict=True):
            text.set_horizontalalignment(side)
        self.axes.tick_params(length=0)
        self.axes.set_xlabel("index")

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        """The lower left one of a cell."""
        return column * (1 + _ACROSS), -1 - row * (1 + _DOWN)


def _share(values: Any, limits: Limits) -> Any:
    """Values as shares of a cell's height."""
    low, high = limits
    return (values - low) / (high - low)


def _round_values(limits: Limits) -> list[float]:
    """Zero, and round values on either side of it, between the limits."""
    low, high = limits
    apart = round_number((high - low) / 2)
    return [n * apart for n in range(math.ceil(low / apart), math.floor(high / apart) + 1)]
