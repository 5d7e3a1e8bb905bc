r"""η, the dial between the probability flow and the reverse SDE: a number or a function of t."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.errors import InputError
from diffsde.system.one_line import one_line

__all__ = ["Eta", "checked_eta", "said_eta"]

Eta = float | Callable[[Tensor], Tensor]
"""η: a number ≥ 0, or an elementwise function of t."""

_TIMES = 1001  # at which a function η(t) is checked


def said_eta(eta: Eta) -> str:
    """η in a repr."""
    return one_line(eta) if callable(eta) else f"{eta:g}"


def checked_eta(eta: Any, sde: SDE) -> Eta:
    """η as a float, or the function if it is one.

    Raises:
        InputError: it is neither, or negative or not finite at a time of the solve.
    """
    if not callable(eta):
        if not isinstance(eta, (int, float)) or not eta >= 0:
            raise InputError(f"eta = {eta!r:.60}: expected a number ≥ 0, or a function of t")
        return float(eta)
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
