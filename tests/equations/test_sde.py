"""Every forward SDE against its mathematics, and many solvers on every SDE."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torchsde
from scipy import stats
from torch import Tensor

from diffsde import GaussianScore, MixtureScore, ProbabilityFlow, ReverseSDE, ScoreUNet, solve
from diffsde.equations.clocks import CLOCKS, make_clock
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.schedule import ScheduleSDE
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE, SubVPSDE
from diffsde.errors import InputError
from diffsde.scores.checkpoint import build_model, describe_model
from diffsde.scores.model import ScoreModel


def cosine() -> ScheduleSDE:
    return ScheduleSDE(
        lambda t: torch.tan(0.5 * math.pi * t), lambda t: torch.cos(0.5 * math.pi * t), T=0.99
    )


class Straight(SDE):
    """x(t) = (1 − t) x(0) + t z, defined by the three functions that a user writes."""

    def __init__(self) -> None:
        super().__init__(T=0.99)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        return -x / (1 - (t.reshape(-1, *[1] * (x.dim() - 1)) if t.dim() else t))

    def diffusion(self, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t)
        return torch.sqrt(2 * t / (1 - t))

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = torch.as_tensor(t, dtype=x0.dtype)
        t = t.reshape(-1, *[1] * (x0.dim() - 1)) if t.dim() and x0.dim() > 1 else t
        return (1 - t) * x0, t


# Independent coordinates are as good as samples for a test of the law, and cheaper to draw.
STATES = (12, 125)

ALL: dict[str, Callable[[], SDE]] = {**SDES, "cosine": cosine, "straight": Straight}
every_sde = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


def times(sde: SDE, n: int = 9) -> Tensor:
    return torch.linspace(sde.eps, sde.T, n, dtype=torch.float64)


# -- one SDE against itself ------------------------------------------------------------


@every_sde
def test_drift_diffusion_and_marginal_are_of_one_process(make: Callable[[], SDE]) -> None:
    make().check()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"drift": lambda _, x, t: -0.4 * x * (1 + 0 * t)}, "drift"),
        ({"diffusion": lambda self, t: torch.sqrt(1.01 * self.beta(t))}, "diffusion"),
        ({"marginal_std": lambda self, t: 1 - self.marginal_scale(t)}, "diffusion"),
    ],
)
def test_check_names_the_function_that_does_not_fit(change: dict[str, object], name: str) -> None:
    wrong = type("Wrong", (VPSDE,), {**change, "noise_level": SDE.noise_level})()
    with pytest.raises(InputError, match=rf"at t = .*{name}\(.*expected two equal numbers"):
        wrong.check()


@every_sde
def test_noise_levels_are_inverted_and_rise_with_the_slope_said(make: Callable[[], SDE]) -> None:
    sde = make()
    t = times(sde)
    levels = sde.noise_level(t)
    torch.testing.assert_close(sde.time_of_noise_level(levels), t, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(levels, SDE.noise_level(sde, t), rtol=1e-10, atol=0)
    h = 1e-6 * t[1:-1]
    slope = (sde.noise_level(t[1:-1] + h) - sde.noise_level(t[1:-1] - h)) / (2 * h)
    torch.testing.assert_close(sde.noise_level_slope(t[1:-1]), slope, rtol=1e-6, atol=0)


@every_sde
def test_inverse_keeps_its_digits_in_float32(make: Callable[[], SDE]) -> None:
    sde = make()
    t = times(sde).float()
    torch.testing.assert_close(sde.time_of_noise_level(sde.noise_level(t)), t, rtol=2e-5, atol=0)


@every_sde
def test_marginals_broadcast(make: Callable[[], SDE]) -> None:
    sde = make()
    x, t = torch.randn(3, 1, 2, 2), torch.tensor([0.2, 0.5, 0.9])
    mean, std = sde.marginal_prob(x, t)
    assert mean.shape == x.shape
    for i in range(3):
        one_mean, one_std = sde.marginal_prob(x[i : i + 1], float(t[i]))
        torch.testing.assert_close(mean[i : i + 1], one_mean)
        torch.testing.assert_close(std.expand(3, 1, 1, 1)[i].squeeze(), one_std)
    assert sde.diffusion(t).shape == sde.noise_level_slope(t).shape == (3,)
    torch.testing.assert_close(sde.drift(x, t)[1:2], sde.drift(x[1:2], 0.5))


def test_numbers_of_the_paper() -> None:
    vp, sub = VPSDE(), SubVPSDE()
    one = torch.tensor(1.0, dtype=torch.float64)
    assert float(vp.beta_integral(one)) == pytest.approx(10.05)  # ½ (0.1 + 20)
    assert float(vp.marginal_scale(one)) == pytest.approx(math.exp(-5.025))
    assert float(vp.marginal_std(one)) ** 2 == pytest.approx(1 - math.exp(-10.05))
    assert float(sub.marginal_std(one)) == pytest.approx(1 - math.exp(-10.05))
    t = times(vp)
    assert bool((sub.marginal_std(t) < vp.marginal_std(t)).all())
    assert float(VESDE().marginal_std(one)) == pytest.approx(9.84521, abs=1e-5)
    assert EDMSDE().interval == (0.0, 80.0)


def test_karras_clock_is_edm_equation_5() -> None:
    sde, n = EDMSDE(), 17
    i = torch.arange(n + 1, dtype=torch.float64) / n
    expected = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    flow = ProbabilityFlow(sde, GaussianScore(sde, 0.0, 1.0), (1,))
    sol = solve(flow, torch.ones(1, 1).double(), "euler", steps=n, clock="karras")
    torch.testing.assert_close(sol.ts, expected)


def test_schedule_takes_the_derivatives_itself() -> None:
    vp = VPSDE()
    same = ScheduleSDE(vp.noise_level, vp.marginal_scale)
    t, x = times(vp), torch.ones(9, 1, dtype=torch.float64)
    torch.testing.assert_close(same.drift(x, t), vp.drift(x, t))
    torch.testing.assert_close(same.diffusion(t), vp.diffusion(t))
    edm = ScheduleSDE(lambda t: t, T=80.0, eps=0.002)
    torch.testing.assert_close(edm.diffusion(t), EDMSDE().diffusion(t))
    assert not edm.drift(x, t).any()


def test_error_texts() -> None:
    with pytest.raises(InputError, match=r"0 < beta_min ≤ beta_max; the paper takes 0\.1"):
        VPSDE(beta_min=5.0, beta_max=1.0)
    with pytest.raises(InputError, match=r"σ runs from 0\.999 to 0, .*σ\(t\) > 0 that rises"):
        ScheduleSDE(lambda t: 1 - t)
    with pytest.raises(InputError, match="expected 0 < eps < T"):
        EDMSDE(T=0.001)


@pytest.mark.parametrize("name", SDES)
def test_checkpoints_name_it(name: str) -> None:
    sde = SDES[name](T=0.9, eps=2e-3)
    network = ScoreUNet(sde, channels=(32, 32, 32, 32), embed_dim=4)
    description = describe_model(ScoreModel(network, sde, (1, 28, 28)))
    again = build_model(description, network.state_dict()).sde
    assert type(again) is type(sde)
    assert again.config() == sde.config()
    assert again.T == 0.9


# -- the forward process ---------------------------------------------------------------


@every_sde
def test_forward_solve_has_the_marginal(make: Callable[[], SDE]) -> None:
    sde = make()
    x0 = torch.full(STATES, 1.5, dtype=torch.float64)
    end = min(0.7, sde.T)  # a(T) ≈ 0 would hide a wrong drift
    sol = solve(sde, x0, "euler", ts=[0.0, end], steps=60, seed=1, save="last")
    mean, std = sde.marginal_prob(x0[:1, :1], end)
    law = stats.norm(float(mean), float(std))
    assert stats.kstest(sol.final.flatten().numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("clock", ["sigma", "karras"])
@every_sde
def test_forward_solve_in_other_clocks(make: Callable[[], SDE], clock: str) -> None:
    sde = make()
    x0 = torch.full(STATES, 1.5, dtype=torch.float64)
    end = min(0.7, sde.T)
    mean, std = sde.marginal_prob(x0[:1, :1], end)
    # Karras's τ = σ^{1/7} is not smooth at σ = 0: start where a reverse solve would end.
    start = 0.0 if clock == "sigma" else sde.eps
    sol = solve(sde, x0, "euler", ts=[start, end], steps=60, seed=2, clock=clock, save="last")
    law = stats.norm(float(mean), float(std))
    assert stats.kstest(sol.final.flatten().numpy(), law.cdf).pvalue > 1e-3


@every_sde
def test_torchsde_takes_it_as_it_is(make: Callable[[], SDE]) -> None:
    sde = make()
    y = torchsde.sdeint(sde, torch.ones(2, 3), torch.tensor([0.1, 0.2]), dt=0.02, method="euler")
    assert y.shape == (2, 2, 3)
    assert bool(torch.isfinite(y).all())


@pytest.mark.parametrize("clock", CLOCKS)
@every_sde
def test_clocks_know_their_rate(make: Callable[[], SDE], clock: str) -> None:
    sde = make()
    made = make_clock(clock, sde.T, sde.eps, sde)
    u = torch.linspace(0.02, 0.98, 13, dtype=torch.float64) * made.duration
    h = 1e-5 * made.duration
    slope = (made.time(u + h) - made.time(u - h)).abs() / (2 * h)
    torch.testing.assert_close(made.rate(u), slope, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(made.place(made.time(u)), u, rtol=1e-6, atol=1e-9)


# -- laws: every SDE × solver ------------------------------------------------------------

SDE_SOLVERS = ["em", "sde_dpmpp_2m", "ddim", "sosra", "srk", "heun", "pc"]
FLOW_SOLVERS = ["heun_edm", "dpmpp_2m", "dpmpp_3m", "midpoint", "rk4", "dopri5"]
STEPS = {"em": 80, "pc": 50, "ddim": 80, "sde_dpmpp_2m": 60}


def bimodal(sde: SDE) -> MixtureScore:
    return MixtureScore(sde, torch.tensor([[-1.0], [0.8]]), torch.tensor([0.3, 0.5]), [0.4, 0.6])


def each(score: MixtureScore) -> Callable[[Tensor, Tensor | float], Tensor]:
    """The score of independent coordinates, each with the law of a 1-D mixture."""

    def of(x: Tensor, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.repeat_interleave(x[0].numel()) if t.dim() else t
        return score(x.reshape(-1, 1), t).reshape(x.shape)

    return of


def start_of(score: MixtureScore, seed: int) -> Tensor:
    """Samples of x(T) from its exact law, so that the prior's error plays no part."""
    generator = torch.Generator().manual_seed(seed)
    which = (torch.rand(STATES, generator=generator) > 0.4).long()
    z = torch.randn(STATES, generator=generator).double()
    scale, std = score.sde.marginal_scale(score.sde.T), score.sde.marginal_std(score.sde.T)
    width = ((scale * score.stds[which]) ** 2 + std**2).sqrt()
    return scale * score.means[which, 0] + width * z


