r"""Tables: functions of time, computed for all steps of a grid at once.

A coefficient of an equation or of a method is a dozen operations on single numbers, which
cost more than the step itself if they are done step by step. On a fixed grid the steps are
known beforehand, so they are done once, for all steps, in float64, and looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Row", "StageTable", "StepTable"]

Row = tuple[Tensor, ...]

_DIGITS = 2**44  # two times of a grid nearer than this fraction of it are one
_STAGES = 64  # a method that asks at more fractions of a step follows no pattern


class StageTable:
    """A function of a time, at the times that a method asks for on a grid.

    A method asks at the same fractions of every step: the first time that it asks at a new
    one, the function is computed at that fraction of all steps.

    Args:
        rule: gives a tuple of tensors of u's shape, for u of shape () or (n,).
        nodes: (n + 1,) float64, rising.
    """

    def __init__(self, rule: Callable[[Tensor], Row], nodes: Tensor) -> None:
        self._rule, self._nodes = rule, nodes
        self._scale = _DIGITS / float(nodes[-1])
        self._known: dict[int, Row] = {}

    def __call__(self, u: Tensor | float) -> Row:
        key = round(float(u) * self._scale)
        row = self._known.get(key)
        if row is not None:
            return row
        if len(self._known) > _STAGES * len(self._nodes):
            return self._rule(torch.as_tensor(u, dtype=torch.float64))
        row = self._known[key] = self._learn(float(u))
        return row

    def _learn(self, u: float) -> Row:
        starts, lengths = self._nodes[:-1], self._nodes.diff()
        step = max(int((starts <= u).sum()) - 1, 0)
        places = starts + (u - starts[step]) / lengths[step] * lengths
        rows = _rows(self._rule(places))
        self._known.update(zip((places * self._scale).round().long().tolist(), rows, strict=True))
        return rows[step]


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
            return self._rule(u0, u1)
        if not self._known:
            made = self._rule(self._nodes[:-1], self._nodes[1:])
            rows = _rows(tuple(value.to(self._like) for value in made))
            self._known = dict(zip(pairwise(self._nodes.tolist()), rows, strict=True))
        row = self._known.get((float(u0), float(u1)))
        return self._rule(u0, u1) if row is None else row


def _rows(columns: Row) -> list[Row]:
    return list(
        zip(*(column.unbind() for column in torch.broadcast_tensors(*columns)), strict=True)
    )
