"""Noise is a function of time: windows, seeds and paths, in whatever order they are asked for."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffsde import VESDE, BrownianPath, InputError, ReverseSDE, solve
from diffsde.noise.brownian import SequentialBrownian
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import PURPOSES, generator
from tests.problems import SIGNIFICANCE, mild, mixture

N = 20_000
F32 = torch.float32


class Wiener:
    """dy = dw."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.ones_like(y)


SOURCES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 3, "steps": 7},
    "path": {"noise": BrownianPath(3), "steps": 7},
    "adaptive": {"seed": 3, "adaptive": True},
}


def in_windows(sde: Any, x: Tensor, times: list[float], how: dict[str, Any]) -> Tensor:
    for start, end in itertools.pairwise(times):
        x = solve(sde, x, "euler", ts=[start, end], save="last", **how).final
    return x


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("times", [[0.0, 1.0, 2.0], [-1.5, 0.25, 3.0, 3.5], [100.0, 101.0, 103.0]])
def test_a_wiener_process_in_windows_has_the_variance_of_the_whole(
    source: str, times: list[float]
) -> None:
    x = torch.zeros(N if source == "seed" else N // 20, 1, dtype=torch.float64)
    found = in_windows(Wiener(), x, times, SOURCES[source])
    law = stats.norm(0, math.sqrt(times[-1] - times[0]))
    assert stats.kstest(found.flatten().numpy(), law.cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("source", SOURCES)
def test_the_forward_process_in_windows_has_the_marginal(source: str) -> None:
    """The end of the VE SDE has most of its noise: std 13.3 for 9.85 if it repeats itself."""
    sde, n = VESDE(), N if source == "seed" else N // 20
    how = {**SOURCES[source], "clock": "sigma"}
    how = how if source == "adaptive" else {**how, "steps": 40}
    found = in_windows(sde, torch.zeros(n, 1, dtype=torch.float64), [0.0, 0.9, 1.0], how)
    assert float(found.std()) == pytest.approx(float(sde.marginal_std(1.0)), rel=0.1)
    assert stats.kstest(found.flatten().numpy() / float(found.std()), "norm").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("clock", ["t", "sigma", "log_sigma", "karras"])
def test_the_halves_of_a_reverse_solve_follow_the_path_of_the_whole(clock: str) -> None:
    score = mixture(mild(), dims=3)
    rev = ReverseSDE(score.sde, score, (3,))
    x, noise = score.sde.prior_sample((4, 3), seed=0, dtype=torch.float64), BrownianPath(1)
    whole = solve(rev, x, "em", ts=[1.0, 0.1], steps=1024, clock=clock, noise=noise, save="last")
    half = solve(rev, x, "em", ts=[1.0, 0.43], steps=800, clock=clock, noise=noise, save="last")
    rest = solve(
        rev, half.final, "em", ts=[0.43, 0.1], steps=800, clock=clock, noise=noise, save="last"
    )
    # Two grids: the error of order 1 of a thousand steps.
    assert torch.allclose(rest.final, whole.final, atol=0.04)


def test_increments_after_a_stop_do_not_repeat_those_before() -> None:
    """Whatever the grid on which the solve goes on."""
    x = torch.zeros(N, 1, dtype=torch.float64)
    first = solve(Wiener(), x, "euler", ts=[0.0, 0.5], steps=5, seed=9, save="last").final
    for steps in (1, 2, 5, 9):
        second = solve(Wiener(), x, "euler", ts=[0.5, 1.0], steps=steps, seed=9, save="last").final
        together = torch.corrcoef(torch.cat([first, second], 1).T)[0, 1]
        assert abs(float(together)) < 5 / math.sqrt(N)


def test_the_predictor_corrector_follows_the_seed_of_its_path() -> None:
    score = mixture(mild(), dims=3)
    rev, x = ReverseSDE(score.sde, score, (3,)), torch.ones(2, 3)
    one, two, other = (
        solve(rev, x, "pc", steps=6, noise=BrownianPath(seed)).ys for seed in (4, 4, 5)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


# -- seeds -----------------------------------------------------------------------------

SEEDS = [
    0,
    5,
    2**31,
    2**32 - 1,
    2**32,
    2**32 + 5,
    5 + 3 * 2**32,
    2**64 - 1,
    2**64 + 5,
    2**96,
    2**200,
]


def test_no_two_seeds_or_purposes_share_numbers() -> None:
    drawn = {
        (seed, purpose): tuple(NormalTable(seed, purpose).rows([0], 0, (3,), F32)[0].tolist())
        for seed in {*SEEDS, *(5 + k * 2**32 for k in range(1, len(PURPOSES) + 1))}
        for purpose in PURPOSES
    }
    assert len(set(drawn.values())) == len(drawn)


def test_generators_share_no_numbers_either() -> None:
    drawn = {
        (seed, purpose): float(torch.randn((), generator=generator(seed, purpose)))
        for seed in SEEDS
        for purpose in PURPOSES
    }
    assert len(set(drawn.values())) == len(drawn)


# -- what a source cannot do -----------------------------------------------------------


def test_a_path_is_not_asked_below_its_resolution() -> None:
    noise = BrownianPath(0)
    bound = noise.bind((1, 2), dtype=torch.float64)
    with pytest.raises(InputError, match="below it the path is smooth"):
        bound(0.3, 0.3 + 0.5 * noise.resolution)
    score = mixture(mild(), dims=2)
    rev, x = ReverseSDE(score.sde, score, (2,)), torch.ones(2, 2)
    with pytest.raises(InputError, match="resolution of 0.01: take fewer steps, or"):
        solve(rev, x, "em", steps=200, noise=BrownianPath(0, resolution=0.01))
    with pytest.raises(InputError, match="min_step.*expected at least"):
        solve(rev, x, "em", adaptive=True, options={"min_step": 1e-7})
    for wrong in (0, 2, float("nan")):
        with pytest.raises(InputError, match="resolution"):
            BrownianPath(0, resolution=wrong)


def test_a_path_at_its_resolution_is_still_brownian_motion() -> None:
    """Neighbouring increments are independent and have their variance, off the dyadic grid too."""
    noise = BrownianPath(2)
    bound = noise.bind((2000, 1), dtype=torch.float64)
    h = noise.resolution
    places = [0.3 + k * h for k in range(20)]
    increments = torch.cat([bound(a, b) for a, b in itertools.pairwise(places)], 1) / math.sqrt(h)
    # The ends of steps are rounded to 2⁻⁴⁰, a millionth of a step.
    assert float(increments.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / increments.numel()))
    one, next_one = increments[:, :-1].flatten(), increments[:, 1:].flatten()
    together = torch.corrcoef(torch.stack([one, next_one]))[0, 1]
    assert abs(float(together)) < 5 / math.sqrt(one.numel())


def test_times_that_are_one_in_float32_are_refused() -> None:
    x = torch.zeros(1, 1)
    with pytest.raises(InputError, match="equal in float32"):
        solve(Wiener(), x, "euler", ts=[1000.0, 1000.0 + 1e-6, 1001.0], seed=0)


def test_a_source_has_no_area_that_it_cannot_give() -> None:
    with pytest.raises(InputError, match="no Lévy area"):
        BrownianPath(0).bind((2, 2))(0.0, 0.5, return_A=True)
    _, area = SequentialBrownian(0, (2, 2))(0.0, 0.5, return_A=True)
    assert area.abs().sum() > 0
