r"""Coefficients: functions of time, computed for all steps of a grid at once.

A coefficient of an equation or of a method takes a dozen operations on single numbers, which
would cost more than the step itself. On a fixed grid the steps are known beforehand, so the
coefficients of all steps are computed once, in float64, and looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Generic, TypeVar

import torch
from torch import Tensor

from diffsde.equations.clocks import padded
from diffsde.system.host import on_host

__all__ = ["Row", "StageTable", "StepTable", "beside"]

Row = tuple[Tensor, ...]
T = TypeVar("T")

_SHARES = 2**36  # places of a stage within a step that are told apart
_STAGES = 64  # a method that asks at more fractions of a step than these has no pattern


def beside(h: Tensor, x: Tensor) -> Tensor:
    """A length, () or (B, 1) on the host, as a factor of states x, (B, …).

    One number of the host goes with tensors of any device; numbers for each sample must be there.
    """
    return h.reshape(-1, *[1] * (x.dim() - 1)).to(x) if h.dim() else h


class StageTable(Generic[T]):
    """A function of a time, at the times that a method asks for on a grid.

    A method asks at the same fractions of every step. When it asks at a new fraction, the
    function is computed at that fraction of all steps.

    Args:
        rule: gives n values for u of shape (n,).
        nodes: (n + 1,) float64, rising.
    """

    def __init__(self, rule: Callable[[Tensor], Sequence[T]], nodes: Tensor) -> None:
        self._rule, self._nodes = rule, nodes
        self._places: list[float] = nodes.tolist()
        self._by_stage: dict[int, T] = {}
        self._by_time: dict[float, T] = {}  # the same values, faster to look up
        self._most = _STAGES * len(nodes)

    def __call__(self, u: Tensor | float) -> T:
        place = float(u)
        value = self._by_time.get(place)
        return self._found(place) if value is None else value

    def _found(self, u: float) -> T:
        """The value at a time that differs from those known, if only by rounding."""
        stage = self._stage(u)
        value = self._by_stage.get(stage)
        if value is None:
            value = self._learned(stage, u)
        if len(self._by_time) < self._most:
            self._by_time[u] = value
        return value

    def _stage(self, u: float) -> int:
        """The step in which u lies and its place in that step, as one number.

        The place is rounded so that a stage stands at the same place in every step of every
        grid; a time just before the end of a step is the start of the next.
        """
        step = min(max(bisect_right(self._places, u) - 1, 0), len(self._places) - 2)
        start, end = self._places[step : step + 2]
        return step * _SHARES + round((u - start) / (end - start) * _SHARES)

    def _learned(self, stage: int, u: float) -> T:
        if len(self._by_stage) > self._most:
            return self._rule(on_host([u], torch.float64))[0]
        step, share = divmod(stage, _SHARES)
        lengths = self._nodes.diff()
        places = self._nodes[:-1] + share / _SHARES * lengths if share else self._nodes
        values = self._rule(padded(places))[: len(places)]
        stages = range(share, len(values) * _SHARES, _SHARES)
        self._by_stage.update(zip(stages, values, strict=True))
        self._by_time.update(zip(places.tolist(), values, strict=True))
        return values[step]


class StepTable:
    """A function of a step's two ends, for the steps of a grid; others are computed singly.

    Args:
        rule: gives a tuple of tensors of the ends' shape: (), (n,) or (B, 1).
        nodes: (n + 1,) float64, rising.
        like: a state; gives the dtype and the device of the table.
    """

    def __init__(self, rule: Callable[[Tensor, Tensor], Row], nodes: Tensor, like: Tensor) -> None:
        self._rule, self._nodes, self._like = rule, nodes, like
        self._known: dict[tuple[float, float], Row] = {}

    def __call__(self, u0: Tensor, u1: Tensor) -> Row:
        if u0.dim():  # every sample has steps of its own
            return self._single(u0, u1)
        if not self._known:
            count = len(self._nodes) - 1
            made = self._rule(padded(self._nodes[:-1]), padded(self._nodes[1:]))
            columns = torch.broadcast_tensors(*(value.to(self._like) for value in made))
            columns = tuple(column[:count] for column in columns)
            rows = zip(*(column.unbind() for column in columns), strict=True)
            self._known = dict(zip(pairwise(self._nodes.tolist()), rows, strict=True))
        row = self._known.get((float(u0), float(u1)))
        return self._single(u0, u1) if row is None else row

    def _single(self, u0: Tensor, u1: Tensor) -> Row:
        return tuple(value.to(self._like) for value in self._rule(u0, u1))
