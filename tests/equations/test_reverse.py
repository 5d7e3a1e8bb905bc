"""Reverse problems are torchsde's and torchdiffeq's objects, and have the right marginals."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torchdiffeq
import torchsde

from diffsde import VESDE, GaussianScore, InputError, ProbabilityFlow, ReverseSDE, solve
from diffsde.equations.clocks import CLOCKS
from diffsde.equations.eta import eta_between
from diffsde.equations.named import SDES
from diffsde.equations.straight import StraightSDE
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.equations.variance_preserving import VPSDE, SubVPSDE
from diffsde.noise.brownian_path import BrownianPath
from tests.problems import assert_same_law, finer, flow, gaussian, many, mixture, reverse

SDE = VESDE()
# Of noise levels up to 10 or so: from σ = 80 and more, even steps in t or σ do not arrive.
DIALLED = {
    "VESDE": VESDE(),
    "VPSDE": VPSDE(beta_max=8.0),
    "SubVPSDE": SubVPSDE(beta_max=8.0),
    "EDMSDE": EDMSDE(T=10.0, eps=0.02),
    "StraightSDE": StraightSDE(T=0.91, eps=0.02),
}
SHAPE = (1, 4, 4)
SCORE = GaussianScore(SDE, 0.3, 0.318)
X1 = SDE.prior_sample((6, *SHAPE), seed=0)


@pytest.mark.parametrize("method", ["euler", "milstein", "srk"])
def test_torchsde_takes_it_as_it_is(method: str) -> None:
    """Along one path. As diagonal noise, srk takes another scheme of the same order, so the two
    agree to their common error at 200 steps."""
    rev = ReverseSDE(SDE, SCORE, SHAPE)
    times = rev.times(200)
    direct = torchsde.sdeint(
        rev, X1.flatten(1), times, dt=float(times[1]), method=method,
        bm=BrownianPath(0).bind((6, 16)),
    )  # fmt: skip
    ours = solve(rev, X1, method, steps=200, noise=BrownianPath(0))
    assert ours.ys.shape == (201, *X1.shape)
    assert torch.allclose(direct[-2].reshape(X1.shape), ours.ys[-2], atol=2e-3)
    assert torch.allclose(direct[-1].reshape(X1.shape), ours.final, atol=1e-2)


def test_torchsde_with_noise_of_its_own() -> None:
    rev = ReverseSDE(SDE, SCORE, (16,))
    x = SDE.prior_sample((500, 16), seed=1)
    ys = torchsde.sdeint(rev, x, rev.times(100), dt=0.00999, method="euler")
    assert ys[-1].std() == pytest.approx(0.32, abs=0.02)


@pytest.mark.parametrize("shape", [SHAPE, (16,)])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "midpoint"])
def test_torchdiffeq_takes_it_as_it_is(method: str, shape: tuple[int, ...]) -> None:
    """At a tolerance of 1e-6, torchdiffeq's last states are wrong by 3e-4 themselves."""
    problem = ProbabilityFlow(SDE, copy.deepcopy(SCORE).double(), shape)
    x = X1.reshape(6, *shape).double()
    times = torch.linspace(1, SDE.eps, 31, dtype=torch.float64)
    direct = torchdiffeq.odeint(problem, x, times, method=method, rtol=1e-8, atol=1e-8)
    close = {"rtol": 1e-8, "atol": 1e-8} if method == "dopri5" else {}
    ours = solve(problem, x, method, ts=times, **close)
    assert torch.allclose(direct, ours.ys, atol=2e-5)  # of dopri5's tolerance


def test_a_problem_takes_flat_states_and_images() -> None:
    rev = ReverseSDE(SDE, SCORE, SHAPE)
    image, flat = (
        solve(rev, X1, "srk", steps=20, seed=0),
        solve(rev, X1.flatten(1), "srk", steps=20, seed=0),
    )
    assert torch.equal(image.ys.flatten(2), flat.ys)


