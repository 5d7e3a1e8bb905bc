r"""Step control: how long the next step of each sample is, by the error of its last one.

The error of a step is measured in the norm

    ‖ e ‖  =  rms over coordinates of  e / (atol + rtol max(|x₀|, |x₁|)),

of each sample by itself, so that a step is accepted where ‖ e ‖ ≤ 1. With an error of order h^q,
the next step is

    h  (‖ e ‖ / r)^(−(1 − ¾ β) / q)  (‖ e of the step before ‖ / r)^(β / q),        r = safety^q,

within bounds, so r is the error that steps settle at. This is the PI controller; β = 0 is the
plain one of torchdiffeq. At equal errors, β = 0.2 takes fewer evaluations than 0 and than 0.4 for
the flow of the exact mixture and of the shipped network in log σ, and fewer than 0 in t.

Source: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, sections II.4 (the
norm and the first step), and Hairer, Wanner, part II, section IV.2 (the PI controller).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.equations.counted import BlowUp
from diffsde.errors import InputError
from diffsde.solvers.checks import Checks
from diffsde.solvers.state import SolveState

__all__ = ["Control", "Norm", "error_norm", "first_steps", "rms"]

Norm = Callable[[Tensor], Tensor]
"""From scaled errors (n, D) to a number for each sample, (n,)."""

_TINY = 1e-6  # an error below this share may be all rounding, and says no more than this
_LANDING = 1.01  # a step may be this much longer to land on a node


def rms(errors: Tensor) -> Tensor:
    """The root of the mean square of each row."""
    return errors.square().mean(1).sqrt()


@dataclass(frozen=True)
class Control:
    """How steps are chosen; lengths in the solver's time.

    Attributes:
        order: q, if the error of a step of length h is of order h^q.
        smallest, largest: bounds of a step.
        safety: the share of the step that should meet the tolerance.
        shrink, grow: bounds of the ratio of two steps.
        beta: β, the weight of the error before; 0 is torchdiffeq's controller.
    """

    order: float
    smallest: float
    largest: float
    safety: float
    shrink: float
    grow: float
    beta: float

    def next(self, h: Tensor, error: Tensor, before: Tensor, accepted: Tensor) -> Tensor:
        """The steps after those of length h, (n,), with these errors and the ones before."""
        aim = self.safety**self.order
        error, before = (error / aim).clamp(min=_TINY), (before / aim).clamp(min=_TINY)
        factor = error ** (-(1 - 0.75 * self.beta) / self.order)
        factor = torch.where(accepted, factor * before ** (self.beta / self.order), factor)
        # A step that was good enough needs no shorter one after it, a bad one no longer one.
        factor = factor.clamp(self.shrink, self.grow)
        factor = torch.where(accepted, factor.clamp(min=1), factor.clamp(max=1))
        return (h * factor).clamp(self.smallest, self.largest)

    def ends(self, u0: Tensor, h: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        """Where steps of length h end, (n,), and which of them land on the node before them."""
        lands = u0 + _LANDING * h >= node - self.smallest
        return torch.where(lands, node, u0 + h), lands

    def refuse_hopeless(self, state: SolveState, h: Tensor, accepted: Tensor) -> None:
        """Raise a BlowUp where a step failed that cannot be made shorter."""
        if bool((~accepted & (h <= 1.0001 * self.smallest)).any()):
            raise BlowUp(
                f"the error exceeds the tolerance at the smallest step ({self.smallest:.3g}): "
                f"loosen rtol and atol (now {state.rtol:g}, {state.atol:g}), lower "
                "options['min_step'], or use another clock or float64"
            )


def error_norm(norm: Norm, state: SolveState, error: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """The norm of the errors of steps from x₀ to x₁, (n,), float64, on the CPU."""
    scale = state.atol + state.rtol * torch.maximum(x0.abs(), x1.abs())
    return _checked(norm, state.checks, (error / scale).detach())


def _checked(norm: Norm, checks: Checks, scaled: Tensor) -> Tensor:
    """The norm of each row, float64, on the CPU; infinite where it is NaN.

    Raises:
        InputError: the norm is not one of each row.
        BlowUp: a drift from which the rows were made was not finite.
    """
    found = norm(scaled)
    if not isinstance(found, Tensor) or found.shape != scaled.shape[:1]:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"options['norm'] returned {what} for errors of shape {tuple(scaled.shape)}: expected "
            "a norm of each sample, of shape (n,), such as lambda e: e.abs().amax(1)"
        )
    return torch.nan_to_num(checks.fetch(found.detach()), nan=torch.inf)


@torch.no_grad()
def first_steps(
    f: Callable[[Tensor, Tensor], Tensor],
    norm: Norm,
    state: SolveState,
    order: float,
    u: Tensor,
    x: Tensor,
    slope: Tensor,
    most: float,
) -> Tensor:
    """The first step of each sample, (B,), by Hairer's algorithm; it costs one evaluation.

    Args:
        f: the drift, called (u, x).
        norm: of errors.
        state: holds the tolerances.
        order: q, if the error of a step of length h is of order h^q.
        u: (B,), the times.
        x, slope: (B, D), the states and the drift there.
        most: no step is longer.
    """
    scale = state.atol + x.abs() * state.rtol
    d0, d1 = (_checked(norm, state.checks, value / scale) for value in (x, slope))
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = torch.where(small, torch.full_like(d0, 1e-6), 0.01 * d0 / d1).clamp(max=most)
    there = x + h0[:, None].to(x) * slope
    change = f((u + h0)[:, None], there) - slope
    d2 = _checked(norm, state.checks, change / scale) / h0
    flat = (d1 <= 1e-15) & (d2 <= 1e-15)
    h1 = torch.where(
        flat, (1e-3 * h0).clamp(min=1e-6), (0.01 / torch.maximum(d1, d2)) ** (1 / order)
    )
    return torch.minimum(100 * h0, h1).clamp(max=most)
