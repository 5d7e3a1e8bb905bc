"""Methods whose formulas can be checked one by one: exponential Runge–Kutta, Adams, SEA."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffsde import BrownianPath, ProbabilityFlow, ReverseSDE, list_solvers, solve
from diffsde.equations.forward import SDE, expand
from diffsde.equations.reverse import PROBLEMS
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from tests.problems import gaussian, mild, reverse

SDES = [VESDE(), VPSDE(), EDMSDE(T=10.0)]


class Told(torch.nn.Module):
    """The score of a denoiser, or of a noise ε, that is a function of time alone.

    Args:
        sde: the process.
        denoised: D(λ), λ = −log σ; or
        noise: ε(t).
    """

    def __init__(self, sde: SDE, denoised=None, noise=None) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.sde, self.denoised, self.noise = sde, denoised, noise

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.sde.marginal_scale(t), self.sde.marginal_std(t)
        if self.noise is not None:
            return expand(-self.noise(t) / s, x).expand_as(x)
        value = self.denoised(-torch.log(self.sde.noise_level(t)))
        return (expand(a * value, x) - x) / expand(s, x) ** 2


def ends(sde: SDE, score: Told, name: str, eta: float = 0.0) -> tuple[Tensor, Tensor]:
    """y = x / a at the nodes of four steps, and λ there."""
    kind = ReverseSDE(sde, score, (2,), eta) if eta else ProbabilityFlow(sde, score, (2,))
    x = torch.full((1, 2), 0.7, dtype=torch.float64)
    sol = solve(kind, x, name, steps=4, clock="log_sigma", seed=1)
    return sol.ys[:, 0, 0] / sde.marginal_scale(sol.ts), -torch.log(sde.noise_level(sol.ts))


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize(
    ("name", "eta"),
    [("res_2s", 0.0), ("res_3s", 0.0), ("seeds_2", 1.0), ("seeds_3", 1.0), ("seeds_2", 0.6)],
)
def test_a_linear_denoiser_is_exact(name: str, eta: float, sde: SDE) -> None:
    """Each step by itself. Two solves on one noise differ by what has no noise."""
    told, none = (Told(sde, denoised=d) for d in (lambda v: 0.4 - 0.3 * v, torch.zeros_like))
    (with_d, lam), (without, _) = ends(sde, told, name, eta), ends(sde, none, name, eta)
    y, rate = with_d - without, 1 + eta**2
    for k in range(4):
        h, z = float(lam[k + 1] - lam[k]), rate * float(lam[k + 1] - lam[k])
        gain = -math.expm1(-z)
        expected = math.exp(-z) * float(y[k]) + (0.4 - 0.3 * float(lam[k])) * gain
        expected += -0.3 * h * (1 - gain / z)
        assert float(y[k + 1]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", ["dpm_2", "dpm_solver_3"])
def test_constant_noise_is_exact(name: str, sde: SDE) -> None:
    y, lam = ends(sde, Told(sde, noise=lambda t: torch.full_like(t, 0.8)), name)
    sigma = torch.exp(-lam)
    torch.testing.assert_close(y, y[0] + 0.8 * (sigma - sigma[0]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["ipndm", "deis"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_polynomial_noise_is_exact_once_enough_values_are_known(name: str, order: int) -> None:
    """In t = σ, with even steps, where both methods are Adams's; deis also with uneven ones."""
    sde = EDMSDE(T=3.0, eps=1.0)
    score = Told(sde, noise=lambda t: 1 + t ** (order - 1))
    x = torch.full((1, 1), 0.7, dtype=torch.float64)
    clocks = ["t"] if name == "ipndm" else ["t", "karras"]
    for clock in clocks:
        sol = solve(
            ProbabilityFlow(sde, score, (1,)), x, name, steps=7, clock=clock,
            options={"max_order": order},
        )  # fmt: skip
        change = sol.ys[order:, 0, 0] - sol.ys[order - 1 : -1, 0, 0]
        ts = sol.ts[order - 1 :]
        exact = (ts + ts**order / order).diff()
        torch.testing.assert_close(change, exact, rtol=1e-10, atol=1e-10)
    first = sol.ys[1, 0, 0] - sol.ys[0, 0, 0]
    if order > 1:  # the test above would see anything
        assert abs(float(first - (sol.ts[:2] + sol.ts[:2] ** order / order).diff())) > 1e-3


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("name", ["seeds_2", "seeds_3", "dpmpp_sde", "dpmpp_2s_ancestral"])
@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
def test_without_data_every_stage_has_the_law_of_its_time(name: str, eta: float, sde: SDE) -> None:
    """With D = 0 the law at σ₁ of y is e^{−2z} v₀ + σ₁² (1 − e^{−2η²h}), at stages too."""
    seen: list[tuple[float, float]] = []

    class Watched(Told):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            y = x / self.sde.marginal_scale(t)
            seen.append((float(self.sde.noise_level(t)), float(y.double().var())))
            return super().forward(x, t)

    score = Watched(sde, denoised=torch.zeros_like)
    x = sde.prior_sample((20000, 1), seed=3, dtype=torch.float64)
    problem = ReverseSDE(sde, score, (1,), eta)
    sol = solve(problem, x, name, steps=3, clock="log_sigma", seed=4)
    stages = len(seen) // 3
    for first in range(0, len(seen), stages):
        sigma0, v0 = seen[first]
        for sigma, variance in seen[first + 1 : first + stages]:
            h = math.log(sigma0 / sigma)
            flow = name == "dpmpp_2s_ancestral"  # whose stage has no noise
            dial = 0.0 if flow else eta**2
            exact = math.exp(-2 * (1 + dial) * h) * v0 - sigma**2 * math.expm1(-2 * dial * h)
            # The variance of 20,000 numbers is known to 1 % (one standard error).
            assert variance == pytest.approx(exact, rel=0.04), (sigma0, sigma)
    ends_at = float(sde.noise_level(sol.ts[-1])) * float(sde.marginal_scale(sol.ts[-1]))
    if eta == 1.0:
        assert float(sol.final.var()) == pytest.approx(ends_at**2, rel=0.04)


