r"""Guided scores: scores that change another one, and what they have in common.

A guided score says by `evaluations` how many evaluations of a network one call costs, and a
solve counts so many. It passes `prepare` on to the score that it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from diffsde.equations.counted import prepared, says_of
from diffsde.equations.graphs import ordinary
from diffsde.equations.ranges import UNIT, Range
from diffsde.equations.reverse import Score

__all__ = ["Guided", "Moment", "moment_of", "moments_at"]


class Moment(NamedTuple):
    """A time, and what a guided score passes to the score that it wraps as the time."""

    t: Tensor | float
    known: Any


def moments_at(score: Score, times: Tensor) -> list[Moment]:
    return [Moment(*pair) for pair in zip(times.unbind(), prepared(score, times), strict=True)]


def moment_of(t: Tensor | float | Moment) -> Moment:
    if isinstance(t, Moment):
        return t
    t = ordinary(t) if isinstance(t, Tensor) else t
    return Moment(t, t)


class Guided(nn.Module):
    """A score that wraps another one, and says of it what is still true."""

    score: Callable[..., Tensor]

    @property
    def evaluations(self) -> int:
        """Evaluations of a network for each call."""
        return int(says_of(self.score, "evaluations", 1))

    @property
    def data_scale(self) -> float:
        """How large a number of the data may be; 0 if unknown."""
        return float(says_of(self.score, "data_scale", 0.0))

    @property
    def flow_only(self) -> bool:
        """Whether the score belongs to a probability flow only."""
        return bool(says_of(self.score, "flow_only", False))

    @property
    def pixel_levels(self) -> int:
        """How many levels its network knows values to have; 0 for any value."""
        return int(says_of(self.score, "pixel_levels", 0))

    @property
    def data_range(self) -> Range:
        """The values of black and of white."""
        found: Range = says_of(self.score, "data_range", UNIT)
        return found
