r"""Events: where a function of time and state crosses zero.

The event is looked at once for each state. When its sign has changed, the crossing is
bracketed by a step, and found there by Brent's method on the path within that step
(`dense.within_step`), to 1e-6 of the step. Two crossings within one step cancel and go
unseen, as in every method that looks at states: take shorter steps.

Source: Brent, Algorithms for Minimization without Derivatives, 1973, chapter 4; for events
by dense output, Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, II.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.optimize import brentq
from torch import Tensor

from diffsde.solvers.equation import EvaluationError
from diffsde.solvers.registry import Move

__all__ = ["Watch"]

_TOLERANCE = 1e-6  # of the step


class Watch:
    """Waits for the crossing.

    Args:
        event: a function of u and of the state (B, D), a number.
    """

    def __init__(self, event: Callable[[Tensor, Tensor], float]) -> None:
        self._event = event
        self._value: float | None = None  # at the last state

    def crossing(
        self, before: Move, after: Move, within: Callable[[], Callable[[Tensor], Tensor]]
    ) -> Move | None:
        """The crossing in a step, if there is one.

        Args:
            before, after: the two ends of the step.
            within: makes the function of u that gives the state between them.
        """
        first = self._at(before) if self._value is None else self._value
        last = self._value = self._at(after)
        # A path that begins on zero has no sign to change until it leaves.
        if first == 0 or first * last > 0:
            return None
        return after if last == 0 else self._located((before, first), (after, last), within())

    def _at(self, move: Move) -> float:
        value = float(self._event(move.u, move.x))
        if math.isnan(value):
            raise EvaluationError("the event returned NaN: expected a number")
        return value

    def _located(
        self,
        before: tuple[Move, float],
        after: tuple[Move, float],
        state: Callable[[Tensor], Tensor],
    ) -> Move:
        known = {float(move.u): (move, value) for move, value in (before, after)}

        def value(u: float) -> float:
            if u not in known:
                place = torch.tensor(u, dtype=torch.float64)
                move = Move(place, state(place))
                known[u] = (move, self._at(move))
            return known[u][1]

        start, end = known
        return known[brentq(value, start, end, xtol=_TOLERANCE * (end - start))][0]
