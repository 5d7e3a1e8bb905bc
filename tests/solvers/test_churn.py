"""EDM's churn: the noise that it adds, where it adds it, and the law that it keeps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import GaussianScore, LimitError, ProbabilityFlow, solve
from diffsde.equations.forward import SDE
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import address_of
from tests.problems import assert_same_law, finer, flow, gaussian, many

STEPS = 12
SETTINGS = {"method": "heun_edm", "steps": STEPS, "clock": "karras", "seed": 4}
OPTIONS = {"S_churn": 3.0, "S_min": 0.05, "S_max": 20.0, "S_noise": 1.3}
EVERYWHERE = {"S_churn": 3.0}
CAPPED = {"S_churn": 1e3}


def zero(x: Tensor, t: Tensor | float) -> Tensor:
    return torch.zeros_like(x)


def raised(sigma: float, top: float, options: dict[str, float]) -> float:
    """The noise level from which a step at σ starts: algorithm 2, lines 4 and 5."""
    gamma = min(options["S_churn"] / STEPS, math.sqrt(2) - 1)
    if not options.get("S_min", 0) <= sigma <= options.get("S_max", math.inf):
        return sigma
    return min((1 + gamma) * sigma, top)


@pytest.mark.parametrize(
    ("sde", "options"),
    [(EDMSDE(), OPTIONS), (EDMSDE(), EVERYWHERE), (EDMSDE(), CAPPED), (VPSDE(), OPTIONS)],
)
def test_the_std_of_the_added_noise(sde: SDE, options: dict[str, float]) -> None:
    """With a score of zero, x / a changes by the added noise and by nothing else."""
    x = torch.zeros(50, 1000, dtype=torch.float64)
    sol = solve(ProbabilityFlow(sde, zero, (1000,)), x, options=options, **SETTINGS)
    sigma = sde.noise_level(sol.ts).tolist()
    y = sol.ys / sde.marginal_scale(sol.ts)[:, None, None]
    added = y.diff(dim=0)
    noisy = 0
    for level, change in zip(sigma, added, strict=False):
        top = raised(level, sigma[0], options)
        std = options.get("S_noise", 1.0) * math.sqrt(top**2 - level**2)
        # The std of 50,000 numbers is known to 0.3 %.
        assert float(change.std()) == pytest.approx(std, rel=0.02, abs=1e-12)
        noisy += std > 0
    assert noisy == (STEPS - 1 if options is not OPTIONS else sum(0.05 <= s <= 20 for s in sigma))
    used = [change for change in added if bool(change.any())]
    for one, other in itertools.pairwise(used):
        pair = torch.stack([one.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(x.numel())


@pytest.mark.parametrize("options", [OPTIONS, EVERYWHERE, CAPPED])
def test_a_step_is_that_of_algorithm_2(options: dict[str, float]) -> None:
    """The paper's pseudocode, in its symbols; in its SDE σ(t) = t and x needs no scaling."""
    sde = EDMSDE()
    score = GaussianScore(sde, torch.tensor([0.3, -0.2, 1.0]), 0.6)
    x = sde.prior_sample((4, 3), seed=1, dtype=torch.float64)
    sol = solve(ProbabilityFlow(sde, score, (3,)), x, options=options, **SETTINGS)
    table = NormalTable(SETTINGS["seed"], "churn")

    def slope(x: Tensor, t: float) -> Tensor:
        denoised = x + t**2 * score(x, torch.tensor(t, dtype=x.dtype))
        return (x - denoised) / t

    times = sol.ts.tolist()
    for (t, t1), expected in zip(itertools.pairwise(times), sol.ys[1:], strict=True):
        t_hat = raised(t, times[0], options)
        eps = options.get("S_noise", 1.0) * table.rows(range(4), address_of(t), (3,), x.dtype)
        x_hat = x + math.sqrt(t_hat**2 - t**2) * eps
        d = slope(x_hat, t_hat)
        end = x_hat + (t1 - t_hat) * d
        x = x_hat + (t1 - t_hat) * 0.5 * (d + slope(end, t1))
        torch.testing.assert_close(expected, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{"S_churn": 30.0}, {**OPTIONS, "S_churn": 30, "S_noise": 1}])
def test_churn_keeps_the_law(options: dict[str, float]) -> None:
    score = gaussian()
    x = score.sample(many(2000), 1.0, seed=1)
    settings = {**SETTINGS, "steps": finer(80), "save": [0.3, score.sde.eps]}
    sol = solve(flow(score), x, options=options, **settings)
    for t, state in zip(sol.ts.tolist(), sol.ys, strict=True):
        assert_same_law(state, score.sample(many(5000), t, seed=3), f"at t = {t:g}")
    still = solve(flow(score), x, **settings)
    assert not torch.allclose(sol.final, still.final, atol=0.05)


@pytest.mark.parametrize("window", [{"S_max": 0.001}, {"S_min": 100.0}])
def test_nothing_happens_outside_the_window(window: dict[str, float]) -> None:
    score = gaussian()
    x = score.sample(5, 1.0, seed=1)
    churned = solve(flow(score), x, options={"S_churn": 5.0, **window}, **SETTINGS)
    assert torch.equal(churned.ys, solve(flow(score), x, **SETTINGS).ys)


def test_a_stopped_solve_goes_on_with_its_churn() -> None:
    """The noise that a step adds is a share of all steps of the solve, not of those that remain."""
    score = gaussian(dims=4)
    x = score.sample(3, 1.0, seed=0)
    how: dict[str, Any] = {"steps": 8, "clock": "karras", "seed": 1, "options": {"S_churn": 2.0}}
    whole = solve(flow(score), x, "heun_edm", **how)
    with pytest.raises(LimitError) as caught:
        solve(flow(score), x, "heun_edm", max_steps=3, **how)
    assert torch.equal(caught.value.trajectory.resume().final, whole.final)