def test_the_shifted_euler_step_is_taken_at_the_middle() -> None:
    """Where the drift depends on time alone, SEA integrates it by the midpoint rule."""
    score = gaussian(mild(), 2).double()
    sde = score.sde
    told = Told(sde, denoised=torch.zeros_like)
    told.forward = lambda x, t: expand(torch.as_tensor(t), x).expand_as(x) * 0 + t**2  # type: ignore[method-assign]
    x = torch.zeros(1, 2, dtype=torch.float64)
    problem = ReverseSDE(sde, told, (2,), eta=1e-12)
    sol = solve(problem, x, "sea", steps=5, seed=0)
    middle = (sol.ts[1:] + sol.ts[:-1]) / 2
    slope = -0.5 * sde.diffusion(middle) ** 2 * middle**2 * sol.ts.diff()
    torch.testing.assert_close(sol.ys[1:, 0, 0], slope.cumsum(0), rtol=1e-9, atol=1e-9)


def test_the_ancestral_method_has_a_largest_eta() -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    with pytest.raises(InputError, match="η ≤ 1"):
        solve(reverse(score, 1.5), x, "dpmpp_2s_ancestral", steps=5, seed=0)


# The values that each extends its polynomial through.
EXTENDING = {
    "dpmpp_2m": 2, "dpmpp_3m": 3, "unipc": 3, "ipndm": 4, "deis": 4,
    "sde_dpmpp_2m": 2, "sde_dpmpp_3m": 3, "sa_solver": 3,
}  # fmt: skip
LOWERED = [(row.name, row.kind) for row in list_solvers() if "last_order" in row.options]


def test_every_method_of_several_values_can_lower_its_last_order() -> None:
    assert {name for name, _ in LOWERED} == set(EXTENDING)


@pytest.mark.parametrize(("name", "kind"), LOWERED)
def test_a_last_step_of_order_1_is_that_of_ddim(name: str, kind: str) -> None:
    """And no other step is; the highest order is what is taken if nobody says."""
    score = gaussian()
    x = score.sample(2, 1.0, seed=0).double()
    problem = PROBLEMS[kind](score.sde, score.double(), score.shape)
    noise = BrownianPath(0)
    how = {"clock": "karras", "steps": 5, "noise": noise if kind == "sde" else None}
    plain = solve(problem, x, name, **how)
    lowered = solve(problem, x, name, options={"last_order": 1}, **how)
    torch.testing.assert_close(lowered.ys[:-1], plain.ys[:-1], rtol=0, atol=0)
    assert not torch.allclose(lowered.final, plain.final, atol=1e-6)
    most = EXTENDING[name]
    same = solve(problem, x, name, options={"last_order": most}, **how)
    torch.testing.assert_close(same.final, plain.final, rtol=0, atol=0)
    with pytest.raises(InputError, match=rf"'last_order'\] = {most + 1}: expected 1 to {most}"):
        solve(problem, x, name, options={"last_order": most + 1}, **how)
    if name in ("unipc", "sa_solver"):  # whose last step begins at the corrected state
        return
    ends = {**how, "ts": plain.ts[-2:], "steps": 1}
    last = solve(problem, lowered.ys[-2], "ddim", **ends).final
    # deis integrates σ by a rule of 16 points, which leaves 1.5e-8 of so long a step.
    torch.testing.assert_close(lowered.final, last, rtol=0, atol=1e-7 if name == "deis" else 1e-9)


@pytest.mark.parametrize("order", [0, 5, 2.5])
def test_orders_that_there_are_not(order: float) -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    problem = ProbabilityFlow(score.sde, score, score.shape)
    with pytest.raises(InputError, match="max_order"):
        solve(problem, x, "ipndm", steps=5, options={"max_order": order})