def cdf(score: MixtureScore, t: float) -> Callable[[object], object]:
    at = torch.tensor(t, dtype=torch.float64)
    scale, std = float(score.sde.marginal_scale(at)), float(score.sde.marginal_std(at))
    parts = [
        (float(w), stats.norm(scale * float(m), math.hypot(scale * float(c), std)))
        for w, m, c in zip(score.log_weights.exp(), score.means[:, 0], score.stds, strict=True)
    ]
    return lambda x: sum(w * law.cdf(x) for w, law in parts)


@pytest.mark.parametrize("method", SDE_SOLVERS)
@every_sde
def test_reverse_sde_has_the_law(make: Callable[[], SDE], method: str) -> None:
    sde = make()
    score = bimodal(sde)
    rev = ReverseSDE(sde, each(score), STATES[1:])
    x = start_of(score, 3)
    sol = solve(rev, x, method, steps=STEPS.get(method, 25), clock="karras", seed=5, save="last")
    assert stats.kstest(sol.final.flatten().numpy(), cdf(score, sde.eps)).pvalue > 1e-3


@pytest.mark.parametrize("method", FLOW_SOLVERS)
@every_sde
def test_flow_has_the_law(make: Callable[[], SDE], method: str) -> None:
    sde = make()
    score = bimodal(sde)
    flow = ProbabilityFlow(sde, each(score), STATES[1:])
    steps = None if method == "dopri5" else 25
    sol = solve(flow, start_of(score, 4), method, steps=steps, clock="karras", save="last")
    assert stats.kstest(sol.final.flatten().numpy(), cdf(score, sde.eps)).pvalue > 1e-3


