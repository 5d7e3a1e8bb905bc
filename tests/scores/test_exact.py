"""Exact scores: they are exact, and their samples have their law."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diffsde import EDMSDE, VESDE, VPSDE, GaussianScore, MixtureScore, SubVPSDE
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import ProbabilityFlow, ReverseSDE
from diffsde.equations.schedule import ScheduleSDE
from diffsde.errors import InputError
from tests.emulated_device import DEVICE, Emulated

Moments = Callable[[float], tuple[float, float]]


def _ve(t: float) -> tuple[float, float]:
    return 1.0, math.sqrt(math.expm1(2 * math.log(25) * t) / (2 * math.log(25)))


def _integral(t: float) -> float:
    return 0.1 * t + 0.5 * 19.9 * t**2


FAMILIES: dict[str, tuple[SDE, Moments]] = {
    "ve": (VESDE(), _ve),
    "vp": (
        VPSDE(),
        lambda t: (math.exp(-_integral(t) / 2), math.sqrt(-math.expm1(-_integral(t)))),
    ),
    "subvp": (SubVPSDE(), lambda t: (math.exp(-_integral(t) / 2), -math.expm1(-_integral(t)))),
    "edm": (EDMSDE(), lambda t: (1.0, t)),
    "schedule": (
        ScheduleSDE(lambda t: 3 * t**2 + t, lambda t: 1 / (1 + t)),
        lambda t: (1 / (1 + t), (3 * t**2 + t) / (1 + t)),
    ),
}
DIFFUSION: dict[str, Callable[[float], float]] = {
    "ve": lambda t: 25**t,
    "vp": lambda t: math.sqrt(0.1 + 19.9 * t),
    "subvp": lambda t: math.sqrt(-(0.1 + 19.9 * t) * math.expm1(-2 * _integral(t))),
    "edm": lambda t: math.sqrt(2 * t),
    "schedule": lambda t: math.sqrt(2 * (3 * t**2 + t) * (6 * t + 1)) / (1 + t),
}
RATE: dict[str, Callable[[float], float]] = {  # a′/a
    "ve": lambda t: 0.0,
    "vp": lambda t: -0.5 * (0.1 + 19.9 * t),
    "subvp": lambda t: -0.5 * (0.1 + 19.9 * t),
    "edm": lambda t: 0.0,
    "schedule": lambda t: -1 / (1 + t),
}
X = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.13, -0.7), (0.31, 1.9)
TIMES = (0.001, 0.1234567, 0.7)
ways = pytest.mark.parametrize(
    "given",
    [
        lambda t: t,
        lambda t: torch.tensor(t, dtype=torch.float64),
        lambda t: torch.full((3,), t, dtype=torch.float64),
    ],
    ids=["float", "scalar", "batch"],
)
families = pytest.mark.parametrize("name", FAMILIES)


def _gaussian(name: str, t: float) -> tuple[Tensor, Tensor]:
    """Score and log density in Python's float64."""
    a, s = FAMILIES[name][1](t)
    score, log_prob = torch.zeros_like(X), torch.zeros(3, dtype=torch.float64)
    for i, row in enumerate(X.tolist()):
        for j, x in enumerate(row):
            variance = (a * STD[j]) ** 2 + s**2
            score[i, j] = (a * MEAN[j] - x) / variance
            log_prob[i] += -0.5 * (
                (x - a * MEAN[j]) ** 2 / variance + math.log(2 * math.pi * variance)
            )
    return score, log_prob


def _mixture(name: str, t: float) -> tuple[Tensor, Tensor]:
    a, s = FAMILIES[name][1](t)
    score, log_prob = torch.zeros_like(X), torch.zeros(3, dtype=torch.float64)
    for i, row in enumerate(X.tolist()):
        parts = []
        for mean, std, weight in ((0.5, 0.2, 0.7), (-0.4, 0.3, 0.3)):
            variance = (a * std) ** 2 + s**2
            square = sum((x - a * mean) ** 2 for x in row) / variance
            parts.append((math.log(weight) - 0.5 * square - math.log(2 * math.pi * variance), mean, variance))  # fmt: skip  # noqa: E501
        most = max(p[0] for p in parts)
        total = sum(math.exp(p[0] - most) for p in parts)
        log_prob[i] = most + math.log(total)
        for j, x in enumerate(row):
            score[i, j] = sum(
                math.exp(log - most) / total * (a * mean - x) / variance
                for log, mean, variance in parts
            )
    return score, log_prob


