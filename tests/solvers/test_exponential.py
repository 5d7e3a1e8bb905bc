"""Exponential integrators: exact where the denoiser is a polynomial in λ = −log σ."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffsde import ProbabilityFlow, ReverseSDE, solve
from diffsde.equations.forward import SDE, expand
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE

# D(λ) = c₀ + c₁ λ + c₂ λ², whatever x is.
C = (0.4, -0.3, 0.2)


class Polynomial(torch.nn.Module):
    """The score of a denoiser that is a polynomial in λ, by Tweedie's formula."""

    def __init__(self, sde: SDE, coefficients: tuple[float, float, float]) -> None:
        super().__init__()
        self.sde, self.coefficients = sde, coefficients

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        lam = -torch.log(self.sde.noise_level(t))
        denoised = sum(c * lam**k for k, c in enumerate(self.coefficients))
        a, s = self.sde.marginal_scale(t), self.sde.marginal_std(t)
        return (expand(a * denoised, x) - x) / expand(s, x) ** 2


def exact_change(lam: float, h: float, rate: float) -> float:
    """rate ∫₀ʰ e^{−rate (h − r)} D(λ + r) dr, integrated by parts."""
    c0, c1, c2 = C

    def antiderivative(r: float) -> float:
        at = lam + r
        d, d1, d2 = c0 + c1 * at + c2 * at**2, c1 + 2 * c2 * at, 2 * c2
        return d - d1 / rate + d2 / rate**2

    return antiderivative(h) - math.exp(-rate * h) * antiderivative(0)


@pytest.mark.parametrize("clock", ["log_sigma", "karras"])
@pytest.mark.parametrize("sde", [VESDE(), VPSDE()])
@pytest.mark.parametrize(("name", "eta"), [("dpmpp_3m", 0.0), ("sde_dpmpp_3m", 1.0)])
def test_three_values_make_a_quadratic_denoiser_exact(
    name: str, eta: float, sde: SDE, clock: str
) -> None:
    """From the third step on. Two solves on one noise differ by what has no noise."""

    def states(coefficients: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
        score = Polynomial(sde, coefficients)
        kind = ReverseSDE if eta else ProbabilityFlow
        x = torch.full((1, 2), 0.7, dtype=torch.float64)
        sol = solve(kind(sde, score, (2,)), x, name, steps=8, clock=clock, seed=1)
        return sol.ts, sol.ys[:, 0, 0]

    ts, with_d = states(C)
    y = (with_d - states((0.0, 0.0, 0.0))[1]) / sde.marginal_scale(ts)
    lam = -torch.log(sde.noise_level(ts))
    rate = 1 + eta**2
    for k in range(2, 8):
        h = float(lam[k + 1] - lam[k])
        expected = math.exp(-rate * h) * float(y[k]) + exact_change(float(lam[k]), h, rate)
        assert float(y[k + 1]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
