"""The atlas: its cells are right, are kept, and are not done again."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import InputError, MixtureScore, solve
from diffsde.analysis.budgets import work_precision
from diffsde.analysis.laws import law_errors
from diffsde.analysis.work_table import WorkPrecision, WorkRow
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.equations.variance_exploding import VESDE
from diffsde.evaluation import atlas as module
from diffsde.evaluation.atlas import EXACT, Rival, exact_mixture, make_atlas
from diffsde.evaluation.atlas_plots import plot_atlas
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable
from diffsde.evaluation.samplers import Sampler
from diffsde.evaluation.scoring import Evaluation
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM

SCORE = exact_mixture()
RIVALS = [Rival("dpmpp_2m", "ode"), Rival("heun_edm", "ode"), Rival("ddim", "sde", "log_sigma")]
HOW: dict[str, Any] = {"n": 200, "paths": 4, "progress": False}


def test_a_mixture_s_cells(tmp_path: Path) -> None:
    """Each number by the function that it comes from, without a denoising evaluation."""
    found = make_atlas({"mixture": SCORE}, RIVALS, [3, 4, 5], out=tmp_path, **HOW)
    assert [(row.method, row.nfe) for row in found.rows] == [
        ("dpmpp_2m", 3), ("dpmpp_2m", 4), ("dpmpp_2m", 5),
        ("heun_edm", 2), ("heun_edm", 4),  # which 5 evaluations pay for, too
        ("ddim", 3), ("ddim", 4), ("ddim", 5), (EXACT, 0),
    ]  # fmt: skip
    flow = ProbabilityFlow(SCORE.sde, SCORE, SCORE.shape)
    table = work_precision(flow, ["dpmpp_2m", "heun_edm"], [3, 4, 5], n=4, clock="karras")
    assert [row.error for row in found.rows[:5]] == [row.error for row in table.rows]
    assert all(row.reference < 0.1 * row.error for row in found.rows[:5])
    x = SCORE.sample(2000, 1.0, seed=0)  # ten times as many as images
    end = solve(flow, x, "dpmpp_2m", steps=5, clock="karras", save="last").final
    row = found.rows[2]
    assert (row.moments, row.ks, row.wasserstein) == law_errors(end, SCORE, SCORE.sde.eps)
    best = found.rows[-1]
    assert found.rows[3].wasserstein > 10 * best.wasserstein
    assert math.isnan(best.error)


def test_a_rival_with_options_is_a_row_of_its_own(tmp_path: Path) -> None:
    """By errors with these options, and beside the same solver without them."""
    rivals = [Rival("unipc", "ode"), Rival("unipc", "ode", options={"last_order": 1})]
    found = make_atlas({"mixture": SCORE}, rivals, [5], out=tmp_path, **HOW)
    whole, lowered, _ = found.rows
    assert (whole.name, lowered.name) == ("ode unipc, karras", "ode unipc, karras, last_order=1")
    flow = ProbabilityFlow(SCORE.sde, SCORE, SCORE.shape)
    how: dict[str, Any] = {"clock": "karras", "options": {"last_order": 1}}
    (row,) = work_precision(flow, ["unipc"], [5], n=4, **how).rows
    assert (row.error, row.name) == (lowered.error, "unipc, last_order=1")
    assert row.error != whole.error
    end = solve(flow, SCORE.sample(2000, 1.0, seed=0), "unipc", steps=5, save="last", **how).final
    assert lowered.ks == law_errors(end, SCORE, SCORE.sde.eps).ks != whole.ks
    again = make_atlas({"mixture": SCORE}, rivals, [5], out=tmp_path, **HOW)
    assert again == found


class Body(torch.nn.Module):
    """A network that costs nothing."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.tanh(x + label[:, None, None, None])


def cheap() -> ScoreModel:
    model = ScoreModel(Body(), VESDE(), (1, 28, 28), EDM(0.33))
    model.data = "mnist"
    return model


