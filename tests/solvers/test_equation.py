"""What a method asks of an equation: coefficients computed once, shared starts, unknown methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde import (
    BrownianPath,
    InputError,
    ProbabilityFlow,
    ReverseSDE,
    ScoreModel,
    classifier_free,
    classifier_guided,
    inpainting,
    solve,
)
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import UnknownSolverError
from diffsde.scores.preconditioning import EDM, Coefficients
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.solvers.catalogue import list_solvers
from diffsde.solvers.methods import torchdiffeq
from diffsde.solvers.methods.torchdiffeq_parts import (
    FixedGridODESolver,
    RKAdaptiveStepsizeODESolver,
)
from diffsde.solvers.registry import REGISTRY
from tests.problems import mild, mixture, reverse

# Sweeps over all solvers hold one that warns, as it should: see test_a_solver_that_loses_the_law.
pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

SHAPE = (1, 8, 8)


class CountingEDM(EDM):
    """Counts how often coefficients are computed."""

    calls = 0

    def coefficients(self, sde: Any, t: Tensor) -> Coefficients:
        type(self).calls += 1
        return super().coefficients(sde, t)


@pytest.fixture
def model() -> ScoreModel:
    torch.manual_seed(0)
    CountingEDM.calls = 0
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=3)
    return ScoreModel(network, VESDE(), SHAPE, CountingEDM(0.5)).eval()


class Louder(ScoreModel):
    """A subclass that writes its own forward, with arithmetic on t."""

    def forward(self, x: Tensor, t: Any, class_label: Any = None) -> Tensor:
        return super().forward(x, t, class_label) * (1 + 0 * t)


def half(score: Any) -> Any:
    image, mask = torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)
    mask[..., :4] = 1
    return inpainting(score, VESDE(), image, mask, data_std=0.5)


def logits(x: Tensor, t: Tensor | float) -> Tensor:
    return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)


WRAPPED: dict[str, Callable[[ScoreModel], Any]] = {
    "itself": lambda m: m,
    "classifier-free": lambda m: classifier_free(m, 1, 2.0),
    "classifier": lambda m: classifier_guided(m, logits, 1),
    "inpainting": half,
    "both": lambda m: half(classifier_free(m, 1, 2.0)),
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled network": lambda m: _with_compiled_network(m),
    "a subclass": lambda m: type("Mine", (ScoreModel,), {})(m.network, m.sde, SHAPE, CountingEDM()),
}


def _with_compiled_network(model: ScoreModel) -> ScoreModel:
    network: Any = torch.compile(model.network, backend="eager")
    return ScoreModel(network, model.sde, SHAPE, model.preconditioning)


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("method", ["em", "sde_dpmpp_2m", "srk"])
def test_coefficients_are_computed_for_a_grid_at_once(
    model: ScoreModel, name: str, method: str
) -> None:
    """However many steps there are: once for each place of a stage within a step."""
    x = model.sde.prior_sample((2, *SHAPE), seed=0)
    problem = ReverseSDE(model.sde, WRAPPED[name](model), SHAPE)
    calls = []
    for steps in (4, 12):
        CountingEDM.calls = 0
        solve(problem, x, method, steps=steps, clock="karras", seed=0)
        calls.append(CountingEDM.calls)
    assert calls[0] == calls[1] <= 3


@pytest.mark.parametrize("name", WRAPPED)
def test_prepared_coefficients_change_no_state(model: ScoreModel, name: str) -> None:
    """Against the same score as a plain function, which is called at each time."""
    score = WRAPPED[name](model)
    x = model.sde.prior_sample((2, *SHAPE), seed=0)
    known = solve(ProbabilityFlow(model.sde, score, SHAPE), x, "heun2", steps=6, clock="karras")
    plain = ProbabilityFlow(model.sde, lambda x, t: score(x, t), SHAPE)
    fresh = solve(plain, x, "heun2", steps=6, clock="karras")
    # A plain function does not say how many evaluations of the network a call costs.
    assert known.stats.nfe == fresh.stats.nfe * getattr(score, "evaluations", 1)
    torch.testing.assert_close(known.ys, fresh.ys, rtol=1e-4, atol=1e-5)  # rounding of float32


def test_a_subclass_with_its_own_forward_is_called_with_times(model: ScoreModel) -> None:
    own = Louder(model.network, model.sde, SHAPE, model.preconditioning)
    x = model.sde.prior_sample((2, *SHAPE), seed=0)
    found, expected = (
        solve(ProbabilityFlow(model.sde, m, SHAPE), x, "heun2", steps=4).final for m in (own, model)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", list_solvers(), ids=lambda row: f"{row.kind}-{row.name}")
def test_every_solver_under_inference_mode(row: Any) -> None:
    """No method tells states apart by version counters, which inference tensors do not have."""
    score = mixture(mild(), dims=4)
    kind = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    problem = kind(score.sde, score, (4,))
    x = score.sde.prior_sample((3, 4), seed=0)
    expected = solve(problem, x, row.name, steps=8, seed=1, clock="log_sigma")
    with torch.inference_mode():
        found = solve(problem, x, row.name, steps=8, seed=1, clock="log_sigma")
    assert torch.equal(found.ys, expected.ys)
    assert found.stats.nfe == expected.stats.nfe


@pytest.mark.parametrize("method", ["euler", "heun", "srk", "sosra"])
def test_the_whole_step_and_its_first_half_share_their_start(method: str) -> None:
    """Step doubling evaluates the drift of a step of s stages 3 s − 1 times, not 3 s."""
    problem = reverse(mixture(mild()))
    x = problem.sde.prior_sample((1, 32), seed=0)
    sol = solve(
        problem, x, method, steps=1, adaptive=True, rtol=1e3, atol=1e3,
        noise=BrownianPath(0), options={"first_step": 10.0},
    )  # fmt: skip
    (row,) = (row for row in list_solvers("sde") if row.name == method)
    assert row.evaluations is not None
    assert (sol.stats.steps, sol.stats.rejected) == (1, 0)
    assert sol.stats.nfe == 3 * row.evaluations - 1


class DiagonalSDE(nn.Module):
    """A user's SDE for which srk asks at the start of a step for the drift at two states."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return -y

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.3 * y


