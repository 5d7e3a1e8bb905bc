"""The atlas: its cells are right, are kept, and are not done again."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from diffsde import InputError, MixtureScore, solve
from diffsde.analysis.budgets import work_precision
from diffsde.analysis.laws import law_errors
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.equations.variance_exploding import VESDE
from diffsde.evaluation import atlas as module
from diffsde.evaluation.atlas import EXACT, Rival, exact_mixture, make_atlas
from diffsde.evaluation.atlas_plots import plot_atlas
from diffsde.evaluation.comparing import evaluate_samplers
from diffsde.evaluation.samplers import Sampler
from diffsde.scores.model import ScoreModel
from tests.evaluation.test_evaluation import tiny

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
    x = SCORE.sample(200, 1.0, seed=0)
    end = solve(flow, x, "dpmpp_2m", steps=5, clock="karras", save="last").final
    row = found.rows[2]
    assert (row.moments, row.ks, row.wasserstein) == law_errors(end, SCORE, SCORE.sde.eps)
    best = found.rows[-1]
    assert all(row.wasserstein > best.wasserstein for row in found.rows[:3])
    assert math.isnan(best.error)


def test_a_network_s_cells(tmp_path: Path) -> None:
    """The last of the evaluations removes noise, for errors as for images."""
    model = tiny()
    found = make_atlas({"tiny": model}, RIVALS[:1], [3, 5], out=tmp_path, **HOW)
    assert [(row.steps, row.nfe) for row in found.rows] == [(2, 3), (4, 5)]
    sampler = Sampler("dpmpp_2m", "ode", 4, "karras")
    score = evaluate_samplers(model, [sampler], 200, bootstraps=1, progress=False).rows[0].score
    assert found.rows[1].ratio == pytest.approx(score.ratio)
    assert found.rows[1].confident == score.confident
    assert math.isnan(found.rows[1].ks)
    x = model.sde.prior_sample((4, *model.shape), seed=0)
    how: dict[str, Any] = {"clock": "karras", "save": "last", "denoise": True}
    flow = model.flow()
    ends = [solve(flow, x, "dpmpp_2m", steps=4, **how), solve(flow, x, "rk4", steps=200, **how)]
    gap = float((ends[0].final - ends[1].final).square().mean().sqrt())
    assert found.rows[1].error == pytest.approx(gap, rel=0.05)


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


def test_a_solver_that_blows_up_is_a_result(tmp_path: Path) -> None:
    rivals = [Rival("explicit_adams", "ode", "t"), Rival("ddim", "ode", "t")]
    found = make_atlas({"mixture": SCORE}, rivals, [30], out=tmp_path, **HOW)
    by_name = {row.method: row for row in found.rows}
    assert math.isinf(by_name["explicit_adams"].error)
    assert math.isnan(by_name["explicit_adams"].ks)
    assert by_name["ddim"].ks < 1


def test_the_table_and_its_pictures(tmp_path: Path) -> None:
    networks: dict[str, ScoreModel | MixtureScore] = {"mixture": SCORE, "tiny": tiny()}
    found = make_atlas(networks, RIVALS[:2], [3, 4], out=tmp_path / "kept", **HOW)
    assert found.networks == ["mixture", "tiny"]
    with found.save(tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [row.network for row in found.rows]
    assert rows[0]["ratio"] == ""
    assert float(rows[-1]["ratio"]) == pytest.approx(found.rows[-1].ratio, rel=1e-5)
    assert "wasserstein" in repr(found.of("mixture"))
    assert "wasserstein" not in repr(found.of("tiny"))
    for name, panels in (("mixture", 4), ("tiny", 3)):
        figure = plot_atlas(found.of(name), tmp_path / f"{name}.png")
        assert len(figure.axes) == panels
        assert [line.get_label() for line in figure.axes[0].lines][:2] == [
            "ode dpmpp_2m, karras", "ode heun_edm, karras",
        ]  # fmt: skip
    with pytest.raises(InputError, match="2 networks: expected one"):
        plot_atlas(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rivals": []}, "at least one"),
        ({"rivals": [Rival("ddim", "ode")] * 2}, "given twice"),
        ({"rivals": [Rival("dimm", "ode")]}, "did you mean 'ddim'"),
        ({"n": 99}, "too few"),
        ({"networks": {"own": torch.nn.Identity()}}, "own"),
    ],
)
def test_bad_arguments(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    given = {"networks": {"mixture": SCORE}, "rivals": RIVALS, **HOW, **change}
    with pytest.raises(InputError, match=words):
        make_atlas(**given, out=tmp_path)
    assert not list(tmp_path.iterdir())
