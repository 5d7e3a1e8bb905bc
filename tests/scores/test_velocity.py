"""Velocities of flow matching: exact on Gaussian data, with every solver, clock and η."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch
import torchdiffeq
from torch import Tensor, nn

from diffsde import (
    BrownianPath,
    GaussianScore,
    InputError,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    ScoreModel,
    StraightSDE,
    animate,
    check,
    classifier_free,
    from_velocity,
    list_solvers,
    log_likelihood,
    plot_paths,
    solve,
)
from diffsde.equations.clocks import CLOCKS
from diffsde.scores.preconditioning import CoupledFlowPrediction, FlowPrediction
from diffsde.scores.velocity import VelocityScore
from diffsde.solvers.registry import Solver
from diffsde.system.description import digest_of_score
from tests.problems import NOISELESS, assert_same_law, finer, many

MEAN, STD = 0.4, 0.3
SIT = lambda t: (1 - t).clamp(min=0).sqrt()  # noqa: E731
LATE = lambda t: 1.5 * t  # noqa: E731


class Interpolant(NamedTuple):
    """a, s and their derivatives, written down by hand."""

    a: Callable[[Tensor], Tensor]
    s: Callable[[Tensor], Tensor]
    fall: Callable[[Tensor], Tensor]
    rise: Callable[[Tensor], Tensor]


Q = 0.5 * math.pi
LINE = Interpolant(lambda t: 1 - t, lambda t: t, lambda t: 0 * t - 1, lambda t: 0 * t + 1)
ARC = Interpolant(
    lambda t: torch.cos(Q * t), lambda t: torch.sin(Q * t),
    lambda t: -Q * torch.sin(Q * t), lambda t: Q * torch.cos(Q * t),
)  # fmt: skip
# The linear one of arXiv 2303.08797 with another pace: a = 1 − t², s = t (2 − t).
BENT = Interpolant(lambda t: 1 - t**2, lambda t: t * (2 - t), lambda t: -2 * t, lambda t: 2 - 2 * t)
KINDS = {"line": LINE, "arc": ARC, "bent": BENT}


def velocity_of(kind: Interpolant, mean: float = MEAN, std: float = STD) -> Callable[..., Tensor]:
    """E[a′ x(0) + s′ z | x] for Gaussian data: a′ m + (a′ a c² + s′ s) (x − a m) / (a² c² + s²)."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t.reshape(-1, *[1] * (x.dim() - 1))
        a, s, fall, rise = (part(t) for part in kind)
        weight = (fall * a * std**2 + rise * s) / (a**2 * std**2 + s**2)
        return fall * mean + weight * (x - a * mean)

    return velocity


def score_of(name: str = "line", T: float = 0.999, eps: float = 1e-3, **more: Any) -> VelocityScore:
    kind = KINDS[name]
    other = {} if name == "line" else {"scale": kind.a, "std": kind.s}
    return from_velocity(velocity_of(kind), T=T, eps=eps, **{"shape": (4,), **other, **more})


def states(n: int = 64, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *(shape or (4,)), dtype=torch.float64, generator=generator)


