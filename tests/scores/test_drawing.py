"""A model draws its own samples, by the same solves that one would write oneself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde.cli import sampling
from diffsde.equations.reverse import ProbabilityFlow, ReverseSDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError, UnknownSolverError
from diffsde.scores.guidance import classifier_free
from diffsde.scores.labels import random_classes
from diffsde.scores.model import ScoreModel
from diffsde.scores.usual import CLOCK, METHODS, STEPS
from diffsde.solvers.catalogue import list_solvers
from diffsde.solvers.solving import solve


class Classes(nn.Module):
    """The score of N(0.1 (1 + class), 0.3²) for three classes, of N(0, 0.3²) for none."""

    classes = 3

    def __init__(self, sde: VESDE | VPSDE) -> None:
        super().__init__()
        self.sde = sde
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        along = (len(x), *[1] * (x.dim() - 1))
        scale, std = (
            part(t).reshape(along) for part in (self.sde.marginal_scale, self.sde.marginal_std)
        )
        mean = 0.0 if label is None else 0.1 * (1 + label.reshape(along))
        score: Tensor = (scale * mean - x) / ((0.3 * scale) ** 2 + std**2)
        return score * self.weight


def model(shape: tuple[int, ...] = (2,), sde: VESDE | VPSDE | None = None) -> ScoreModel:
    sde = VESDE() if sde is None else sde
    return ScoreModel(Classes(sde), sde, shape)


METHODS_OF_EACH_KIND = [(row.name, row.kind) for row in list_solvers() if not row.loses_law]


@pytest.mark.parametrize(("method", "kind"), METHODS_OF_EACH_KIND)
@pytest.mark.parametrize("shape", [(2,), (2, 3), (1, 2, 2)])
def test_a_sample_is_the_solve_that_one_would_write(
    method: str, kind: str, shape: tuple[int, ...]
) -> None:
    own, given = model(shape), {"steps": 4, "clock": "log_sigma", "seed": 3}
    x = own.sde.prior_sample((2, *shape), seed=3)
    problem = {"sde": ReverseSDE, "ode": ProbabilityFlow}[kind](own.sde, own, shape)
    expected = solve(problem, x, method, denoise=True, **given)
    found = own.sample(2, method=method, kind=kind, **given)
    assert found.kind == kind
    assert torch.equal(found.ys, expected.ys)
    assert torch.equal(found.ts, expected.ts)


def test_what_is_left_out_is_usual() -> None:
    own = model()
    for kind in ("sde", "ode"):
        found, fixed = own.sample(2, kind=kind, seed=0), {"clock": CLOCK, "steps": STEPS, "seed": 0}
        assert torch.equal(found.ys, own.sample(2, method=METHODS[kind], **fixed).ys)
        assert (found.method, found.stats.steps) == (METHODS[kind], STEPS)
    assert own.sample(1, seed=0).method == METHODS["sde"]


def test_the_command_line_has_the_same_defaults() -> None:
    ours = {k: p.default for k, p in inspect.signature(ScoreModel.sample).parameters.items()}
    for command in (sampling.sample, sampling.explore):
        theirs = {k: p.default for k, p in inspect.signature(command).parameters.items()}
        shared = (ours.keys() & theirs.keys()) - {"n", "seed", "steps"}
        assert {"method", "clock", "label", "guidance", "eta", "denoise"} <= shared
        assert {k: theirs[k] for k in shared} == {k: ours[k] for k in shared}


def test_an_adaptive_method_takes_its_own_steps() -> None:
    free = model().sample(2, method="dopri5", seed=0, rtol=1e-3, atol=1e-3)
    assert free.stats.steps != STEPS
    assert model().sample(2, method="dopri5", seed=0, adaptive=False).stats.steps == STEPS


def test_sample_i_depends_on_its_number_alone() -> None:
    whole = model().sample(5, steps=6, seed=1).final
    assert torch.equal(model().sample(2, steps=6, seed=1).final, whole[:2])


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_a_class_is_that_of_the_guided_score(guidance: float) -> None:
    own = model()
    label = torch.tensor([0, 2])
    found = own.sample(2, steps=5, seed=0, label=label, guidance=guidance)
    guided = ReverseSDE(own.sde, classifier_free(own, label, guidance), own.shape)
    x = own.sde.prior_sample((2, 2), seed=0)
    expected = solve(guided, x, METHODS["sde"], steps=5, clock=CLOCK, seed=0, denoise=True)
    assert torch.equal(found.ys, expected.ys)


@pytest.mark.parametrize("method", ["sde_dpmpp_2m", "dpmpp_2m", "dopri5"])
def test_a_random_class_is_drawn_first(method: str) -> None:
    own, given = model(), {"method": method, "steps": 4, "seed": 7, "save": "last"}
    whole = own.sample(5, label="random", **given).final
    classes = random_classes(own.classes, 7, range(5))
    assert len(set(classes.tolist())) > 1
    assert torch.equal(whole, own.sample(5, label=classes, **given).final)
    assert torch.equal(whole[:2], own.sample(2, label="random", **given).final)
    assert torch.equal(whole, own.sample(5, label="random", chunk=2, **given).final)
    assert not torch.equal(whole, own.sample(5, **given).final)


@pytest.mark.parametrize("method", ["heun2", "dpmpp_2m", "dopri5"])
def test_a_class_goes_with_its_sample_between_the_states_of_a_chunk(method: str) -> None:
    given = {"method": method, "steps": 4, "seed": 7, "denoise": False, "label": "random"}
    whole, parts = model().sample(5, **given), model().sample(5, chunk=2, **given)
    assert torch.equal(parts(0.37), whole(0.37))


def test_random_classes_are_as_frequent_as_they_are_said_to_be() -> None:
    labels = torch.tensor([4, 0, 4, 1])
    for among, expected in ((5, [0.2] * 5), (labels, [0.25, 0.25, 0, 0, 0.5])):
        drawn = random_classes(among, 0, range(3000))
        assert torch.equal(drawn[1000:1010], random_classes(among, 0, range(1000, 1010)))
        shares = torch.bincount(drawn, minlength=5) / 3000
        # Five standard deviations of a share of one half, the largest.
        assert (shares - torch.tensor(expected)).abs().max() < 5 * (0.25 / 3000) ** 0.5
        assert not torch.equal(drawn, random_classes(among, 1, range(3000)))


def test_the_dial() -> None:
    own = model()
    assert own.reverse(0.5).eta == 0.5
    assert torch.equal(
        own.sample(2, method="euler", steps=5, seed=0, eta=0.0).final,
        own.sample(2, method="euler", steps=5, seed=0, kind="sde", eta=0).final,
    )
    assert isinstance(own.flow(), ProbabilityFlow)


def test_states_are_of_the_dtype_asked_for() -> None:
    assert model().sample(1, steps=2, seed=0, dtype=torch.float64).ys.dtype == torch.float64


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"n": 0}, InputError, "n = 0"),
    ({"method": "eulr"}, UnknownSolverError, "euler"),
    ({"kind": "pde"}, InputError, "kind = 'pde'"),
    ({"method": "heun2", "kind": "sde"}, UnknownSolverError, "heun2"),
    ({"label": 3}, InputError, "expected 0 to 2"),
    ({"label": -1}, InputError, "expected 0 to 2"),
    ({"label": 0.5}, InputError, "expected 0 to 2"),
    ({"label": "rndom"}, InputError, "'rndom': expected 0 to 2, .* 'random'"),
    ({"guidance": 2.0}, InputError, "give label="),
    ({"label": 1, "guidance": float("nan")}, InputError, "finite"),
    ({"kind": "ode", "eta": 0.5}, InputError, "eta"),
    ({"clock": "sgma"}, InputError, "sigma"),
]


@pytest.mark.parametrize(("given", "error", "words"), BAD)
def test_bad_input_is_refused_before_the_network_is_called(
    given: dict[str, Any], error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("the network was called")

    own = model()
    monkeypatch.setattr(own.network, "forward", refuse)
    with pytest.raises(error, match=words):
        own.sample(**{"n": 2, "seed": 0, **given})


def test_a_model_without_classes_takes_no_label() -> None:
    own = model()
    own.network.classes = 0  # type: ignore[assignment]
    with pytest.raises(InputError, match="no class labels"):
        own.sample(1, label=0)
    with pytest.raises(InputError, match="label = 'random': this score takes no class labels"):
        own.sample(1, label="random")