def test_flow_and_sde_share_their_marginals() -> None:
    """Fails if the flow's ½ is lost, or any sign."""
    score = mixture()
    x = score.sample(many(1000), 1.0, seed=1)
    times = [0.8, 0.5, 0.2, 0.05, SDE.eps]
    sde = solve(reverse(score), x, "srk", steps=finer(100), clock="karras", seed=2, save=times)
    ode = solve(flow(score), x, "heun3", steps=finer(60), clock="karras", save=times)
    for k, t in enumerate(times):
        exact = score.sample(many(10000), t, seed=3)
        assert_same_law(sde.ys[k], exact, f"SDE at t = {t}")
        assert_same_law(ode.ys[k], exact, f"flow at t = {t}")


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("name", SDES)
def test_every_dial_keeps_the_law(name: str, eta: float, clock: str) -> None:
    """Fails if ½ (1 + η²) or η is lost, in any SDE and any clock."""
    sde = DIALLED[name]
    score = mixture(sde, dims=8)
    x = score.sample(many(400), sde.T, seed=1)
    steps = finer(100 if clock in ("t", "sigma") else 30)  # these are coarse where the data are
    sol = solve(reverse(score, eta), x, "srk", steps=steps, clock=clock, seed=2, save="last")
    assert_same_law(sol.final, score.sample(many(10000), sde.eps, seed=3), f"η = {eta}, {clock}")


@pytest.mark.parametrize("clock", ["log_sigma", "karras"])  # others have few steps at these levels
@pytest.mark.parametrize("name", SDES)
def test_noise_between_two_levels_keeps_the_law(name: str, clock: str) -> None:
    """Fails if η is not that of the step's own times."""
    sde = DIALLED[name]
    score = mixture(sde, dims=8)
    x = score.sample(many(400), sde.T, seed=1)
    rev = reverse(score, eta_between(sde, 0.1, 1.0))
    sol = solve(rev, x, "sde_dpmpp_2m", steps=finer(30), clock=clock, seed=2, save="last")
    assert_same_law(sol.final, score.sample(many(10000), sde.eps, seed=3), clock)


def test_there_is_noise_between_two_levels_only() -> None:
    eta = eta_between(SDE, 0.1, 1.0, 1.5)
    rev = pickle.loads(pickle.dumps(reverse(gaussian(), eta)))
    levels = torch.tensor([0.01, 0.0999, 0.1001, 0.5, 0.999, 1.001, 5.0], dtype=torch.float64)
    t = SDE.time_of_noise_level(levels)
    expected = torch.tensor([0, 0, 1.5, 1.5, 1.5, 0, 0]) * SDE.diffusion(t)
    torch.testing.assert_close(rev.diffusion(t), expected.double())
    assert "eta=1.5 for σ from 0.1 to 1" in repr(rev)
    for low, high, strength in ((1, 0.1, 1), (-1, 1, 1), (0, "a", 1), (0.1, 1, -1)):
        with pytest.raises(InputError, match=r"(low|high|eta) = .*: expected"):
            eta_between(SDE, low, high, strength)  # type: ignore[arg-type]


def test_the_dial_at_zero_is_the_flow() -> None:
    score = gaussian()
    x = score.sample(5, 1.0, seed=0)
    times = torch.tensor(0.3)
    assert torch.equal(reverse(score, 0.0).drift(x, times), flow(score).drift(x, times))
    assert reverse(score, 0.0).diffusion(times) == 0


def test_denoise_is_the_posterior_mean() -> None:
    """For N(m, c²) data: E[x(0) | x] = (c² x + s² m) / (c² + s²)."""
    score, t = gaussian(), torch.tensor(0.4, dtype=torch.float64)
    x = torch.randn(3, 32, dtype=torch.float64)
    s2 = SDE.marginal_std(t) ** 2
    c2 = score.std**2
    exact = (c2 * x + s2 * score.mean) / (c2 + s2)
    torch.testing.assert_close(flow(score).denoise(x, t), exact, rtol=1e-12, atol=1e-12)


def test_with_score_leaves_the_first_alone() -> None:
    rev = ReverseSDE(SDE, SCORE, SHAPE)
    twin = rev.with_score(lambda x, t: -x)
    assert rev.score is SCORE
    assert twin.score is not SCORE
    assert twin.shape == rev.shape


def test_errors() -> None:
    with pytest.raises(InputError, match="eta = -1"):
        ReverseSDE(SDE, SCORE, SHAPE, eta=-1)
    with pytest.raises(InputError, match=r"expected something called as score\(x, t\)"):
        ProbabilityFlow(SDE, None, SHAPE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps = 0"):
        ReverseSDE(SDE, SCORE, SHAPE).times(0)
    with pytest.raises(InputError, match="eps = 0.*std is zero at t = 0"):
        VESDE(eps=0)
