r"""What a film of points or signals shows of their space: an interval that follows the noise.

At time t it shows, in every coordinate,

    c ± (r + 2.5 s(t)),

where c is the middle of the data and r half their extent: first the noise fills it, finally the
data. Points in the plane have two coordinates, and so the view is a square; the values of signals
have one. Lines at round numbers, whose distance is written below, show how it grows or shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import Shading, checked_interval

__all__ = ["Points", "View", "calmest", "finite_or_nan", "round_number"]

_NOISE_STDS = 2.5  # standard deviations of the noise on either side of the data
_ROOM = 1.15  # of the data's extent

Points = NDArray[np.float64]


class View:
    """What a film shows: its middle and, as noise comes or goes, half its side.

    Several trajectories have one view, so that they can be compared. Where s(t) is unknown, the
    view stays and all states have room.

    Args:
        sols: the trajectories.
        shading: as `animate` takes it.
        coordinates: 2 for points in the plane, 1 for the values of signals.
    """

    def __init__(self, sols: Sequence[Trajectory], shading: Shading, coordinates: int) -> None:
        interval = checked_interval(shading)
        calm = np.concatenate([_points(s.ys[calmest(s)], coordinates) for s in sols])
        low, high = calm.min(0), calm.max(0)
        self.follows = interval is None and shading == "envelope"
        self.middle, self.half = (low + high) / 2, _ROOM * float((high - low).max()) / 2
        if interval is not None:
            self.middle = np.full(coordinates, sum(interval) / 2)
            self.half = (interval[1] - interval[0]) / 2
        self.half = self.half or 1.0
        if self.follows and any(s.std is None for s in sols):
            distances = [np.abs(_points(s.ys, coordinates) - self.middle).max() for s in sols]
            self.follows, self.half = False, max(self.half, *map(float, distances))

    def half_at(self, sol: Trajectory, index: int) -> float:
        """Half the side at a saved time."""
        if not self.follows or sol.std is None:
            return self.half
        return self.half + _NOISE_STDS * float(sol.std[index])

    def followed(self, sol: Trajectory) -> Points:
        """Points as they move through the view, in the coordinates of the data: (T, B, 2)."""
        halves = np.array([self.half_at(sol, k) for k in range(len(sol))])
        gains = (self.half / halves)[:, None, None]
        return self.middle + gains * (finite_or_nan(sol.ys) - self.middle)


def calmest(sol: Trajectory) -> int:
    """The saved state with the least noise: the last one, if that is not known."""
    return len(sol) - 1 if sol.std is None else int(sol.std.argmin())


def finite_or_nan(states: Tensor) -> Points:
    """The states, with NaN for what is not finite."""
    points = states.detach().double().cpu().numpy()
    return np.where(np.isfinite(points), points, np.nan)


def round_number(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most this."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(m * power for m in (5, 2, 1) if m * power <= most * (1 + 1e-9))


def _points(states: Tensor, coordinates: int) -> Points:
    """The finite ones, (N, coordinates)."""
    points = finite_or_nan(states).reshape(-1, coordinates)
    finite = points[~np.isnan(points).any(1)]
    return finite if len(finite) else np.zeros((1, coordinates))
