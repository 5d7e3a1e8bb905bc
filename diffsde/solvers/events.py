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
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from diffsde.equations.counted import EvaluationError
from diffsde.solvers.state import Step

__all__ = ["Watch"]

_TOLERANCE = 1e-6  # of the step


class Watch:
    """Waits for the crossing.

    Args:
        event: a function of u and of the state (B, D) that returns a number.
        within: takes the two ends of a step and gives, as a context, the state between them as
            a function of u.
    """

    def __init__(
        self,
        event: Callable[[Tensor, Tensor], float],
        within: Callable[[Step, Step], AbstractContextManager[Callable[[Tensor], Tensor]]],
    ) -> None:
        self._event, self._within = event, within
        self._value: float | None = None  # at the last state

    def crossing(self, before: Step, after: Step) -> Step | None:
        """The crossing in a step with these two ends, if there is one."""
        first = self._at(before) if self._value is None else self._value
        last = self._value = self._at(after)
        # A path that begins on zero has no sign to change until it leaves.
        if first == 0 or first * last > 0:
            return None
        if last == 0:
            return after
        with self._within(before, after) as state:
            return self._located((before, first), (after, last), state)

    def _at(self, step: Step) -> float:
        value = float(self._event(step.u, step.x))
        if math.isnan(value):
            raise EvaluationError("the event returned NaN: expected a number")
        return value

    def _located(
        self,
        before: tuple[Step, float],
        after: tuple[Step, float],
        state: Callable[[Tensor], Tensor],
    ) -> Step:
        known = {float(step.u): (step, value) for step, value in (before, after)}

        def value(u: float) -> float:
            if u not in known:
                place = torch.tensor(u, dtype=torch.float64)
                step = Step(place, state(place))
                known[u] = (step, self._at(step))
            return known[u][1]

        from scipy.optimize import brentq  # loaded by those who look for events

        start, end = known
        return known[brentq(value, start, end, xtol=_TOLERANCE * (end - start))][0]