# -- the dial: every η, in every clock -------------------------------------------------------


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.5])
def test_every_eta_keeps_the_marginals(eta: float, clock: str) -> None:
    """Half way and at the end, for the tutorial's SDE."""
    sde = VESDE()
    score = bimodal(sde)
    rev = ReverseSDE(sde, each(score), STATES[1:], eta=eta)
    # The clocks t and σ put few steps near ε, so they need more of them.
    steps = {"t": 160, "sigma": 240}.get(clock, 40)
    sol = solve(rev, start_of(score, 6), "sde_dpmpp_2m", steps=steps, clock=clock, seed=7, save=3)
    for t, y in zip(sol.ts[1:].tolist(), sol.ys[1:], strict=True):
        assert stats.kstest(y.flatten().numpy(), cdf(score, t)).pvalue > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.5])
@every_sde
def test_every_eta_keeps_the_marginals_of_every_sde(make: Callable[[], SDE], eta: float) -> None:
    sde = make()
    score = bimodal(sde)
    rev = ReverseSDE(sde, each(score), STATES[1:], eta=eta)
    x = start_of(score, 8)
    sol = solve(rev, x, "sde_dpmpp_2m", steps=40, clock="karras", seed=9, save="last")
    assert stats.kstest(sol.final.flatten().numpy(), cdf(score, sde.eps)).pvalue > 1e-3


