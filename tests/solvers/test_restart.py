"""Restarts: where they happen, what they do to a state, and the law that they keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import InputError, LimitError, MixtureScore, ProbabilityFlow, solve
from diffsde.equations.clocks import CLOCKS
from diffsde.equations.forward import SDE
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE
from tests.problems import assert_same_law, flow, gaussian, mixture

STEPS = 12
HOW: dict[str, Any] = {"method": "restart", "steps": STEPS, "clock": "karras", "seed": 4}
OPTIONS = {"sigma_min": 0.4, "sigma_max": 1.5, "restarts": 2, "restart_steps": 2}


class Nothing(torch.nn.Module):
    """The score of data that are all 0, so that D = 0 and the flow is y ~ σ."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.asked = sde, []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked.append(float(self.sde.noise_level(t)))
        return -x / self.sde.marginal_std(t) ** 2


@pytest.mark.parametrize("restarts", [1, 2, 3])
@pytest.mark.parametrize("sde", [VESDE(), EDMSDE(), VPSDE()], ids=lambda s: type(s).__name__)
def test_forward_and_down_again(sde: SDE, restarts: int) -> None:
    """Where D = 0 Heun's steps are exact, so the variance after each restart is known."""
    x = torch.ones(50, 1000, dtype=torch.float64)
    options = OPTIONS | {"restarts": restarts}
    score = Nothing(sde)
    sol = solve(ProbabilityFlow(sde, score, (1000,)), x, options=options, **HOW)
    sigma, y = sde.noise_level(sol.ts), sol.ys / sde.marginal_scale(sol.ts)[:, None, None]
    first = int((sigma <= 0.4).nonzero()[0])
    exact = y[0, 0, 0] * sigma / sigma[0]
    for k in range(len(sigma)):
        last, ratio = (sigma[first], sigma[k] / sigma[first]) if k >= first else (sigma[k], 1.0)
        mean, variance = exact[k], 0.0
        for _ in range(restarts if k >= first else 0):
            share = last / 1.5
            mean, variance = share * mean, share**2 * (variance + 1.5**2 - last**2)
        # The mean of 50,000 numbers is known to 0.5 % of their std, the std to 0.3 %.
        std = float(ratio) * math.sqrt(variance)
        assert float(y[k].mean()) == pytest.approx(float(mean), abs=0.025 * std + 1e-12)
        assert float(y[k].std()) == pytest.approx(std, rel=0.016, abs=1e-12)
    again = [level for level in score.asked if level == pytest.approx(1.5, rel=1e-9)]
    assert len(again) == restarts  # each begins at σ_max itself
    assert sol.stats.nfe == 2 * STEPS + 2 * 2 * restarts


def test_without_restarts_it_is_heun() -> None:
    score = mixture()
    x = score.sample(5, 1.0, seed=1)
    sol = solve(flow(score), x, options={"restarts": 0}, **HOW)
    assert torch.equal(sol.ys, solve(flow(score), x, **HOW | {"method": "heun_edm"}).ys)


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_law_is_kept_in_every_clock(clock: str) -> None:
    score = mixture()
    x = score.sample(400, 1.0, seed=1)
    steps = 400 if clock in ("t", "sigma") else 60  # these are coarse where the data are
    options = {"restarts": 3, "restart_steps": 20, "sigma_min": 0.2, "sigma_max": 4.0}
    sol = solve(flow(score), x, "restart", steps=steps, clock=clock, seed=2, options=options)
    assert_same_law(sol.final, score.sample(5000, score.sde.eps, seed=3))


def test_a_wrong_law_is_mended() -> None:
    """States that lie on one of two clusters return to both, by their weights."""
    means = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    score = MixtureScore(EDMSDE(T=10.0), means, [0.1, 0.1], [0.7, 0.3])
    x = torch.full((4000, 1), 3.0, dtype=torch.float64)
    shares = []
    for restarts in (0, 2):
        options = {"restarts": restarts, "restart_steps": 20, "sigma_min": 0.05, "sigma_max": 4.0}
        sol = solve(flow(score), x, "restart", steps=60, clock="karras", seed=0, options=options)
        shares.append(float((sol.final > 0).double().mean()))
    assert shares[0] == 1.0
    assert shares[1] == pytest.approx(0.7, abs=0.05)  # 7 standard errors


def test_a_sample_has_its_own_noise() -> None:
    """Image i depends on (seed, i) alone, and goes on where it was stopped, bit for bit."""
    score = mixture()
    x = score.sample(6, 1.0, seed=1)
    whole = solve(flow(score), x, **HOW)
    part = solve(flow(score), x[2:4], first=2, **HOW)
    torch.testing.assert_close(part.ys, whole.ys[:, 2:4], rtol=0, atol=1e-5)
    assert not torch.equal(solve(flow(score), x, **HOW | {"seed": 5}).final, whole.final)
    for stop in (3, STEPS - 1):
        with pytest.raises(LimitError) as caught:
            solve(flow(score), x, max_steps=stop, **HOW)
        assert torch.equal(caught.value.trajectory.resume().final, whole.final)


def test_there_is_no_state_between_noisy_steps() -> None:
    score = mixture()
    x = score.sample(2, 1.0, seed=1)
    with pytest.raises(InputError, match="restart with noise has no dense output"):
        solve(flow(score), x, **HOW)(0.5)
    assert solve(flow(score), x, options={"restarts": 0}, **HOW)(0.5).isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma_min": 0.01}, "sigma_min from 0.03"),  # the solve ends above it
        ({"sigma_min": 20.0, "sigma_max": 30.0}, "restart between the noise levels 20 and 30"),
        ({"sigma_min": 0.5, "sigma_max": 0.4}, "sigma_max above it"),
        ({"sigma_max": 11.0}, "at most 9.84"),
        ({"sigma_min": math.nan}, "sigma_min"),
        ({"restarts": -1}, "restarts"),
        ({"restarts": 1.5}, "restarts"),
        ({"restart_steps": 0}, "restart_steps"),
    ],
)
def test_restarts_that_there_cannot_be(options: dict[str, Any], words: str) -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    with pytest.raises(InputError, match=words):
        solve(flow(score), x, options=options, **HOW)


def test_restarts_towards_the_noise() -> None:
    score = gaussian()
    x = score.sample(2, 0.1, seed=0)
    with pytest.raises(InputError, match="from noise to data"):
        solve(flow(score), x, "restart", ts=[0.1, 1.0], steps=10)
