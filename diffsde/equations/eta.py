r"""η, the dial between the probability flow and the reverse SDE: a number or a function of t."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.errors import InputError
from diffsde.system.numbers import real_number
from diffsde.system.one_line import one_line

__all__ = ["Eta", "checked_eta", "checked_levels", "eta_between", "said_eta"]

Eta = float | Callable[[Tensor], Tensor]
"""η: a number ≥ 0, or an elementwise function of t."""

_TIMES = 1001  # at which a function η(t) is checked


@dataclass(frozen=True)
class _Between:
    """η between two noise levels, and 0 elsewhere."""

    sde: SDE
    low: float
    high: float
    eta: float

    def __call__(self, t: Tensor) -> Tensor:
        level = self.sde.noise_level(t)
        return self.eta * ((self.low <= level) & (level <= self.high)).to(level)

    def __repr__(self) -> str:
        return f"{self.eta:g} for σ from {self.low:g} to {self.high:g}"


def eta_between(sde: SDE, low: float, high: float, eta: float = 1.0) -> Eta:
    """η at the noise levels from `low` to `high`, and the flow, η = 0, at all others.

    Noise wipes out errors of the network, but coarse steps with noise are less exact than those of
    the flow. So the noise may stay where the errors are, as EDM's does between S_tmin and S_tmax
    (arXiv 2206.00364, algorithm 2).

        rev = ReverseSDE(sde, score, shape, eta=eta_between(sde, 0.05, 1))

    Args:
        sde: the forward process, which tells the noise level σ = s / a of a time.
        low, high: noise levels, 0 ≤ low < high.
        eta: η there.

    Raises:
        InputError: these are no such numbers.
    """
    low, high = checked_levels(low, high)
    return _Between(sde, low, high, real_number(eta, "eta", "a number ≥ 0", 0.0))


def checked_levels(low: float, high: float) -> tuple[float, float]:
    """Two noise levels.

    Raises:
        InputError: they are no numbers, or not 0 ≤ low < high.
    """
    low, high = (
        real_number(low, "low", "a noise level", 0.0),
        real_number(high, "high", "one above"),
    )
    if not low < high:
        raise InputError(f"low = {low:g}, high = {high:g}: expected low < high, noise levels")
    return low, high


def said_eta(eta: Eta) -> str:
    """η in a repr."""
    return one_line(eta) if callable(eta) else f"{eta:g}"


def checked_eta(eta: Any, sde: SDE) -> Eta:
    """η as a float, or the function if it is one.

    Raises:
        InputError: it is neither, or negative or not finite at a time of the solve.
    """
    if not callable(eta):
        return real_number(eta, "eta", "a number ≥ 0, or a function of t", 0.0)
    t = torch.linspace(sde.eps, sde.T, _TIMES, dtype=torch.float64, device="cpu")
    found = eta(t)
    if not isinstance(found, Tensor) or found.shape != t.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"eta returned {shape} for {_TIMES} times: expected an elementwise function of a tensor"
        )
    wrong = ~(found.isfinite() & (found >= 0))
    if bool(wrong.any()):
        raise InputError(
            f"eta(t) = {float(found[wrong][0]):g} at t = {float(t[wrong][0]):.4g}: expected finite "
            f"numbers ≥ 0 for t from {sde.eps:g} to {sde.T:g}"
        )
    return eta
