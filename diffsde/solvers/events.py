r"""Events: where a function of time and state crosses zero, or a condition changes.

A condition, which is true or false, counts as 1 or −1; the solve ends on the first side found
on which it has changed.

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
from typing import Any

import numpy
import torch
from torch import Tensor

from diffsde.equations.counted import EvaluationError
from diffsde.solvers.state import Step
from diffsde.system.host import on_host

__all__ = ["Watch", "event_value"]

_TOLERANCE = 1e-6  # of the step


def event_value(found: Any) -> float | bool:
    """What an event returned, as a number, or as a truth value if it is one.

    A tensor or an array must have one element.
    """
    if isinstance(found, (bool, numpy.bool_)):
        return bool(found)
    if isinstance(found, (Tensor, numpy.ndarray)) and found.dtype in (torch.bool, numpy.bool_):
        return bool(found)
    return float(found)


class Watch:
    """Waits for the crossing.

    Args:
        event: a function of u and of the state (B, D) that returns a number or a truth value.
        within: takes the two ends of a step and gives, as a context, the state between them as
            a function of u.
    """

    def __init__(
        self,
        event: Callable[[Tensor, Tensor], float | bool],
        within: Callable[[Step, Step], AbstractContextManager[Callable[[Tensor], Tensor]]],
    ) -> None:
        self._event, self._within = event, within
        self._value: float | None = None  # at the last state
        self._is_condition = False

    def forget(self) -> None:
        """The last state is another one now."""
        self._value = None

    def crossing(self, before: Step, after: Step) -> Step | None:
        """The crossing in a step with these two ends, if there is one."""
        first = self._at(before) if self._value is None else self._value
        last = self._value = self._at(after)
        # A path that begins on zero has no sign to change until it leaves.
        if first == 0 or _sign(first) == _sign(last):
            return None
        if last == 0:
            return after
        with self._within(before, after) as state:
            return self._located((before, first), (after, last), state)

    def _at(self, step: Step) -> float:
        found = self._event(step.u, step.x)
        self._is_condition = isinstance(found, bool)
        value = math.copysign(1.0, found - 0.5) if self._is_condition else float(found)
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
                place = on_host(u, torch.float64)
                step = Step(place, state(place))
                known[u] = (step, self._at(step))
            return known[u][1]

        # Only the ratio of two values counts, and that of tiny ones would underflow.
        size = max(abs(before[1]), abs(after[1]))

        def scaled(u: float) -> float:
            found = value(u)
            return found / size if math.isfinite(size) else _sign(found)

        from scipy.optimize import brentq  # loaded by those who look for events

        start, end = known
        root = brentq(scaled, start, end, xtol=_TOLERANCE * (end - start))
        if self._is_condition:
            root = min(u for u, (_, found) in known.items() if found == after[1])
        return known[root][0]


def _sign(value: float) -> float:
    return 0.0 if value == 0 else math.copysign(1.0, value)
