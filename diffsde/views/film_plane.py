r"""Points in the plane as a part of a film: where they are, and the way that they came.

The view follows the noise (see `film_view`) as the shades of images do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.film_parts import LINE_HEIGHT, Paint, letters
from diffsde.views.film_view import Points, View, finite_or_nan, round_number
from diffsde.views.movies import Frame

__all__ = ["Plane"]

_TRAIL = 0.05  # of the film: how long the way stays visible
_TRAILS = 100  # points that have one
_PLACES = 60_000  # drawn of all ways together, at most
_DISC = [(y, x) for y in range(-3, 4) for x in range(-3, 4) if y * y + x * x <= 10]


@dataclass
class Plane:
    """Points in a square, each with the way that it has just come: in frame k, `states[shown[k]]`.

    Args:
        sol: the trajectory.
        states: its states or its estimates, (T, B, 2).
        shown: the saved state of each frame.
        view: the square.
        paint: the colours.
        side: of the square, in pixels.
        number: of the points' colour.
    """

    sol: Trajectory
    states: Tensor
    shown: list[int]
    view: View
    paint: Paint
    side: int
    number: int

    @property
    def size(self) -> tuple[int, int]:
        return self.side + LINE_HEIGHT, self.side

    def draw(self, k: int) -> Frame:
        index = self.shown[k]
        half = self.view.half_at(self.sol, index)
        picture = np.full(self.size, self.paint.ink(0), np.uint8)
        square = picture[: self.side]
        apart = self._draw_grid(square, half)
        picture[self.side :] = letters(f"lines are {apart:g} apart", LINE_HEIGHT, self.side)
        self._mark(square, self._way(index), half, self.paint.faint_line(self.number), [(0, 0)])
        points = finite_or_nan(self.states[index])
        disc = _DISC[:: 1 if len(points) <= 500 else 3]
        self._mark(square, points, half, self.paint.line(self.number), disc)
        return self.paint.of(picture)

    def _draw_grid(self, square: Frame, half: float) -> float:
        """Lines at round numbers, and the distance between them."""
        apart = round_number(half / 2)
        for axis, middle in enumerate(self.view.middle):
            first, last = (math.ceil((middle + s * half) / apart) for s in (-1, 1))
            for n in range(first, last):
                place = self._pixels(np.full((1, 2), n * apart), half)[0, axis] % self.side
                line = square[:, place] if axis == 0 else square[place]
                line[:] = self.paint.ink(1 if n else 3)
        return apart

    def _way(self, index: int) -> Points:
        """Places along the last steps of some of the points: (N, 2)."""
        first = max(0, index - max(1, round(_TRAIL * len(self.states))))
        some = slice(0, _TRAILS)
        states = finite_or_nan(self.states[first : index + 1, some])
        if len(states) < 2:
            return np.zeros((0, 2))
        half = self.view.half_at(self.sol, index)
        longest = np.nan_to_num(np.abs(np.diff(states, axis=0))).max() * self.side / (2 * half)
        most = _PLACES // max(1, states[1:, :, 0].size)
        shares = np.linspace(0, 1, max(2, min(math.ceil(longest), most)))[:, None, None, None]
        places: Points = (states[:-1] + shares * np.diff(states, axis=0)).reshape(-1, 2)
        return places

    def _mark(
        self, square: Frame, points: Points, half: float, colour: int, disc: list[tuple[int, int]]
    ) -> None:
        """Discs around the points that are inside of the view."""
        places = self._pixels(points[~np.isnan(points).any(1)], half)
        for dy, dx in disc:
            x, y = places[:, 0] + dx, places[:, 1] + dy
            inside = (x >= 0) & (x < self.side) & (y >= 0) & (y < self.side)
            square[y[inside], x[inside]] = colour

    def _pixels(self, points: Points, half: float) -> NDArray[np.int64]:
        """Columns and rows, (N, 2); the second coordinate rises upwards."""
        unit = np.clip((points - self.view.middle) / (2 * half), -2, 2)
        return np.floor((0.5 + unit * (1, -1)) * self.side).astype(np.int64)
