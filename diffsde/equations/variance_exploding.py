r"""Variance-exploding SDEs: there is no drift, and noise is added to the data.

The mean of x(t) stays x(0), so the noise level is the standard deviation: a = 1 and σ = s.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number

__all__ = ["EDMSDE", "VESDE"]


class VESDE(SDE):
    """The variance-exploding SDE dx = σᵗ dw (arXiv 2011.13456, section 3.4 and its tutorial).

    Args:
        sigma: σ > 1. The tutorial's 25 makes s(1) ≈ 9.845.
    """

    def __init__(self, sigma: float = 25.0, T: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__(T, eps)
        expected = "sigma > 1, so that the variance grows"
        self.sigma = real_number(sigma, "sigma", expected, 1.0, above=True)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return 0 * x  # zeros that lead back to x, which a derivative looks for

    def diffusion(self, t: Tensor | float) -> Tensor:
        return self.sigma ** on_host(t)

    def marginal_std(self, t: Tensor | float) -> Tensor:
        # For small t, σ²ᵗ − 1 would lose digits that expm1 keeps.
        log_sigma = math.log(self.sigma)
        return torch.sqrt(torch.expm1(2 * log_sigma * on_host(t)) / (2 * log_sigma))

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(on_host(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        log_sigma = math.log(self.sigma)
        return torch.log1p(2 * log_sigma * on_host(level) ** 2) / (2 * log_sigma)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return x0, self.marginal_std(expand(t, x0))

    def config(self) -> dict[str, Any]:
        return {"sigma": self.sigma, **super().config()}


class EDMSDE(SDE):
    """dx = √(2t) dw, whose noise level is the time itself: σ(t) = t (arXiv 2206.00364, eq. 4).

    Solve it with clock="karras", the schedule of the paper's equation 5: even steps in t from
    80 to 0.002 are far too coarse at the end.

    Args:
        T, eps: σ_max and σ_min.
    """

    def __init__(self, T: float = 80.0, eps: float = 0.002) -> None:
        super().__init__(T, eps)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return 0 * x  # zeros that lead back to x, which a derivative looks for

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(2 * on_host(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return on_host(t)

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(on_host(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return on_host(level)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return x0, self.marginal_std(expand(t, x0))
