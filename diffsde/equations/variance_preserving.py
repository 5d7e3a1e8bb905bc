r"""Variance-preserving SDEs: a drift towards zero balances the noise.

Both have the drift −½ β(t) x with β(t) = β_min + (β_max − β_min) t. With its integral
B(t) = ∫₀ᵗ β, the scale is a = e^{−B/2}; the diffusion tells the two apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.errors import InputError
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number

__all__ = ["VPSDE", "SubVPSDE"]


class _VariancePreserving(SDE):
    """The common part of both SDEs.

    Args:
        beta_min, beta_max: β at t = 0 and at t = 1; 0.1 and 20 in the paper.
    """

    def __init__(
        self, beta_min: float = 0.1, beta_max: float = 20.0, T: float = 1.0, eps: float = 1e-3
    ) -> None:
        super().__init__(T, eps)
        beta_min = real_number(beta_min, "beta_min", "a number > 0")
        beta_max = real_number(beta_max, "beta_max", "a number ≥ beta_min")
        if not 0 < beta_min <= beta_max:
            raise InputError(
                f"beta_min = {beta_min}, beta_max = {beta_max}: expected 0 < beta_min ≤ beta_max; "
                "the paper takes 0.1 and 20"
            )
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Tensor | float) -> Tensor:
        """β(t), of t's shape."""
        return self.beta_min + (self.beta_max - self.beta_min) * on_host(t)

    def beta_integral(self, t: Tensor | float) -> Tensor:
        """B(t) = ∫₀ᵗ β, of t's shape."""
        t = on_host(t)
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -0.5 * expand(self.beta(exact_time(t, x)), x) * x

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return torch.exp(-0.5 * self.beta_integral(t))

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = expand(t, x0)
        return self.marginal_scale(t) * x0, self.marginal_std(t)

    def _time_of_integral(self, integral: Tensor) -> Tensor:
        """The t with B(t) = integral, by the form of the root that keeps its digits near 0."""
        slope = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 + 2 * slope * integral)
        return 2 * integral / (self.beta_min + root)

    def config(self) -> dict[str, Any]:
        return {"beta_min": self.beta_min, "beta_max": self.beta_max, **super().config()}


class VPSDE(_VariancePreserving):
    """The variance-preserving SDE dx = −½ β x dt + √β dw (arXiv 2011.13456, eq. 11).

    DDPM is its discretisation. Data of unit variance keep unit variance.
    """

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(self.beta(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.beta_integral(t)))

    def noise_level(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(torch.expm1(self.beta_integral(t)))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return self._time_of_integral(torch.log1p(on_host(level) ** 2))


class SubVPSDE(_VariancePreserving):
    """The sub-VP SDE dx = −½ β x dt + √(β (1 − e^{−2B})) dw (arXiv 2011.13456, eq. 13).

    Its variance never exceeds that of the VP SDE. The paper prefers it for likelihoods.
    """

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(-self.beta(t) * torch.expm1(-2 * self.beta_integral(t)))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return -torch.expm1(-self.beta_integral(t))

    def noise_level(self, t: Tensor | float) -> Tensor:
        return 2 * torch.sinh(0.5 * self.beta_integral(t))

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return self.beta(t) * torch.cosh(0.5 * self.beta_integral(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return self._time_of_integral(2 * torch.asinh(0.5 * on_host(level)))