SCORES = Evaluation(200, 6.0, 0.1, 1.5, 0.2, 0.1, 0.9, 0.8, 0.75, (0.1,) * 10, "mnist", "own")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What images were asked for; they are neither drawn nor scored, which has its own tests."""
    asked: list[Any] = []

    def evaluated(model: Any, samplers: Any, n: int, **how: Any) -> EvaluationTable:
        asked.append((samplers, n, how["seed"], how["data"].name))
        return EvaluationTable((EvaluationRow(samplers[0], 0, SCORES),), SCORES)

    monkeypatch.setattr(module, "evaluate_samplers", evaluated)
    return asked


def test_a_network_s_cells(tmp_path: Path, asked: list[Any]) -> None:
    """The last of the evaluations removes noise, for errors as for images."""
    model = cheap()
    how = HOW | {"seed": 3}
    found = make_atlas({"own": model}, RIVALS[:1], [3, 5], out=tmp_path, **how)
    assert [(row.steps, row.nfe) for row in found.rows] == [(2, 3), (4, 5)]
    samplers = [Sampler("dpmpp_2m", "ode", steps, "karras", denoise=True) for steps in (2, 4)]
    assert asked == [([sampler], 200, 3, "mnist") for sampler in samplers]
    assert {(row.ratio, row.confident) for row in found.rows} == {(4.0, 0.75)}
    assert all(math.isnan(row.ks) for row in found.rows)
    table = work_precision(
        model.flow(), ["dpmpp_2m"], [3, 5], n=4, seed=3, clock="karras", denoise=True
    )
    assert [row.error for row in found.rows] == [row.error for row in table.rows]


def test_a_cell_that_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C, too; but another seed, number or network is another cell."""
    done: list[int] = []

    def counted(x: Any, *rest: Any) -> Any:
        done.append(len(x))
        if len(done) == 3:
            raise KeyboardInterrupt
        return law_errors(x, *rest)

    monkeypatch.setattr(module, "law_errors", counted)
    networks: dict[str, ScoreModel | MixtureScore] = {"mixture": SCORE}
    with pytest.raises(KeyboardInterrupt):
        make_atlas(networks, RIVALS[:1], [3, 4, 5], out=tmp_path, **HOW)
    whole = make_atlas(networks, RIVALS[:1], [3, 4, 5], out=tmp_path, **HOW)
    assert len(done) == 5  # two, the one that was interrupted, that one again, and the exact one
    strong = pytest.MonkeyPatch()
    strong.setattr(module, "work_precision", lambda *_, **__: pytest.fail("done again"))
    assert repr(make_atlas(networks, RIVALS[:1], [3, 4, 5], out=tmp_path, **HOW)) == repr(whole)
    strong.undo()
    assert len(done) == 5
    make_atlas(networks, RIVALS[:1], [4, 6], out=tmp_path, **HOW)
    assert len(done) == 6  # the one of six evaluations
    make_atlas(networks, RIVALS[:1], [4], out=tmp_path, **HOW | {"seed": 1})
    other = MixtureScore(VESDE(), SCORE.means, 0.25)
    make_atlas({"mixture": other}, RIVALS[:1], [4], out=tmp_path, **HOW)
    assert len(done) == 10


def test_a_solver_that_blows_up_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its law is not asked for."""
    row = WorkRow("dpmpp_2m", "karras", 3, 2, 0.1, math.inf, 1e-6)
    table = WorkPrecision((row,), "strong")
    monkeypatch.setattr(module, "work_precision", lambda *_, **__: table)
    found = make_atlas({"mixture": SCORE}, RIVALS[:1], [3], out=tmp_path, **HOW).rows[0]
    assert math.isinf(found.error)
    assert math.isnan(found.ks)
    assert repr(make_atlas({"mixture": SCORE}, RIVALS[:1], [3], out=tmp_path, **HOW))


@pytest.mark.usefixtures("asked")
def test_the_table_and_its_pictures(tmp_path: Path) -> None:
    networks: dict[str, ScoreModel | MixtureScore] = {"mixture": SCORE, "own": cheap()}
    found = make_atlas(networks, RIVALS[:2], [3, 4], out=tmp_path / "kept", **HOW)
    assert found.networks == ["mixture", "own"]
    with found.save(tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [row.network for row in found.rows]
    assert rows[0]["ratio"] == ""
    assert float(rows[-1]["ratio"]) == pytest.approx(found.rows[-1].ratio, rel=1e-5)
    assert "wasserstein" in repr(found.of("mixture"))
    assert "wasserstein" not in repr(found.of("own"))
    for name, panels in (("mixture", 4), ("own", 3)):
        figure = plot_atlas(found.of(name), tmp_path / f"{name}.png")
        assert len(figure.axes) == panels
        assert [line.get_label() for line in figure.axes[0].lines][:2] == [
            "ode dpmpp_2m, karras", "ode heun_edm, karras",
        ]  # fmt: skip
    with pytest.raises(InputError, match="2 networks: expected one"):
        plot_atlas(found)


def test_all_data_are_there_before_the_work_begins(tmp_path: Path) -> None:
    nameless = cheap()
    nameless.data = None
    networks: dict[str, ScoreModel | MixtureScore] = {"mixture": SCORE, "own": nameless}
    with pytest.raises(InputError, match="data"):
        make_atlas(networks, RIVALS[:1], [3], out=tmp_path, **HOW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rivals": []}, "at least one"),
        ({"rivals": [Rival("ddim", "ode")] * 2}, "given twice"),
        ({"rivals": [Rival("dimm", "ode")]}, "did you mean 'ddim'"),
        ({"n": 99}, "too few"),
        ({"networks": {"own": torch.nn.Identity()}}, "Identity: expected a ScoreModel"),
    ],
)
def test_bad_arguments(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    given = {"networks": {"mixture": SCORE}, "rivals": RIVALS, **HOW, **change}
    with pytest.raises(InputError, match=words):
        make_atlas(**given, out=tmp_path)
    assert not list(tmp_path.iterdir())