# -- the score -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_score_denoiser_and_flow_are_exact(name: str, shape: tuple[int, ...]) -> None:
    score, x = score_of(name, shape=shape), states(64, *shape)
    exact = GaussianScore(score.sde, MEAN, STD)
    for t in (1e-3, 0.3, 0.999, torch.linspace(1e-3, 0.999, 64).double()):
        torch.testing.assert_close(score(x, t), exact(x, t), rtol=1e-9, atol=1e-9)
        for one in (ProbabilityFlow, ReverseSDE):
            ours, theirs = (one(score.sde, s, shape) for s in (score, exact))
            # At T, f and ½ g² ∇ log p are 999 times as large as their difference.
            torch.testing.assert_close(ours.drift(x, t), theirs.drift(x, t), rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(
                score.denoise(x, t), theirs.denoise(x, t), rtol=1e-7, atol=1e-9
            )
            assert torch.equal(score.denoise(x, t), ours.denoise(x, t))


def test_the_formulas_of_the_straight_line() -> None:
    score, velocity, x, t = score_of(), velocity_of(LINE), states(), 0.3
    v = velocity(x, torch.tensor(t).double())
    torch.testing.assert_close(score(x, t), -(x + (1 - t) * v) / t)
    torch.testing.assert_close(score.denoise(x, t), x - t * v)


@pytest.mark.parametrize("name", ["line", "arc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_is_finite_where_nothing_of_the_data_is_left(name: str, dtype: torch.dtype) -> None:
    """At t = 1, x is the noise z: the score is −x, the denoiser the mean."""
    score, x = score_of(name, T=1.0), states().to(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(score(x, 1.0), -x, rtol=rtol, atol=rtol)
    mean = torch.full_like(x, MEAN)
    torch.testing.assert_close(score.denoise(x, 1.0), mean, rtol=rtol, atol=rtol)
    end = torch.tensor(1.0, dtype=dtype)
    v = velocity_of(KINDS[name])(x, end)
    flow = score.flow()
    assert torch.equal(flow.drift(x, end), v)
    torch.testing.assert_close(flow.denoise(x, end), mean, rtol=rtol, atol=rtol)
    # With η² = 1 − t, the limit of η² f is −x on the line, and of 1 − t times a′/a on the arc, too.
    torch.testing.assert_close(score.reverse(SIT).drift(x, end), v + x, rtol=1e-5, atol=1e-5)
    assert float(score.reverse(SIT).diffusion(end)) == pytest.approx(math.sqrt(2), rel=1e-6)


# -- solves ----------------------------------------------------------------------------------


def plain_euler(x: Tensor, steps: int) -> Tensor:
    velocity = velocity_of(LINE)
    for t in torch.linspace(1, 0.01, steps + 1, dtype=torch.float64)[:-1]:
        x = x - (0.99 / steps) * velocity(x, t.to(x))
    return x


def plain_heun(x: Tensor, steps: int) -> Tensor:
    velocity = velocity_of(LINE)
    ts = torch.linspace(1, 0.01, steps + 1, dtype=torch.float64)
    for t, later in pairwise(ts):
        first = velocity(x, t.to(x))
        second = velocity(x - (0.99 / steps) * first, later.to(x))
        x = x - (0.99 / steps) * 0.5 * (first + second)
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("method", "plain"), [("euler", plain_euler), ("heun2", plain_heun)])
def test_the_flow_is_the_sampler_of_flow_matching(
    method: str, plain: Callable[[Tensor, int], Tensor], dtype: torch.dtype
) -> None:
    x = states().to(dtype)
    flow = score_of(T=1.0, eps=0.01).flow()
    sol = solve(flow, x, method, steps=20)
    rounding = 40 * torch.finfo(dtype).eps  # of twenty steps
    torch.testing.assert_close(sol.final, plain(x, 20), rtol=rounding, atol=rounding)
    assert sol.stats.nfe == 20 * (1 if method == "euler" else 2)


SDE_ROWS = [row for row in list_solvers("sde") if not row.loses_law]
ODE_ROWS = list_solvers("ode")
# Where even steps in t and in σ are no coarser than those of the other clocks.
MILD = (0.7, 0.1)
# With each clock a number η and a function of time.
ETAS = {"t": (1.0, SIT), "sigma": (0.5, LATE), "log_sigma": (1.5, LATE), "karras": (0.0, SIT)}


def mild(dims: int = 4) -> tuple[VelocityScore, float, float]:
    """A score, and mean and std of x(0.1)."""
    end = MILD[1]
    score = score_of(T=MILD[0], eps=end, shape=(dims,))
    return score, (1 - end) * MEAN, math.sqrt((1 - end) ** 2 * STD**2 + end**2)


def assert_gaussian(x: Tensor, mean: float = MEAN, std: float = STD) -> None:
    """4,000 numbers: the mean has an error of 0.005, the std of 0.0034; the rest is the steps'."""
    assert float(x.mean()) == pytest.approx(mean, abs=0.025)
    assert float(x.std()) == pytest.approx(std, abs=0.025)


@pytest.mark.parametrize("row", SDE_ROWS, ids=lambda row: row.name)
def test_every_solver_clock_and_eta_of_the_sde(row: Solver) -> None:
    score, mean, std = mild(20)
    x = GaussianScore(score.sde, torch.full((20,), MEAN), STD).sample(200, MILD[0], seed=1)
    options = {"pc": {"snr": 0.03}}.get(row.name)
    only = takes_numbers_only(row)
    for clock in CLOCKS:
        for eta in ETAS[clock]:
            if callable(eta) and only:
                continue
            if row.name == "dpmpp_2s_ancestral" and eta == 1.5:  # it says that it is for η ≤ 1
                continue
            sol = solve(
                score.reverse(eta), x, row.name, steps=40, clock=clock, seed=2,
                save="last", options=options,
            )  # fmt: skip
            assert_gaussian(sol.final, mean, std)


def takes_numbers_only(row: Solver) -> bool:
    """Whether a method says that its η is a number."""
    try:
        solve(mild()[0].reverse(SIT), torch.zeros(2, 4), row.name, steps=2, seed=0)
    except InputError as error:
        return "takes a number η" in str(error)
    return False


def test_most_methods_take_an_eta_of_time() -> None:
    """Those that do not say so; none goes on with a wrong law."""
    some = {"euler", "srk", "em", "pc", "ddim", "sde_dpmpp_2m", "sde_dpmpp_3m", "sa_solver"}
    assert not some & {row.name for row in SDE_ROWS if takes_numbers_only(row)}


@pytest.mark.parametrize("row", ODE_ROWS, ids=lambda row: row.name)
def test_every_solver_and_clock_of_the_flow(row: Solver) -> None:
    """On Gaussian data the flow is affine: it scales x − m a by the ratio of the stds."""
    (score, mean, std), x, begin = mild(), states(), MILD[0]
    before = math.sqrt((1 - begin) ** 2 * STD**2 + begin**2)
    exact = mean + (x - MEAN * (1 - begin)) * std / before
    for clock in CLOCKS:
        steps = None if row.adaptive else 60
        how = {"steps": steps, "clock": clock, "options": NOISELESS.get(row.name)}
        sol = solve(score.flow(), x, row.name, save="last", **how)
        atol = 0.05 if row.order == 1 else 0.005  # the largest error is that of even steps in σ
        torch.testing.assert_close(sol.final, exact, rtol=0, atol=atol)


@pytest.mark.parametrize("row", [row for row in ODE_ROWS if row.family == "torchdiffeq"],
                         ids=lambda row: row.name)  # fmt: skip
def test_the_flow_from_pure_noise(row: Solver) -> None:
    score = score_of(T=1.0, eps=0.01)
    x, end = states(), 0.01
    exact = MEAN * (1 - end) + x * math.sqrt((1 - end) ** 2 * STD**2 + end**2)
    sol = solve(score.flow(), x, row.name, steps=None if row.adaptive else 60)
    assert bool(sol.ys.isfinite().all())
    torch.testing.assert_close(sol.final, exact, rtol=0, atol=0.04 if row.order == 1 else 0.005)
    own = lambda u: 1 - (1 - end) * u**2  # noqa: E731
    sol = solve(score.flow(), x, row.name, steps=None if row.adaptive else 60, clock=own)
    torch.testing.assert_close(sol.final, exact, rtol=0, atol=0.06 if row.order == 1 else 0.005)


@pytest.mark.parametrize("method", ["euler", "em", "srk", "heun", "pc"])
def test_the_sde_from_pure_noise(method: str) -> None:
    score = score_of(T=1.0, shape=(20,))
    x = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    options = {"snr": 0.03} if method == "pc" else None
    sol = solve(
        score.reverse(SIT), x, method, steps=150, seed=1, denoise=True, options=options,
        estimates=True,
    )  # fmt: skip
    assert bool(sol.ys.isfinite().all())
    assert bool(sol.denoised.isfinite().all())
    assert_gaussian(sol.final)


def test_libraries_take_the_flow_from_pure_noise() -> None:
    flow, x = score_of(T=1.0, eps=0.01).flow(), states()
    times = torch.tensor([1.0, 0.01], dtype=torch.float64)
    end = torchdiffeq.odeint(flow, x, times, method="dopri5", rtol=1e-8, atol=1e-8)[-1]
    exact = MEAN * 0.99 + x * math.sqrt(0.99**2 * STD**2 + 0.01**2)
    torch.testing.assert_close(end, exact, rtol=1e-6, atol=1e-6)


def slope(errors: list[float]) -> float:
    return min(math.log2(a / b) for a, b in pairwise(errors))


@pytest.mark.parametrize(
    ("method", "T", "clock"),
    [("heun2", 1.0, "t"), ("dpmpp_2m", 0.999, "log_sigma"), ("dpmpp_2m", 0.9, "t")],
)
def test_the_order_of_the_flow(method: str, T: float, clock: str) -> None:
    score, x = score_of(T=T, eps=0.05), states()
    ends = torch.tensor([T, 0.05], dtype=torch.float64)
    a, r = 1 - ends, ((1 - ends) ** 2 * STD**2 + ends**2).sqrt()
    exact = MEAN * a[1] + (x - MEAN * a[0]) * r[1] / r[0]
    errors = [
        float((solve(score.flow(), x, method, steps=n, clock=clock).final - exact).abs().max())
        for n in (32, 64, 128)
    ]
    assert slope(errors) > 1.8, errors


@pytest.mark.parametrize("eta", [0.7, SIT])
def test_the_strong_order_of_euler(eta: Any) -> None:
    """Along one Brownian path, against a method of higher order on a finer grid."""
    T = 1.0 if callable(eta) else 0.9
    rev, x, noise = score_of(T=T, eps=0.05).reverse(eta), states(8), BrownianPath(0)

    def final(method: str, steps: int) -> Tensor:
        return solve(rev, x, method, steps=steps, noise=noise, save="last").final

    exact = final("sosra", 128)
    errors = [float((final("euler", n) - exact).square().mean().sqrt()) for n in (16, 32, 64)]
    assert slope(errors) > 0.8, errors  # 32 numbers: the slope scatters by 0.1


@pytest.mark.parametrize("name", ["line", "arc", "bent"])
def test_other_interpolants_reach_the_data(name: str) -> None:
    score = score_of(name, shape=(20,))
    for kind in ("sde", "ode"):
        assert_gaussian(score.sample(200, kind=kind, seed=0).final)


def mixture(T: float) -> tuple[VelocityScore, MixtureScore]:
    """Two clusters, whose velocity is (x − D) / t."""
    sde = StraightSDE(T)
    means = torch.stack([torch.full((6,), 0.5), torch.full((6,), -0.4)]).double()
    exact = MixtureScore(sde, means, torch.tensor([0.2, 0.3]).double(), [0.7, 0.3])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        near = t.clamp(max=1 - 1e-9)  # D = (x + t² score) / (1 − t)
        column, at = near[:, None], exact(x, near)
        return (x - (x + column**2 * at) / (1 - column)) / column

    return from_velocity(velocity, shape=(6,), T=T), exact


@pytest.mark.parametrize(
    ("kind", "method", "eta", "clock"),
    [
        ("ode", "heun2", None, "t"), ("ode", "rk4", None, "t"), ("ode", "dopri5", None, "t"),
        ("sde", "euler", SIT, "t"), ("sde", "srk", SIT, "t"), ("sde", "srk", 1.0, "karras"),
        ("sde", "sde_dpmpp_2m", SIT, "karras"), ("sde", "sde_dpmpp_3m", LATE, "log_sigma"),
        ("sde", "ddim", LATE, "log_sigma"), ("ode", "dpmpp_2m", None, "karras"),
    ],
)  # fmt: skip
def test_the_law_of_clusters(kind: str, method: str, eta: Any, clock: str) -> None:
    T = 1.0 if clock == "t" else 0.999
    score, exact = mixture(T)
    problem = score.flow() if kind == "ode" else score.reverse(eta)
    x = score.sde.prior_sample((many(300), 6), seed=1, dtype=torch.float64)
    steps = None if method == "dopri5" else finer(150)
    sol = solve(problem, x, method, steps=steps, clock=clock, seed=2, save="last")
    assert_same_law(sol.final, exact.sample(many(5000), score.sde.eps, seed=3), method)


@pytest.mark.parametrize("T", [0.999, 1.0])
@pytest.mark.parametrize("exact", [True, False])
def test_the_likelihood_is_the_closed_form(T: float, exact: bool) -> None:
    """The prior lacks the rest of the data's variance at T: (1 − T)² c², a ten-millionth."""
    score = score_of(T=T)
    score.sde.centre(torch.full((4,), MEAN, dtype=torch.float64))
    x = MEAN + STD * states(8)
    clock = "t" if T == 1 else "log_sigma"
    found = log_likelihood(
        score.flow(), x, exact=exact, seed=0, clock=clock, rtol=1e-8, atol=1e-8
    ).log_prob
    law = GaussianScore(score.sde, torch.full((4,), MEAN), STD)
    # The Jacobian is a multiple of the identity, so signs for probes give the exact trace.
    torch.testing.assert_close(found, law.log_prob(x, score.sde.eps), rtol=1e-6, atol=2e-6)


def test_check_finds_nothing_wrong() -> None:
    data = MEAN + STD * states(2000).float()
    assert check(score_of().flow(), data, n=500).ok
    assert check(score_of().reverse(LATE), data, n=500).ok


def test_views_from_pure_noise(tmp_path: Path) -> None:
    """±g is infinite at t = 1, and is not drawn there."""
    score = score_of(T=1.0, shape=(1, 2, 2))
    sol = solve(score.flow(), states(3, 1, 2, 2), "heun2", steps=6)
    for envelope in ("sigma", "std"):
        figure = plot_paths(sol, envelope=envelope)
        assert all(math.isfinite(v) for ax in figure.axes for v in (*ax.get_xlim(), *ax.get_ylim()))
        figure.canvas.draw()
        plt.close(figure)
    animate(sol, tmp_path / "path.gif", fps=5)
    assert (tmp_path / "path.gif").stat().st_size > 0


# -- η as a function of time -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["em", "srk", "ddim", "sde_dpmpp_2m", "sde_dpmpp_3m", "pc"])
def test_a_constant_function_is_its_number(method: str) -> None:
    score, x = score_of(T=0.9), states()
    ends = [
        solve(score.reverse(eta), x, method, steps=12, clock="log_sigma", seed=0).final
        for eta in (0.7, lambda t: 0.7 + 0 * t)
    ]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.6, SIT, LATE, lambda t: (t > 0.5).to(t)])
@pytest.mark.parametrize("method", ["ddim", "sde_dpmpp_2m", "sde_dpmpp_3m"])
def test_one_step_is_exact_in_law_for_a_constant_denoiser(method: str, eta: Any) -> None:
    """Data in one point: after one step, x = (1 − t) m + t z whatever η is, even with jumps."""
    velocity = velocity_of(LINE, std=1e-9)
    score = from_velocity(velocity, shape=(20,), T=0.95, eps=0.2)
    x = 0.05 * MEAN + 0.95 * states(500, 20)
    end = solve(score.reverse(eta), x, method, steps=1, clock="log_sigma", seed=3).final
    assert float(end.mean()) == pytest.approx(0.8 * MEAN, abs=0.01)  # 5 standard errors
    assert float(end.std()) == pytest.approx(0.2, abs=0.007)


def test_solvers_agree_along_one_path_with_an_eta_of_time() -> None:
    """All approach one solution. Fails if η enters the drift and the noise differently."""
    rev, x, noise = score_of(T=0.9, eps=0.1).reverse(LATE), states(8), BrownianPath(0)

    def final(method: str) -> Tensor:
        return solve(rev, x, method, steps=64, noise=noise, clock="log_sigma", save="last").final

    fine = final("sosra")
    for method in ("em", "srk", "ddim", "sde_dpmpp_2m", "sde_dpmpp_3m"):
        assert float((final(method) - fine).abs().max()) < 0.08, method  # of a spread of 0.3


def test_eta_is_checked() -> None:
    score = score_of()
    for eta, words in (
        (lambda t: t - 0.5, r"eta\(t\) = -0\.499 at t = 0\.001: expected finite numbers ≥ 0"),
        (lambda t: 1 / (t - t), r"eta\(t\) = inf at t"),
        (lambda t: 1.0, r"eta returned float for 1001 times: expected an elementwise"),
        (lambda t: t.sum(), r"eta returned \(\) for 1001 times"),
        ("1", "eta = '1': expected a number ≥ 0, or a function of t"),
        (math.nan, "eta = nan"),
    ):
        with pytest.raises(InputError, match=words):
            score.reverse(eta)
    assert "eta=<lambda>" in repr(score.reverse(SIT))


# -- what cannot be had at t = 1 -------------------------------------------------------------


# Methods of ours that count in t, as those of the libraries do.
IN_TIME = ("em", "pc", "sosra", "sosra2", "sra3", "shark", "sea", "tsit5")


def test_what_is_infinite_is_refused_before_work_begins() -> None:
    score, x = score_of(T=1.0), states()

    def never(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("work has begun")

    unused = from_velocity(never, T=1.0, shape=(4,))
    for clock in ("sigma", "log_sigma", "karras"):
        with pytest.raises(InputError, match=r"σ is infinite at t = 1\. Use clock='t'.*T=0\.999"):
            solve(unused.flow(), x, "heun2", steps=5, clock=clock)
    for row in list_solvers():
        problem = unused.flow() if row.kind == "ode" else unused.reverse(SIT)
        if row.family == "diffsde" and row.name not in IN_TIME:
            with pytest.raises(
                InputError, match=r"σ, which is infinite at t = 1: .*T=0\.999|number η"
            ):
                solve(problem, x, row.name, steps=5, seed=0)
    for eta in (1.0, 0.5, lambda t: (1 - t) ** 0.25):
        with pytest.raises(InputError, match=r"infinite at t = 1\. .*T=0\.999.*\(1 - t\)\.sqrt"):
            score.reverse(eta)
    for make in (ProbabilityFlow, ReverseSDE):
        with pytest.raises(InputError, match=r"a score alone does not tell the drift .*T=0\.999"):
            make(score.sde, GaussianScore(score.sde, MEAN, STD), (4,))
    # From 0.999 on, everything is there.
    sol = solve(score.flow(), x, "dpmpp_2m", ts=[0.999, 1e-3], steps=50, clock="log_sigma")
    assert bool(sol.final.isfinite().all())


def test_an_interpolant_that_stands_still_at_its_end_is_refused() -> None:
    """There neither x(0) nor z can be told from the velocity: W = a s′ − a′ s = 0."""
    still = {"scale": lambda t: (1 - t) ** 2, "std": lambda t: t * (2 - t)}
    with pytest.raises(InputError, match=r"a s′ − a′ s is 0, .*T=0\.999"):
        from_velocity(velocity_of(LINE), shape=(4,), T=1.0, **still)
    assert from_velocity(velocity_of(LINE), shape=(4,), **still).sde.T == 0.999


# -- the function that comes -----------------------------------------------------------------


class TimeFirst(nn.Module):
    """As torchcfm's networks: called (t, x), t a scalar or (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.gain * velocity_of(LINE)(x, t)


class Unnamed(nn.Module):
    """Names that say nothing."""

    def __init__(self, time_first: bool) -> None:
        super().__init__()
        self.norm, self.time_first = nn.BatchNorm1d(4), time_first

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x, t = (b, a) if self.time_first else (a, b)
        assert t.dim() == 1
        return velocity_of(LINE)(x, t) + 0 * self.norm(x)


FUNCTIONS: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "x, t": lambda: velocity_of(LINE),
    "t, x": lambda: lambda t, x: velocity_of(LINE)(x, t),
    "timestep, sample": lambda: lambda timestep, sample: velocity_of(LINE)(sample, timestep),
    "a module": TimeFirst,
    "a wrapped module": lambda: nn.DataParallel(TimeFirst()),
    "a, b": lambda: lambda a, b: velocity_of(LINE)(a, b),
    "b, a": lambda: lambda b, a: velocity_of(LINE)(a, b),
    "sums": lambda: lambda b, a: -a + 0 * b[:, None],
    "stars": lambda: lambda *args: velocity_of(LINE)(*args),
    "an unnamed module": lambda: Unnamed(False).double(),
    "the other way": lambda: Unnamed(True).double(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_either_order_of_arguments_is_recognised(name: str, dims: int) -> None:
    if "module" in name or name == "the other way":
        dims = 4
    score, x = from_velocity(FUNCTIONS[name](), shape=(dims,)), states(3, dims)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    expected = -x if name == "sums" else velocity_of(LINE)(x, t)
    score.eval()
    torch.testing.assert_close(score.velocity(x, t), expected, check_dtype=False, rtol=1e-6, atol=0)


def test_a_trial_leaves_no_mark() -> None:
    network = Unnamed(True)
    before = torch.get_rng_state()
    from_velocity(network, shape=(4,))
    assert torch.equal(torch.get_rng_state(), before)
    assert int(network.norm.num_batches_tracked) == 0
    assert network.norm.training


def test_functions_that_are_refused() -> None:
    with pytest.raises(InputError, match=r"takes \(a, b\): .*cannot be told.*shape=.*lambda x, t"):
        from_velocity(lambda a, b: a)
    with pytest.raises(InputError, match=r"tried with x of shape \(2, 4\) .*returned shape \(2,\)"):
        from_velocity(lambda a, b: a.sum(1), shape=(4,))
    with pytest.raises(InputError, match="velocity = None: expected something called"):
        from_velocity(None, shape=(4,))
    with pytest.raises(InputError, match="scale and std belong together"):
        from_velocity(velocity_of(LINE), scale=lambda t: 1 - t)
    with pytest.raises(InputError, match=r"returned \(5, 1\) for x of shape \(5, 4\)"):
        from_velocity(lambda x, t: x[:, :1])(states(5), 0.5)
    with pytest.raises(InputError, match=r"score = .* takes \(t, x\).*Give lambda x, t: score\("):
        ReverseSDE(StraightSDE(), lambda t, x: -x, (4,))
    with pytest.raises(InputError, match="give shape= where it is made"):
        from_velocity(velocity_of(LINE)).sample(2)


def test_a_score_shows_itself_and_is_told_from_others() -> None:
    assert (
        repr(score_of()) == "VelocityScore(velocity, StraightSDE(T=0.999, eps=0.001), shape=(4,))"
    )
    digest = digest_of_score(from_velocity(Plain(1.0), shape=(4,)))
    assert digest == digest_of_score(from_velocity(Plain(1.0), shape=(4,)))
    assert digest != digest_of_score(from_velocity(Plain(1.0), shape=(4,), eps=1e-4))
    assert digest != digest_of_score(from_velocity(Plain(2.0), shape=(4,)))


class Plain(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.gain * x


# -- models that predict a velocity ----------------------------------------------------------


class Body(nn.Module):
    """The exact velocity of two classes of Gaussian data, and of their even mixture for none."""

    classes = 2

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            return 0.5 * (self(x, t, 0 * t.long()) + self(x, t, 1 + 0 * t.long()))
        pair = [velocity_of(LINE, mean)(x, t) for mean in (-0.5, 0.5)]
        return torch.where(label[:, None] == 1, pair[1], pair[0])


def test_a_model_of_velocities() -> None:
    model, x = ScoreModel(Body(), StraightSDE(T=1.0), (4,), FlowPrediction()), states()
    t = torch.tensor(0.3, dtype=torch.float64)
    assert model.velocity is not None
    label = torch.ones(64, dtype=torch.long)
    v = velocity_of(LINE, 0.5)(x, t)
    assert torch.equal(model.velocity(x, t, label), v)
    torch.testing.assert_close(model(x, t, label), -(x + 0.7 * v) / 0.3)
    torch.testing.assert_close(model.denoise(x, t, label), x - 0.3 * v)
    for part in model.coefficients(torch.tensor(1.0)):
        assert bool(part.isfinite())
    sol = model.sample(50, method="heun2", steps=40, clock="t", label=1, seed=0)
    assert float(sol.final.mean()) == pytest.approx(0.5, abs=0.1)  # 4 standard errors


def test_guidance_of_velocities_from_pure_noise() -> None:
    """A velocity is linear in the score, so guidance combines it with the same weights."""
    model, x = ScoreModel(Body(), StraightSDE(T=1.0), (4,), "flow"), states()
    t = torch.tensor(1.0, dtype=torch.float64)
    guided = classifier_free(model, 1, 2.0)
    flow = ProbabilityFlow(model.sde, guided, (4,))
    free, own = (model.velocity(x, t, label) for label in (None, 1))
    torch.testing.assert_close(flow.drift(x, t), free + 2 * (own - free))
    sol = solve(flow, x, "heun2", steps=20, denoise=True)
    assert bool(sol.final.isfinite().all())
    assert sol.stats.nfe == 2 * 2 * 20 + 2


def test_other_predictions_have_no_velocity() -> None:
    assert ScoreModel(Body(), StraightSDE(), (4,), "edm").velocity is None
    with pytest.raises(InputError, match="a score alone does not tell the drift"):
        ScoreModel(Body(), StraightSDE(T=1.0), (4,), "edm").flow()


def test_coupled_velocities_have_a_flow_only() -> None:
    model = ScoreModel(Body(), StraightSDE(), (4,), CoupledFlowPrediction())
    assert model.sample(2, seed=0, steps=3).kind == "ode"
    for make in (
        model.reverse,
        lambda: model.sample(2, kind="sde", seed=0),
        lambda: ReverseSDE(model.sde, classifier_free(model, 1, 2.0), (4,)),
    ):
        with pytest.raises(InputError, match=r"trained on coupled.*take ProbabilityFlow"):
            make()
