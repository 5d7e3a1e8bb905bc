"""Gradients through a solve: by back-propagation and by the adjoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde import BrownianPath, InputError, ProbabilityFlow, ReverseSDE, list_solvers, solve
from diffsde.solvers.registry import Solver
from tests.problems import mild, mixture

# Sweeps over all solvers hold one that warns, as it should: see test_a_solver_that_loses_the_law.
pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

ROWS = list_solvers()
NAMES = [f"{row.kind}-{row.name}" for row in ROWS]
MIXTURE = mixture(mild(), 3).double()
X = MIXTURE.sample(2, 1.0, seed=0).double()
WEIGHTS = torch.linspace(-1, 2, X.numel(), dtype=torch.float64).reshape(X.shape)


class Scaled(nn.Module):
    """A score with a parameter: θ times the exact one."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.9, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        return self.theta * MIXTURE(x, t)


def loss(row: Solver, x: Tensor, theta: float | None = None, **how: Any) -> tuple[Tensor, Scaled]:
    """A scalar of the final state, and the score whose parameter it depends on."""
    score = Scaled()
    if theta is not None:
        score.theta.data.fill_(theta)
    problem = (ReverseSDE if row.kind == "sde" else ProbabilityFlow)(MIXTURE.sde, score, (3,))
    # With this seed no sample passes the fork between the clusters, where gradients explode.
    seed = None if "noise" in how else 3
    sol = solve(problem, x, row.name, seed=seed, **how)
    return (WEIGHTS * sol.final).sum(), score


def gradients(row: Solver, grad: bool | str, **how: Any) -> tuple[Tensor, Tensor]:
    """With respect to the states at the start and to θ."""
    x = X.clone().requires_grad_()
    value, score = loss(row, x, grad=grad, **how)
    return torch.autograd.grad(value, [x, score.theta])


# SciPy's solvers know no gradients.
PLAIN = [row for row in ROWS if row.one_step is not None]


@pytest.mark.parametrize("row", PLAIN, ids=[f"{row.kind}-{row.name}" for row in PLAIN])
def test_back_propagation_against_finite_differences(row: Solver) -> None:
    how = {
        "steps": 5,
        "adaptive": False,
        **({"rtol": 1e-13, "atol": 1e-13} if row.iterates else {}),
    }
    by_x, by_theta = gradients(row, grad=True, **how)
    h = 1e-6
    along = torch.linspace(1, -1, X.numel(), dtype=torch.float64).reshape(X.shape)
    up, down = (loss(row, X + sign * h * along, **how)[0] for sign in (1, -1))
    assert float((by_x * along).sum()) == pytest.approx(float(up - down) / (2 * h), rel=1e-5)
    up, down = (loss(row, X, theta=0.9 + sign * h, **how)[0] for sign in (1, -1))
    assert float(by_theta) == pytest.approx(float(up - down) / (2 * h), rel=1e-5)


def test_back_propagation_through_steps_that_adapt() -> None:
    row = next(row for row in ROWS if row.name == "dopri5")
    fixed = gradients(row, grad=True, steps=100, adaptive=False)
    own = gradients(row, grad=True, rtol=1e-8, atol=1e-8)
    for a, b in zip(own, fixed, strict=True):
        assert torch.allclose(a, b, rtol=1e-4)


def test_no_graph_is_kept_unless_asked_for() -> None:
    value, _ = loss(PLAIN[0], X.clone().requires_grad_(), steps=3)
    assert not value.requires_grad


# -- the adjoint -----------------------------------------------------------------------

ADJOINT = [row for row in ROWS if row.family in ("torchsde", "torchdiffeq")]
TIGHT = {"rtol": 1e-8, "atol": 1e-8}
TIGHT_ENOUGH = {"rtol": 1e-6, "atol": 1e-6}  # order 2 would take a minute for more
EXACT = {"reversible_heun": 1e-10}  # its steps are undone
# explicit_adams starts anew between two nodes on the way back, and implicit_adams iterates.
# A scheme of order 1 for the SDE has an adjoint that is off by its step, here 1/80.
LOOSE = {"euler": 0.1, "euler_heun": 0.1, "milstein": 0.1, "srk": 0.1}
LOOSE |= {"heun": 0.03, "midpoint": 0.03, "log_ode": 0.03}


@pytest.mark.parametrize("row", ADJOINT, ids=[f"{row.kind}-{row.name}" for row in ADJOINT])
def test_the_adjoint_against_back_propagation(row: Solver) -> None:
    tight = TIGHT_ENOUGH if row.order <= 2 else TIGHT
    how: dict[str, Any] = tight if row.adaptive else {"steps": 80}
    found = gradients(row, grad="adjoint", **how)
    if row.name == "scipy_solver":
        exact = gradients(next(r for r in ROWS if r.name == "dopri5"), grad=True, **TIGHT)
    else:
        exact = gradients(row, grad=True, **how)
    tolerance = EXACT.get(row.name, LOOSE.get(row.name, 0.01))
    for a, b in zip(found, exact, strict=True):
        assert float((a - b).norm() / b.norm()) < tolerance


