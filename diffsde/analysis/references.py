r"""References: fine solves that say how far they are from being exact.

A table of errors says nothing where the reference errs as much as what it judges. A reference here
is solved with N steps and again with 2N, and so on, until the change by the last halving is a tenth
of the smallest error in the table. This change is given with the table as the reference's own
error; the error itself is smaller, since the method converges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from diffsde.errors import BlowUpError

__all__ = ["Reference", "refined"]

_ENOUGH = 0.1  # of the smallest error that is judged


class Reference(NamedTuple):
    """States to compare with.

    Attributes:
        states: (B, …), at the end.
        error: √ mean square change by the last halving of the step, however large where the steps
            have reached their limit; NaN for states that the caller gave.
    """

    states: Tensor
    error: float


def refined(
    solve_with: Callable[[int], Tensor],
    steps: int,
    most: int,
    judged: Sequence[Tensor],
    measure: Callable[[Tensor, Tensor], float],
) -> Reference:
    """A reference that is ten times as good as the best of what it judges, if `most` allows it.

    Args:
        solve_with: gives the final states after so many steps.
        steps: the coarsest solve.
        most: steps that no solve exceeds.
        judged: the final states that will be compared.
        measure: the error of states against others.
    """
    before = _solved(solve_with, steps)
    while True:
        steps *= 2
        states = _solved(solve_with, steps)
        if states is None and 2 * steps > most:
            return Reference(solve_with(steps), math.nan)  # which says why it blows up
        if states is not None:
            error = math.inf if before is None else _rms(states, before)
            smallest = min((measure(final, states) for final in judged), default=0.0)
            if error <= _ENOUGH * smallest or 2 * steps > most:
                return Reference(states, error)
        before = states


def _solved(solve_with: Callable[[int], Tensor], steps: int) -> Tensor | None:
    """The states, or None if so few steps are too coarse."""
    try:
        return solve_with(steps)
    except BlowUpError:
        return None


def _rms(x: Tensor, other: Tensor) -> float:
    return float((x.double() - other.double()).square().mean().sqrt())
