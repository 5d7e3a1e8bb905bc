"""Networks of discrete schedules: exact ones give the exact score, and no schedule gives NaN."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import VPSDE, GaussianScore, InputError, from_diffusers, from_noise_prediction

MEAN, STD = 0.4, 0.3
SCHEDULES = {
    "linear": torch.linspace(1e-4, 0.02, 1000).double(),
    "scaled": torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2,
    "short": torch.linspace(0.05, 0.5, 12).double(),
}


def alphas(name: str = "linear") -> Tensor:
    return (1 - SCHEDULES[name]).cumprod(0)


class Exact:
    """What a perfect network of that schedule returns at step k, between steps as in log σ."""

    def __init__(self, schedule: Tensor, prediction: str = "epsilon") -> None:
        self.logs = 0.5 * ((1 - schedule) / schedule).log()
        self.prediction = prediction

    def __call__(self, x: Tensor, k: Tensor) -> Tensor:
        low = k.double().floor().long().clamp(max=len(self.logs) - 2)
        part = k.double() - low
        sigma = ((1 - part) * self.logs[low] + part * self.logs[low + 1]).exp()[:, None]
        root = (1 + sigma**2).sqrt()
        y = root * x
        clean = MEAN + STD**2 / (STD**2 + sigma**2) * (y - MEAN)
        noise = (y - clean) / sigma
        answers = {"epsilon": noise, "v_prediction": (noise - sigma * clean) / root}
        return answers[self.prediction].to(x)


def scheduler(schedule: Any, prediction: str) -> SimpleNamespace:
    return SimpleNamespace(
        alphas_cumprod=schedule, config=SimpleNamespace(prediction_type=prediction)
    )


def states() -> Tensor:
    return torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_noise_prediction_is_the_exact_score(name: str) -> None:
    model = from_noise_prediction(Exact(alphas(name)), alphas(name), shape=(3,))
    sde, x = model.sde, states()
    assert isinstance(sde, VPSDE)
    exact = GaussianScore(sde, MEAN, STD)
    for t in (sde.eps, 0.5 * sde.T, sde.T, torch.linspace(sde.eps, sde.T, 9).double()):
        torch.testing.assert_close(model(x, t), exact(x, t), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_its_process_spans_the_schedule_and_no_more(name: str) -> None:
    sde, steps = from_noise_prediction(Exact(alphas(name)), alphas(name), shape=(3,)).sde, []
    levels = sde.noise_level(torch.tensor([sde.eps, sde.T], dtype=torch.float64))
    ends = alphas(name)[[0, -1]]
    torch.testing.assert_close(levels, ((1 - ends) / ends).sqrt(), rtol=1e-9, atol=0)

    def told(x: Tensor, k: Tensor) -> Tensor:
        steps.extend(k.tolist())
        return x

    model = from_noise_prediction(told, alphas(name), shape=(3,))
    for t in (sde.T, sde.eps):
        model(states()[:1], t)
    assert steps == pytest.approx([len(SCHEDULES[name]) - 1, 0], abs=1e-4)


def test_it_draws_and_says_what_it_is() -> None:
    model = from_noise_prediction(Exact(alphas()), alphas(), shape=(20,))
    sol = model.sample(200, seed=0)
    assert float(sol.final.mean()) == pytest.approx(MEAN, abs=0.02)  # four standard errors
    assert float(sol.final.std()) == pytest.approx(STD, abs=0.02)
    assert model.data_range == (-1, 1)
    other = from_noise_prediction(Exact(alphas()), alphas(), shape=(20,), data_range=(0, 1))
    assert other.data_range == (0, 1)
    assert "\n" not in repr(model)
    with pytest.raises(InputError, match="does not know the shape|shape="):
        from_noise_prediction(Exact(alphas()), alphas()).sample(2)


def test_whole_steps_for_tables() -> None:
    seen = []

    def looked_up(x: Tensor, k: Tensor) -> Tensor:
        seen.append(k)
        return x

    model = from_noise_prediction(lambda x, k: looked_up(x, k.round().long()), alphas(), shape=(3,))
    model(states(), 0.3)
    assert seen[0].dtype == torch.long


ZERO = torch.cat([alphas()[:-1], torch.zeros(1).double()])


def test_v_predictions_of_zero_terminal_snr_begin_one_step_earlier() -> None:
    """Nothing is NaN, and a word is said."""
    given = scheduler(ZERO, "v_prediction")
    with pytest.warns(UserWarning, match=r"reaches 0 at step 999, .*begin at step 998"):
        model = from_diffusers(Exact(alphas(), "v_prediction"), given, shape=(3,))
    x, last = states(), alphas()[-2]
    level = model.sde.noise_level(torch.tensor(model.sde.T, dtype=torch.float64))
    assert float(level) == pytest.approx(math.sqrt((1 - last) / last), rel=1e-9)
    exact = GaussianScore(model.sde, MEAN, STD)
    torch.testing.assert_close(model(x, model.sde.T), exact(x, model.sde.T), rtol=1e-6, atol=1e-7)
    assert bool(model.sample(4, seed=0, steps=5).final.isfinite().all())


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (ZERO, r"reaches 0 at step 999 .*alphas_cumprod\[:-1\]"),
        (alphas().flip(0), "expected numbers between 0 and 1 that fall"),
        (torch.cat([torch.ones(1), alphas()]), "expected numbers between 0 and 1 that fall"),
        (alphas() - 0.5, "expected numbers between 0 and 1 that fall"),
        (alphas() * math.nan, "expected numbers between 0 and 1 that fall"),
        (alphas()[:1], r"shape \(1,\): expected \(steps,\)"),
        (alphas()[None], r"shape \(1, 1000\): expected \(steps,\)"),
        ("cosine", r"alphas_cumprod = 'cosine': expected numbers \(steps,\)"),
        (None, r"alphas_cumprod|SimpleNamespace"),
    ],
)
def test_schedules_that_are_refused(schedule: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_noise_prediction(Exact(alphas()), schedule, shape=(3,))
