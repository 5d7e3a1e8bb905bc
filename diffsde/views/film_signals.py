r"""Signals as a part of a film: lines in a grid of cells.

Every cell shows one sample, its values over their positions, a line for each channel. All cells
have one scale, which follows the noise (see `film_view`). The lines are drawn by Agg, matplotlib's
renderer, which says how much of each pixel they cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, IdentityTransform
from numpy.typing import NDArray
from torch import Tensor

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import mosaic
from diffsde.views.film_fit import CELL_GAP, Cells
from diffsde.views.film_parts import LINE_HEIGHT, Paint, letters
from diffsde.views.film_view import View, round_number
from diffsde.views.kinds import as_signals
from diffsde.views.movies import Frame

__all__ = ["Signals", "thinned"]

_EDGE = 3  # pixels beside the first and the last position
_LINE, _DOT = 1.5, 2.5  # the width of lines and the radius of dots, in pixels
_SPARSE = 12  # pixels between positions, from which on each has a dot
_BEYOND = 4.0  # heights of a cell, as far as lines are followed when they leave it


@dataclass
class Signals:
    """Signals in rows and columns: in frame k, `states[shown[k]]`.

    Args:
        sol: the trajectory.
        states: its states or its estimates, (T, B, …).
        shown: the saved state of each frame.
        view: the values that a cell spans.
        paint: the colours.
        cells: how many samples are shown, and the size of their cells.
        number: of the lines' colour, if there is one channel; several have a colour each.
    """

    sol: Trajectory
    states: Tensor
    shown: list[int]
    view: View
    paint: Paint
    cells: Cells
    number: int
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        batch = self.states.shape[1]
        self.count = min(batch, self.cells.count)
        self.said = [f"the first {self.count} of {batch:,}"] if self.count < batch else []
        rows = -(-self.count // self.cells.columns)
        height = rows * (self.cells.height + CELL_GAP) - CELL_GAP
        width = self.cells.columns * (self.cells.width + CELL_GAP) - CELL_GAP
        self.size = height + LINE_HEIGHT * (1 + len(self.said)), width
        self.pen = _Pen(self.cells.height, self.cells.width)

    def draw(self, k: int) -> Frame:
        index = self.shown[k]
        middle, half = float(self.view.middle[0]), self.view.half_at(self.sol, index)
        signals = as_signals(self.states[index][: self.count], self.sol.shape)
        blank, apart = self._blank(middle, half)
        units = (signals - (middle - half)) / (2 * half)
        drawn = np.stack([self._cell(blank, channels) for channels in units])
        sheet = mosaic(drawn, self.cells.columns, CELL_GAP, self.paint.ink(0))
        said = [f"lines are {apart:g} apart", *self.said]
        notes = [letters(line, LINE_HEIGHT, self.size[1]) for line in said]
        return self.paint.of(np.concatenate([sheet, *notes]))

    def _blank(self, middle: float, half: float) -> tuple[Frame, float]:
        """A cell with lines at round numbers, zero in a stronger ink, and their distance."""
        cell = np.full((self.cells.height, self.cells.width), self.paint.ink(0), np.uint8)
        apart = round_number(half)
        first, last = (math.ceil((middle + sign * half) / apart) for sign in (-1, 1))
        for n in range(first, last):
            place = self.pen.rows(np.array((n * apart - middle + half) / (2 * half)))
            cell[-1 - int(place)] = self.paint.ink(3 if n == 0 else 1)
        return cell, apart

    def _cell(self, blank: Frame, channels: NDArray[np.float32]) -> Frame:
        """The lines of one sample, (C, L) in units of the cell's height, over a blank cell."""
        cell, most = blank.copy(), np.zeros(blank.shape, np.uint8)
        for c, values in enumerate(channels):
            cover = self.pen.cover(values)
            here = (cover > 0) & (cover >= most)
            colour = self.number if len(channels) == 1 else c
            cell[here] = self.paint.tint(colour, cover[here])
            most = np.maximum(most, cover)
        return cell


class _Pen:
    """Draws lines in a rectangle of this size, in pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.agg = RendererAgg(width, height, 72)  # at 72 dpi, a point is a pixel
        self.ink = self.agg.new_gc()
        self.ink.set_linewidth(_LINE)
        self.ink.set_foreground("white")
        self.ink.set_joinstyle("round")

    def rows(self, units: NDArray[np.floating]) -> NDArray[np.floating]:
        """Heights in pixels from below, of values in units of the height."""
        return 0.5 + units * (self.height - 1)

    def cover(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """How much a signal (L,), in units of the height, covers of each pixel, of 255."""
        shares, values = thinned(values, self.width)
        kept = np.clip(np.where(np.isfinite(values), values, np.nan), -_BEYOND, 1 + _BEYOND)
        x = 0.5 + _EDGE + shares * (self.width - 1 - 2 * _EDGE)
        line = Path(np.column_stack([x, self.rows(kept)]))
        self.agg.clear()
        self.agg.draw_path(self.ink, line, IdentityTransform())
        if self.width >= _SPARSE * len(values):
            dot, size = Path.unit_circle(), Affine2D().scale(_DOT - _LINE / 2)
            self.agg.draw_markers(self.ink, dot, size, line, IdentityTransform(), (1.0, 1.0, 1.0))
        return np.asarray(self.agg.buffer_rgba())[..., 3].copy()


def thinned(
    values: NDArray[np.float32], columns: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions in [0, 1] and values of a signal; of a long one, the extremes in each column.

    Nothing is lost that columns of pixels could show.
    """
    length = len(values)
    if length == 1:
        return np.array([0.5]), values
    shares = np.linspace(0, 1, length)
    if length <= 4 * columns:
        return shares, values
    starts = np.linspace(0, length, columns, endpoint=False).astype(int)
    ends = [np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)]
    return shares[starts].repeat(2), np.stack(ends, 1).ravel()
