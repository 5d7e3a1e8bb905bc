"""The predictor-corrector: the law in every dimension, and images that ignore their batch."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from diffsde import VESDE, VPSDE, GaussianScore, ReverseSDE, solve
from diffsde.equations.forward import SDE
from tests.problems import SIGNIFICANCE

DIMS = (1, 2, 3, 8, 32, 784)


def unit(sde: SDE, dims: int) -> ReverseSDE:
    """Data of std 1 in every coordinate."""
    return ReverseSDE(sde, GaussianScore(sde, torch.zeros(dims), 1.0), (dims,))


@pytest.mark.parametrize("corrections", [1, 3])
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("make", [VESDE, VPSDE])
def test_the_law_in_every_dimension(make: type[SDE], dims: int, corrections: int) -> None:
    sde = make()
    problem, n = unit(sde, dims), max(6_000 // dims, 8)
    x = problem.score.sample(n, sde.T, seed=1)
    sol = solve(
        problem, x, "pc", steps=60, clock="log_sigma", seed=2, save="last",
        options={"corrector_steps": corrections},
    )  # fmt: skip
    t = torch.tensor(sde.eps, dtype=torch.float64)
    exact = math.hypot(float(sde.marginal_scale(t)), float(sde.marginal_std(t)))
    found = sol.final.double().flatten() / exact
    # The steps themselves widen the law by 0.3 %.
    assert float(found.std()) == pytest.approx(1, abs=4 / math.sqrt(2 * found.numel()) + 0.004)
    assert stats.kstest(found.numpy(), stats.norm.cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("dims", DIMS)
def test_a_sample_alone_is_the_sample_in_its_batch(dims: int) -> None:
    problem = unit(VESDE(), dims)
    x = problem.score.sample(6, 1.0, seed=1)
    whole = solve(problem, x, "pc", steps=20, seed=2).ys
    for i in range(6):
        alone = solve(problem, x[i : i + 1], "pc", steps=20, seed=2, first=i).ys
        assert torch.equal(alone[:, 0], whole[:, i])


def test_the_step_is_the_tutorial_s_where_the_noise_is_stronger_than_the_data() -> None:
    """With the score's own norm, as in the tutorial; 784 pixels, data of std 0.03."""
    from diffsde.noise.normal import NormalTable
    from diffsde.noise.seeds import address_of

    sde = VESDE()
    score = GaussianScore(sde, torch.zeros(784), 0.03)
    x = score.sample(64, 1.0, seed=1)
    t, end = 1.0, 0.9
    found = solve(ReverseSDE(sde, score, (784,)), x, "pc", ts=[t, end], steps=1, seed=2).final

    def numbers(purpose: str) -> torch.Tensor:
        return NormalTable(2, purpose).rows(range(64), address_of(t), (784,), torch.float32)

    size = score(x, t).norm(dim=1).mean()
    step = 2 * (0.16 * math.sqrt(784) / size) ** 2
    y = x + step * score(x, t) + (2 * step).sqrt() * numbers("corrector")
    g = 25.0**t
    exact = y + g**2 * (t - end) * score(y, t) + g * math.sqrt(t - end) * numbers("brownian")
    assert float((found - exact).norm() / (found - x).norm()) < 2e-3