@pytest.mark.parametrize("name", ["euler", "midpoint"])
def test_the_adjoint_converges_to_back_propagation(name: str) -> None:
    row = next(row for row in ROWS if row.name == name and row.kind == "ode")

    def gap(steps: int) -> float:
        found, exact = (gradients(row, grad, steps=steps)[0] for grad in ("adjoint", True))
        return float((found - exact).norm())

    # The gradient of the equation and that of the scheme differ by the order of the scheme.
    assert gap(80) < gap(40) / (1.7 if name == "euler" else 3.4)


@pytest.mark.parametrize("row", ADJOINT, ids=[f"{row.kind}-{row.name}" for row in ADJOINT])
def test_the_adjoint_s_path_is_that_of_the_solve(row: Solver) -> None:
    """The same nodes, the same noise, the same states: in float64, and in float32."""
    kind = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    for score, atol in ((MIXTURE, 1e-6), (mixture(mild(), 3), 1e-3)):
        x = score.sample(2, 1.0, seed=0).to(score.means)
        how: dict[str, Any] = {"steps": 12, "clock": "karras"}
        if row.adaptive or row.iterates:
            how.update(rtol=1e-6, atol=1e-6)
        problem = kind(score.sde, score, (3,))
        plain, adjoint = (
            solve(problem, x, row.name, seed=1, grad=g, **how) for g in (False, "adjoint")
        )
        assert torch.equal(adjoint.ts, plain.ts)
        # torchdiffeq's wrapper of SciPy interpolates between steps, to the tolerance's order; its
        # adaptive methods take other steps than ours, each to the tolerance.
        near = 1e-4 if row.adaptive else atol
        assert torch.allclose(adjoint.ys, plain.ys, atol=max(near, atol)), row.name


def test_the_adjoint_on_a_brownian_path() -> None:
    row = next(row for row in ROWS if row.name == "reversible_heun")
    how: dict[str, Any] = {"steps": 40, "noise": BrownianPath(5)}
    found, exact = gradients(row, grad="adjoint", **how), gradients(row, grad=True, **how)
    assert torch.allclose(found[0], exact[0], rtol=1e-8)


def test_the_adjoint_evaluates_on_the_way_back() -> None:
    """And keeps no graph on the way there."""
    calls = 0

    def counted(x: Tensor, t: Tensor | float) -> Tensor:
        nonlocal calls
        calls += 1
        return MIXTURE(x, t)

    x = X.clone().requires_grad_()
    flow = ProbabilityFlow(MIXTURE.sde, counted, (3,))
    sol = solve(flow, x, "rk4", steps=10, grad="adjoint", max_nfe=40)
    assert calls == sol.stats.nfe == 40
    sol.final.sum().backward()
    assert calls == 80


def test_what_has_no_adjoint() -> None:
    flow, rev = (kind(MIXTURE.sde, MIXTURE, (3,)) for kind in (ProbabilityFlow, ReverseSDE))
    with pytest.raises(InputError, match="dpmpp_2m is neither torchsde's nor torchdiffeq's"):
        solve(flow, X, "dpmpp_2m", steps=5, grad="adjoint")
    with pytest.raises(InputError, match="dopri5 has no adjoint with fixed steps"):
        solve(flow, X, "dopri5", steps=5, adaptive=False, grad="adjoint")
    with pytest.raises(InputError, match="srk has no adjoint with steps of its own"):
        solve(rev, X, "srk", adaptive=True, grad="adjoint")
    with pytest.raises(InputError, match="takes even steps in the clock"):
        solve(flow, X, "rk4", steps=5, save=[0.7, 0.1], grad="adjoint")
    with pytest.raises(InputError, match="grad = 'adjoin': expected True, False or 'adjoint'"):
        solve(flow, X, "rk4", steps=5, grad="adjoin")


# -- other scores and places ------------------------------------------------------------


class Small(nn.Module):
    """A network with nothing in it that a compiler stumbles over."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        column = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x), 1)
        return self.body(torch.cat([x, column], 1)) - x


def small_problems(score: Any) -> tuple[ProbabilityFlow, ReverseSDE]:
    return ProbabilityFlow(mild(), score, (3,)), ReverseSDE(mild(), score, (3,))


def test_a_compiled_score() -> None:
    torch.manual_seed(0)
    score = Small()
    compiled = torch.compile(score, backend="aot_eager")
    x = X.float()
    for plain, fast in zip(small_problems(score), small_problems(compiled), strict=True):
        a, b = (solve(p, x, "euler", steps=4, seed=0, grad=True).final for p in (plain, fast))
        assert torch.allclose(a, b, atol=1e-5)
        by_a, by_b = (torch.autograd.grad(y.sum(), score.body[0].weight)[0] for y in (a, b))
        assert torch.allclose(by_a, by_b, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA reaches")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_on_the_gpu(row: Solver) -> None:
    """The same noise, so the same path as on the CPU."""
    torch.manual_seed(0)
    x, index = X.float(), 0 if row.kind == "ode" else 1
    score = Small()
    here = solve(small_problems(score)[index], x, row.name, steps=8, seed=0).final
    there = solve(small_problems(score.cuda())[index], x.cuda(), row.name, steps=8, seed=0).final
    assert there.is_cuda
    assert torch.allclose(there.cpu(), here, rtol=1e-3, atol=1e-3)
