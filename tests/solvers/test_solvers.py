"""Every row of the registry: its law, its order, its cost. A new row is tested at once."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq._impl.odeint import SOLVERS as TORCHDIFFEQ
from torchsde.settings import METHODS as TORCHSDE

from diffsde import (
    BrownianPath,
    GaussianScore,
    InputError,
    MixtureScore,
    ScoreModel,
    UnknownSolverError,
    list_solvers,
    solve,
)
from diffsde.equations.clocks import CLOCKS
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import PROBLEMS
from diffsde.scores.preconditioning import EDM, Coefficients
from diffsde.solvers.registry import Solver, register
from tests.problems import (
    NOISELESS,
    assert_same_law,
    finer,
    flow,
    gaussian,
    many,
    mild,
    mixture,
    reverse,
    typical,
)

# Sweeps over all solvers hold one that warns, as it should: see test_a_solver_that_loses_the_law.
pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

SDE_ROWS = list_solvers("sde")
ODE_ROWS = list_solvers("ode")
FIXED = [row for row in list_solvers() if row.one_step is not None]
FIXED_ODE = [row for row in ODE_ROWS if row.one_step is not None]

# The unadjusted Langevin step widens the law by about snr² / 2: the tutorial's 0.16 by 1 %.
LAW_OPTIONS = {"pc": {"snr": 0.03}}
# reversible_heun amplifies its own error by (s(T) / spread)², whatever the step: clusters
# narrower than the whole are beyond it, so it is tested on one.
LAW_SCORES = {"reversible_heun": gaussian}


def names(rows: list[Solver]) -> list[str]:
    return [row.name for row in rows]


def test_every_method_of_both_libraries_is_there() -> None:
    ours = {(row.family, row.name) for row in list_solvers()}
    forward = {name for name in TORCHSDE.all() if not name.startswith("adjoint_")}
    assert {("torchsde", name) for name in forward} <= ours
    assert {("torchdiffeq", name) for name in TORCHDIFFEQ} <= ours


def test_the_field_s_own_are_there() -> None:
    native = {row.name for row in list_solvers() if row.family == "diffsde"}
    published = {"em", "pc", "ddim", "heun_edm", "dpmpp_2m", "sde_dpmpp_2m", "sosra"}
    published |= {"ipndm", "deis", "res_2s", "res_3s", "dpm_2", "sa_solver", "seeds_2", "seeds_3"}
    published |= {"dpmpp_sde", "dpmpp_2s_ancestral", "sea", "shark", "sra3", "sosra2"}
    published |= {"tsit5", "restart"}
    assert published <= native


@pytest.mark.parametrize("row", SDE_ROWS, ids=names(SDE_ROWS))
def test_the_law_of_every_sde_solver(row: Solver) -> None:
    """At the end and on the way, on well separated clusters."""
    score = LAW_SCORES.get(row.name, mixture)()
    x = score.sample(many(500), 1.0, seed=1)
    steps = finer(200 if row.name in LAW_SCORES else 300)  # with 100, Euler's own error shows
    sol = solve(
        reverse(score), x, row.name, steps=steps, clock="log_sigma", seed=2,
        save=[0.5, 0.05, score.sde.eps], options=LAW_OPTIONS.get(row.name),
    )  # fmt: skip
    for t, state in zip(sol.ts.tolist(), sol.ys, strict=True):
        assert_same_law(state, score.sample(many(5000), t, seed=3), f"at t = {t:g}")


@pytest.mark.parametrize("row", ODE_ROWS, ids=names(ODE_ROWS))
def test_the_law_of_every_flow_solver(row: Solver) -> None:
    score = mixture()
    x = score.sample(many(500), 1.0, seed=1)
    steps = None if row.adaptive else finer(200)  # with 100, Euler's own error shows
    sol = solve(flow(score), x, row.name, steps=steps, clock="log_sigma", save="last")
    assert_same_law(sol.final, score.sample(many(5000), score.sde.eps, seed=3))


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("name", ["euler", "sde_dpmpp_2m"])
def test_the_law_in_every_clock(name: str, clock: str) -> None:
    score = mixture()
    x = score.sample(many(400), 1.0, seed=1)
    steps = finer(500 if clock in ("t", "sigma") else 100)  # these are coarse where the data are
    sol = solve(reverse(score), x, name, steps=steps, clock=clock, seed=2, save="last")
    assert_same_law(sol.final, score.sample(many(5000), score.sde.eps, seed=3))


# -- orders of convergence ---------------------------------------------------------

# For the Langevin noise of pc there is no strong order: it does not belong to the path.
STRONG = [row for row in SDE_ROWS if row.name != "pc"]


@functools.cache
def on_one_path(method: str, steps: int) -> Tensor:
    """The end of the reverse SDE, for the same start and noise whatever the method."""
    score = mixture(mild(), 4).double()
    x, noise = score.sample(24, 1.0, seed=1).double(), BrownianPath(0)
    return solve(reverse(score), x, method, steps=steps, noise=noise, save="last").final


@pytest.mark.parametrize("row", STRONG, ids=names(STRONG))
def test_the_strong_order_of_every_sde_solver(row: Solver) -> None:
    """On one Brownian path, against another method on a grid four times as fine as the finest."""
    exact = on_one_path("sosra" if row.name == "srk" else "srk", 512)
    errors = [typical(on_one_path(row.name, n) - exact) for n in (32, 64, 128)]
    # From path to path the slope scatters by 0.06; it is higher on coarse grids.
    assert slope(errors) > row.order - 0.2, errors


@pytest.mark.parametrize("row", STRONG, ids=names(STRONG))
def test_the_strong_order_against_the_exact_path(row: Solver) -> None:
    """For Gaussian data the reverse SDE is linear: x(t) is known given its Brownian path."""
    score, x, noise, exact = linear_problem()
    errors = [
        rms(solve(reverse(score), x, row.name, steps=n, noise=noise, save="last").final - exact)
        for n in (16, 32, 64)
    ]
    assert slope(errors) > row.order - 0.15, errors


class LinearNoise(nn.Module):
    """dx = (1 + 3 t) dW, so that x(1) − x(0) = 4 W(1) − 3 ∫ W."""

    noise_type, sde_type = "additive", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return (1 + 3 * t) * torch.eye(y.shape[1]).to(y).expand(len(y), -1, -1)


@pytest.mark.parametrize("name", ["sosra", "sosra2", "sra3", "shark", "sea", "srk"])
def test_order_one_and_a_half_knows_the_integral_of_the_noise(name: str) -> None:
    """Where g is linear in t and there is no drift, every step is exact."""
    x, noise = torch.ones(5, 3, dtype=torch.float64), BrownianPath(2)
    w, integral = noise.bind(x.shape, dtype=torch.float64)(0.0, 1.0, return_U=True)
    for steps in (1, 7):
        sol = solve(LinearNoise(), x, name, ts=[0.0, 1.0], steps=steps, noise=noise)
        torch.testing.assert_close(sol.final, x + 4 * w - 3 * integral, rtol=1e-9, atol=1e-9)


@functools.cache
def linear_problem() -> tuple[GaussianScore, Tensor, BrownianPath, Tensor]:
    """A score, states, a Brownian path, and where the path takes the states."""
    score, noise = gaussian(mild(), 64).double(), BrownianPath(0, resolution=2.0**-12)
    x = score.sample(8, 1.0, seed=1).double()
    return score, x, noise, exact_end(score, x, noise)


def exact_end(score: GaussianScore, x: Tensor, noise: BrownianPath, parts: int = 512) -> Tensor:
    """x(ε) of the reverse SDE of a VE process and Gaussian data, given W.

    With v = c² + s² and u = T − t, d(x − m) = −g² (x − m) / v du + g dW and dv/du = −g², so

        x(u) − m  =  v(u) / v(0) (x(0) − m)  +  ∫ w dW,        w = g v(u) / v.

    On a short interval w is taken as its tangent at the middle, of which ∫ w dW follows from
    W and ∫ W; what is left out is of the order of (length of an interval)².
    """
    sde = score.sde

    def g_and_v(u: Tensor) -> tuple[Tensor, Tensor]:
        t = sde.T - u
        return sde.diffusion(t), score.std[0] ** 2 + sde.marginal_std(t) ** 2

    us = torch.linspace(0, sde.T - sde.eps, parts + 1, dtype=torch.float64)
    (_, start), (_, end) = g_and_v(us[0]), g_and_v(us[-1])
    bound = noise.bind(x.shape, dtype=torch.float64)
    final = score.mean + end / start * (x - score.mean)
    for a, b in itertools.pairwise(us):
        w, integral = bound(a, b, return_U=True)
        g, v = g_and_v((a + b) / 2)
        # d log w / du, from g = σᵗ and dv/du = −g².
        slope = -math.log(sde.sigma) + g**2 / v
        moment = 0.5 * (b - a) * w - integral  # ∫ (u − middle) dW
        final = final + g * end / v * (w + slope * moment)
    return final


# Beneath these it is not stable enough to show its order.
COARSE = {"explicit_adams": 256}


@functools.cache
def start_and_end() -> tuple[MixtureScore, Tensor, Tensor]:
    """A score, where its flow starts, and where it ends."""
    score = mixture(mild(), 4).double()
    # A start near the border between two components shows no order until the steps are fine.
    x = score.sample(8, 1.0, seed=2).double()
    return score, x, solve(flow(score), x, "dopri8", rtol=1e-13, atol=1e-13, save="last").final


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("row", FIXED_ODE, ids=names(FIXED_ODE))
def test_the_order_of_every_fixed_step_flow_solver(row: Solver, clock: str) -> None:
    if row.order >= 5 and clock != "t":
        pytest.skip("at order 5 and beyond one clock says all: float64 is reached at once")
    score, x, tight = start_and_end()
    coarse = 8 if row.order >= 5 else COARSE.get(row.name, 32)
    closely = {"rtol": 1e-12, "atol": 1e-12} if row.iterates else {}
    errors = [
        rms(
            solve(
                flow(score), x, row.name, steps=n, clock=clock, adaptive=False, save="last",
                options=NOISELESS.get(row.name), **closely,
            ).final
            - tight
        )
        for n in (coarse, 2 * coarse, 4 * coarse)
    ]  # fmt: skip
    # A slope within 0.2 of the order, or an error at the rounding of float64.
    assert slope(errors) > row.order - 0.2 or errors[-1] < 1e-11, errors


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def slope(errors: list[float]) -> float:
    """Order of convergence over grids that halve the step."""
    return math.log2(errors[0] / errors[-1]) / (len(errors) - 1)


# -- cost --------------------------------------------------------------------------

COSTED = [row for row in list_solvers() if row.evaluations is not None]


@pytest.mark.parametrize("row", COSTED, ids=[f"{row.kind}-{row.name}" for row in COSTED])
def test_evaluations_per_step(row: Solver) -> None:
    """Counted at the score itself: nothing for shape checks, last steps of 1e-8, or twice."""
    calls = 0
    score = gaussian()

    def counted(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return score(x, t)

    problem = (reverse if row.kind == "sde" else flow)(score).with_score(counted)
    # Of several samples, each has steps of its own in an adaptive solve.
    x = score.sample(1 if row.adaptive else 3, 1.0, seed=0)
    sol = solve(problem, x, row.name, steps=None if row.adaptive else 20, seed=0, max_nfe=3000)
    assert sol.stats.nfe == calls
    attempts = sol.stats.steps + sol.stats.rejected
    # A stage that two steps share is taken once more at the start; adaptive methods also
    # spend one to choose the first step.
    assert calls - attempts * row.evaluations in ((2,) if row.adaptive else (0, 1))
    assert row.adaptive or attempts == 20


# -- a solver that is not for sampling -----------------------------------------------

LOSES = "reversible_heun ends in another law"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("problem", ["reverse", "η = 0.5"])
def test_a_solver_that_loses_the_law_warns(problem: str) -> None:
    score = gaussian()
    rev = reverse(score, 1.0 if problem == "reverse" else 0.5)
    x = score.sample(2, 1.0, seed=0)
    with pytest.warns(UserWarning, match=f"{LOSES} than that of ReverseSDE: .*'srk'") as caught:
        solve(rev, x, "reversible_heun", steps=200, seed=0)
    assert [w.filename for w in caught] == [__file__]  # one warning, at the caller's line


@pytest.mark.filterwarnings("error")
def test_nothing_else_warns() -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    for grad in (True, "adjoint"):
        solve(reverse(score), x, "reversible_heun", steps=200, seed=0, grad=grad)
    solve(score.sde, x, "reversible_heun", steps=20, seed=0)  # a forward process is not stiff
    for row in SDE_ROWS:
        if row.name != "reversible_heun":
            solve(reverse(score), x, row.name, steps=20, seed=0)


# -- the registry ------------------------------------------------------------------


class _CountingEDM(EDM):
    """EDM that counts how often it is asked."""

    calls = 0

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        _CountingEDM.calls += 1
        return super().coefficients(sde, t)


class _Body(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.tanh(x + label[:, None, None, None])


@pytest.mark.parametrize("row", FIXED, ids=[f"{row.kind}-{row.name}" for row in FIXED])
def test_a_network_s_coefficients_are_computed_for_all_steps_at_once(row: Solver) -> None:
    sde, shape = mild(), (1, 4, 4)
    model = ScoreModel(_Body(), sde, shape, _CountingEDM())
    x = sde.prior_sample((2, *shape), seed=0)
    counts, found = [], []
    for steps in (6, 12):
        _CountingEDM.calls = 0
        problem = PROBLEMS[row.kind](sde, model, shape)
        found.append(solve(problem, x, row.name, steps=steps, adaptive=False, seed=0).final)
        counts.append(_CountingEDM.calls)
    assert counts[0] == counts[1]
    plain = PROBLEMS[row.kind](sde, lambda x, t: model(x, t), shape)
    one_by_one = solve(plain, x, row.name, steps=12, adaptive=False, seed=0).final
    torch.testing.assert_close(found[1], one_by_one)


def test_rows_say_what_they_are() -> None:
    for row in list_solvers():
        assert row.kind in ("sde", "ode")
        assert row.order > 0
        assert row.source
        assert row.advice or row.family != "diffsde"


def test_a_name_is_taken_once() -> None:
    with pytest.raises(InputError, match="'em' of kind 'sde' is there already"):
        register(next(row for row in SDE_ROWS if row.name == "em"))


def test_unknown_names() -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    with pytest.raises(UnknownSolverError, match="did you mean 'dopri5'.*Valid names: .*rk4"):
        solve(flow(score), x, "dorpi5")
    with pytest.raises(UnknownSolverError, match="'srk' solves an SDE, but this problem is an ODE"):
        solve(flow(score), x, "srk")
    with pytest.raises(UnknownSolverError, match="'dopri5' solves an ODE, but this .* an SDE"):
        solve(reverse(score), x, "dopri5")
    with pytest.raises(InputError, match="kind = 'pde'"):
        list_solvers("pde")


def test_a_user_s_torchsde_object() -> None:
    """Noise that depends on the state: geometric Brownian motion, by any of torchsde's methods."""

    class Geometric(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Tensor, y: Tensor) -> Tensor:
            return 0.1 * y

        def g(self, t: Tensor, y: Tensor) -> Tensor:
            return 0.2 * y

    x = torch.ones(4000, 1)
    sol = solve(Geometric(), x, "milstein", ts=[0.0, 1.0], steps=50, seed=0)
    assert sol.final.log().mean() == pytest.approx(0.1 - 0.02, abs=0.015)
    assert sol.final.log().std() == pytest.approx(0.2, abs=0.01)
    with pytest.raises(InputError, match="heun solves stratonovich SDEs, but Geometric is ito"):
        solve(Geometric(), x, "heun", ts=[0.0, 1.0], steps=5)
    with pytest.raises(InputError, match="em is for noise that does not depend on the state"):
        solve(Geometric(), x, "em", ts=[0.0, 1.0], steps=5)
    with pytest.raises(InputError, match="give ts="):
        solve(Geometric(), x, "milstein", steps=5)


def test_a_user_s_ode() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    sol = solve(lambda t, y: -y, x, "rk4", ts=[0.0, 1.0], steps=20)
    assert torch.allclose(sol.final, x * math.exp(-1), atol=1e-7)
    back = solve(lambda t, y: -y, sol.final, "rk4", ts=[1.0, 0.0], steps=20)
    assert torch.allclose(back.final, x, atol=1e-7)


def test_the_forward_sde_solves_too() -> None:
    score = gaussian()
    x0 = score.sample(many(500), 0.0, seed=0)
    sol = solve(score.sde, x0, "srk", steps=finer(60), seed=1, save=[0.0, 0.3, 1.0])
    for t, state in zip(sol.ts.tolist()[1:], sol.ys[1:], strict=True):
        assert_same_law(state, score.sample(many(5000), t, seed=2), f"at t = {t}")