def test_the_flow_without_its_half_would_be_seen() -> None:
    """The tests of laws can fail: with η² = 1 and no noise, they do."""
    sde = VESDE()
    score = bimodal(sde)
    doubled = ProbabilityFlow(sde, lambda x, t: 2 * each(score)(x, t), STATES[1:])
    sol = solve(doubled, start_of(score, 4), "dopri5", clock="karras", save="last")
    assert stats.kstest(sol.final.flatten().numpy(), cdf(score, sde.eps)).pvalue < 1e-6


# -- orders: every SDE × solver ------------------------------------------------------------

ORDERS = {
    "euler": 1, "midpoint": 2, "heun2": 2, "rk4": 4,
    "ddim": 1, "dpmpp_2m": 2, "heun_edm": 2,
}  # fmt: skip


@pytest.mark.parametrize("method", ORDERS)
@every_sde
def test_order_on_the_gaussian_flow(make: Callable[[], SDE], method: str) -> None:
    """The flow of Gaussian data is known: x(ε) = m(ε) + (x(T) − m(T)) c(ε) / c(T)."""
    sde = make()
    score = GaussianScore(sde, 0.4, 0.7)
    # Between two noise levels, where steps are small enough for the order to show.
    ts = sde.time_of_noise_level(torch.tensor([2.0, 0.1], dtype=torch.float64))

    def law(t: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor(t, dtype=torch.float64)
        a, s = sde.marginal_scale(at), sde.marginal_std(at)
        return a * 0.4, torch.sqrt((0.7 * a) ** 2 + s**2)

    (m1, c1), (m0, c0) = law(float(ts[0])), law(float(ts[1]))
    x = m1 + c1 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    exact = m0 + (x - m1) * c0 / c1
    flow = ProbabilityFlow(sde, score, (1,))
    counts = [20, 40]
    errors = [
        solve(flow, x, method, ts=ts, steps=n, clock="log_sigma", save="last").final - exact
        for n in counts
    ]
    order = math.log2(float(errors[0].abs().max() / errors[1].abs().max()))
    # The order is a ratio of errors at two step counts; a vanishing next term may raise it.
    assert ORDERS[method] - 0.35 < order < ORDERS[method] + 1.3


@pytest.mark.parametrize("sde", [VESDE(), VPSDE(), EDMSDE()], ids=lambda s: type(s).__name__)
def test_a_centred_prior_has_the_mean_of_the_data_at_T(sde: SDE) -> None:
    data_mean = torch.tensor([[3.0, -5.0]])
    plain = sde.prior_sample((4, 1, 2), seed=1)
    sde.centre(data_mean)
    at_T, std = sde.marginal_prob(data_mean, sde.T)
    assert torch.allclose(sde.prior_sample((4, 1, 2), seed=1), plain + at_T, atol=1e-5)
    flat = sde.prior_sample((4, 2), seed=1)  # torchsde's shape
    assert torch.allclose(flat, (plain + at_T).flatten(1), atol=1e-5)
    expected = torch.distributions.Normal(at_T, std).log_prob(plain).flatten(1).sum(1)
    assert torch.allclose(sde.prior_logp(plain), expected, rtol=1e-4)
    with pytest.raises(InputError, match=r"shape \(3,\), but the prior's mean"):
        sde.prior_sample((4, 3))
    sde.centre(None)
    assert torch.equal(sde.prior_sample((4, 1, 2), seed=1), plain)
    with pytest.raises(InputError, match="not finite"):
        sde.centre(torch.tensor([math.nan]))


def test_the_flow_from_a_centred_prior_ends_at_the_datas_mean() -> None:
    sde = VESDE()
    score = GaussianScore(sde, torch.full((2,), 6.0), torch.full((2,), 2.0))
    flow = ProbabilityFlow(sde, score, shape=(2,))
    # The flow of Gaussian data is affine: an offset d at T ends as d √(p(ε) / p(T)), p = c² + s².
    eps_T = [4 + float(sde.marginal_std(torch.tensor(t).double())) ** 2 for t in (sde.eps, 1.0)]
    kept = math.sqrt(eps_T[0] / eps_T[1])
    for data_mean, offset in ((None, -6 * kept), (torch.full((2,), 6.0), 0.0)):
        sde.centre(data_mean)
        x1 = sde.prior_sample((20_000, 2), seed=0)
        end = solve(flow, x1, "heun2", steps=20, clock="log_sigma", save="last").final
        # Four standard errors of a mean over 40,000, and the solver's own error of 0.005.
        assert float(end.mean()) == pytest.approx(6 + offset, abs=4 * 2 / 200 + 0.005)