def test_no_start_is_shared_where_a_method_asks_there_at_several_states() -> None:
    import torchsde

    x, ts = torch.rand(3, 2, dtype=torch.float64), torch.linspace(0, 1, 6).double()
    sol = solve(DiagonalSDE(), x, "srk", ts=ts, noise=BrownianPath(0))
    bm = BrownianPath(0).bind((3, 2), dtype=torch.float64)
    expected = torchsde.sdeint(DiagonalSDE(), x, ts, bm=bm, method="srk", dt=0.2)
    # torchsde adds up its times; a drift of another state would be off by some thousandths.
    torch.testing.assert_close(sol.final, expected[-1], rtol=1e-6, atol=1e-6)


class Implicit(FixedGridODESolver):
    """Stands for a method that a later torchdiffeq brings."""

    order = 4

    def _step_func(self, func: Any, t0: Tensor, dt: Tensor, t1: Tensor, y0: Tensor) -> Any:
        slope = func(t0, y0)
        return dt * slope, slope


class Unfinished(FixedGridODESolver):
    """A fixed grid without a step."""


class NoTableau(RKAdaptiveStepsizeODESolver):
    """An adaptive method of another making, such as an implicit one."""

    order = 4


class ElsewhereMade:
    """A method that shares no class with those of today."""


class Renamed(torchdiffeq.SOLVERS["dopri5"]):  # type: ignore[misc, valid-type]
    """An adaptive method like today's."""


def test_rows_of_a_later_torchdiffeq_are_marked_or_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coming = {
        "gauss4": Implicit, "unfinished": Unfinished, "rosenbrock": NoTableau,
        "elsewhere": ElsewhereMade, "dopri6": Renamed,
    }  # fmt: skip
    rows = {row.name: row for row in torchdiffeq._rows({**torchdiffeq.SOLVERS, **coming})}
    assert rows.keys() == torchdiffeq.SOLVERS.keys() | {"gauss4", "dopri6"}
    for name in ("gauss4", "dopri6"):
        assert "Not known to this version of diffsde" in rows[name].advice
        assert rows[name].evaluations is None
        monkeypatch.setitem(REGISTRY, ("ode", name), rows[name])
    flow = ProbabilityFlow(VESDE(), lambda x, t: -x, (4,))
    found, known = (solve(flow, torch.ones(2, 4), name).final for name in ("dopri6", "dopri5"))
    assert torch.equal(found, known)
    assert rows["gauss4"].iterates
    with pytest.raises(UnknownSolverError, match="rosenbrock"):
        solve(flow, torch.ones(2, 4), "rosenbrock")


def test_a_method_of_a_later_torchdiffeq_says_so_and_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(torchdiffeq.SOLVERS, "gauss4", Implicit)
    row = torchdiffeq._row("gauss4", Implicit)
    assert row.evaluations is None
    assert "Not known to this version of diffsde" in row.advice
    monkeypatch.setitem(REGISTRY, ("ode", "gauss4"), row)

    flow = ProbabilityFlow(VESDE(), lambda x, t: -x, (1, 28, 28))
    with pytest.raises(InputError, match=r"gauss4 of torchdiffeq .* 50176 by 50176 .* 10.1 GB"):
        solve(flow, torch.ones(64, 1, 28, 28), "gauss4", steps=2)
    assert solve(flow, torch.ones(1, 1, 28, 28), "gauss4", steps=2).stats.steps == 2