@ways
@families
def test_gaussian_scores_are_exact_in_float64(
    name: str, given: Callable[[float], Tensor | float]
) -> None:
    score = GaussianScore(
        FAMILIES[name][0],
        torch.tensor(MEAN, dtype=torch.float64),
        torch.tensor(STD, dtype=torch.float64),
    )
    for t in TIMES:
        exact, log_prob = _gaussian(name, t)
        torch.testing.assert_close(score(X, given(t)), exact, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(score.log_prob(X, given(t)), log_prob, rtol=1e-13, atol=1e-13)


@ways
@families
def test_mixture_scores_are_exact_in_float64(
    name: str, given: Callable[[float], Tensor | float]
) -> None:
    means = torch.tensor([[0.5, 0.5], [-0.4, -0.4]], dtype=torch.float64)
    stds = torch.tensor([0.2, 0.3], dtype=torch.float64)
    score = MixtureScore(FAMILIES[name][0], means, stds, [0.7, 0.3])
    for t in TIMES:
        exact, log_prob = _mixture(name, t)
        # The posterior of a component loses the digits of its exponent.
        torch.testing.assert_close(score(X, given(t)), exact, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(score.log_prob(X, given(t)), log_prob, rtol=1e-13, atol=1e-13)


@ways
@families
def test_a_float32_time_is_taken_for_what_it_is(
    name: str, given: Callable[[float], Tensor | float]
) -> None:
    score = GaussianScore(FAMILIES[name][0], torch.zeros(2, dtype=torch.float64), 1.0)
    for t in TIMES:
        single = torch.as_tensor(given(t)).float()
        exact = score(X, single.double())
        torch.testing.assert_close(score(X, single), exact, rtol=1e-14, atol=1e-14)


@ways
@families
@pytest.mark.parametrize("kind", [ReverseSDE, ProbabilityFlow])
def test_drifts_and_denoisers_of_exact_scores_are_exact_too(
    kind: type[ReverseSDE], name: str, given: Callable[[float], Tensor | float]
) -> None:
    sde, moments = FAMILIES[name]
    score = GaussianScore(
        sde, torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    )
    problem = kind(sde, score, (2,))
    for t in TIMES:
        exact = _gaussian(name, t)[0]
        a, s = moments(t)
        weight = 0.5 * (1 + problem.eta**2) * DIFFUSION[name](t) ** 2
        drift = RATE[name](t) * X - weight * exact
        torch.testing.assert_close(problem.drift(X, given(t)), drift, rtol=1e-13, atol=1e-12)
        clean = (X + s**2 * exact) / a
        torch.testing.assert_close(problem.denoise(X, given(t)), clean, rtol=1e-12, atol=1e-12)


# -- samples -----------------------------------------------------------------------------

N = 100_000
LARGE = (0, 5, 5 + 2**32, 2**31, 2**64 - 1, 2**64, 2**200 + 3)


def _scores(dims: int) -> dict[str, GaussianScore | MixtureScore]:
    sde = VESDE()
    means = torch.stack([torch.full((dims,), 10.0), torch.full((dims,), -10.0)])
    return {
        "gaussian": GaussianScore(sde, torch.zeros(dims), 1.0),
        "mixture": MixtureScore(sde, means, 1.0, [0.7, 0.3]),
    }


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_samples_have_variance_one_around_their_component(name: str, dims: int, seed: int) -> None:
    x = _scores(dims)[name].sample(N, 0.0, seed=seed).double()
    centre = 10 * x[:, :1].sign() if name == "mixture" else torch.zeros(1)
    z = x - centre
    for some in (z, z[centre[:, 0] > 0] if name == "mixture" else z[::2]):
        n = len(some)
        assert float((some.var(0) - 1).abs().max()) < 4 * math.sqrt(2 / n)
        assert float(some.mean(0).abs().max()) < 4 / math.sqrt(n)
        if dims > 1:
            assert float((some.T.cov() - torch.eye(dims)).abs().max()) < 4 * math.sqrt(2 / n)
    if name == "mixture":
        share = float((centre > 0).double().mean())
        assert abs(share - 0.7) < 4 * math.sqrt(0.21 / N)


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_a_sample_is_that_of_its_seed_and_its_index(name: str) -> None:
    score = _scores(2)[name]
    seen = [score.sample(40, 0.3, seed=seed) for seed in LARGE]
    for i, one in enumerate(seen):
        assert all(not torch.isclose(one, other).any() for other in seen[:i])
        assert torch.equal(score.sample(3, 0.3, seed=LARGE[i]), one[:3])


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_without_a_seed_torch_s_generator_rules(name: str) -> None:
    score = _scores(2)[name]
    torch.manual_seed(3)
    one = score.sample(4, 0.5)
    torch.manual_seed(3)
    assert torch.equal(score.sample(4, 0.5), one)
    assert not torch.equal(score.sample(4, 0.5), one)


# -- a device without float64 ------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_a_device_without_float64_gets_float32(name: str) -> None:
    """Moved there in float64 it is refused with the fix, and stays where it is; else it works."""
    score, x = _scores(2)[name], torch.tensor([[0.5, -1.0], [2.0, 9.0]])
    expected = [score(x, 0.5), score.log_prob(x, 0.5), score.sample(5, 0.5, seed=1)]
    with Emulated(float64=False) as device:
        with pytest.raises(InputError, match=r"float64.*score\.float\(\)\.to"):
            score.to(DEVICE)
        with pytest.raises(InputError, match=r"float64.*score\.float\(\)\.to"):
            nn.Sequential(score).to(DEVICE)
        assert torch.equal(score(x, 0.5), expected[0])
        there = score.float().to(DEVICE)
        with pytest.raises(TypeError, match="no torch.float64"):  # what a user's own mistake says
            there.double()
        at = device.tensor(x)
        assert_there(device, [there(at, 0.5), there.log_prob(at, 0.5)], expected[:2])
        assert_there(device, [there.sample(5, 0.5, seed=1)], expected[2:])


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_a_score_is_made_on_the_default_device(name: str) -> None:
    expected = _scores(2)[name].float()
    for float64 in (True, False):
        with Emulated(float64=float64) as device:
            torch.set_default_device(DEVICE)
            try:
                made = _scores(2)[name]
            finally:
                torch.set_default_device(None)
            for key, value in made.named_buffers():
                assert value.dtype == (torch.float64 if float64 else torch.float32)
                torch.testing.assert_close(device.cpu(value).float(), expected.get_buffer(key))


def assert_there(device: Emulated, found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(device.cpu(one), other, rtol=1e-5, atol=1e-5)
