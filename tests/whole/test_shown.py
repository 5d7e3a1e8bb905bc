"""Objects show themselves: problems and scores in one line, results as tables."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import torch
from torch import nn

import diffsde
from diffsde import InputError
from diffsde.analysis.bits import BitsByNoise
from diffsde.analysis.check_report import CheckReport, CheckRow
from diffsde.analysis.dataset_likelihood import LikelihoodSummary
from diffsde.analysis.likelihood import Likelihood
from diffsde.analysis.work_table import WorkPrecision, WorkRow
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable
from diffsde.evaluation.samplers import Sampler
from diffsde.evaluation.scoring import Evaluation
from diffsde.scores.score_unet import ScoreUNet
from diffsde.system.tables import aligned, html_table

SDE = diffsde.VESDE()
MODEL = diffsde.ScoreModel(
    ScoreUNet(SDE, channels=(32, 32, 32, 32), embed_dim=16), SDE, (1, 28, 28)
)
IMAGE = torch.zeros(1, 1, 28, 28)


def plain(x: Any, t: Any) -> Any:
    return -x


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (SDE, "VESDE(sigma=25.0, T=1.0, eps=0.001)"),
        (MODEL, r"ScoreModel\(ScoreUNet of [\d,]+ parameters, VESDE.*, shape=\(1, 28, 28\)\)"),
        (diffsde.ReverseSDE(SDE, MODEL, (2,)), r".*\), ScoreModel, shape=\(2,\), eta=1\)"),
        (diffsde.ProbabilityFlow(SDE, plain, (2,)), r".*\), plain, shape=\(2,\)\)"),
        (diffsde.ReverseSDE(SDE, nn.Linear(2, 2), (2,)), r".*, Linear, shape=\(2,\), eta=1\)"),
        (diffsde.GaussianScore(SDE, 0.0, 2.0), r"GaussianScore\(.*mean=0, std=2, shape=\(1,\)\)"),
        (diffsde.MixtureScore(SDE, torch.zeros(3, 2), 1.0), r".* 3 components, shape=\(2,\)\)"),
        (
            diffsde.classifier_free(diffsde.load_pretrained("mnist"), 3, 2.0),
            r"\w+\(ScoreModel, label=3, guidance=2\)",
        ),
        (diffsde.classifier_guided(MODEL, plain, torch.tensor([1, 2])), ".* 2 labels, scale=1.*"),
        (diffsde.inpainting(MODEL, SDE, IMAGE, IMAGE), r"linear_inverse\(ScoreModel, Mask, .*"),
        (diffsde.from_denoiser(plain, SDE), r"DenoiserScore\(plain, VESDE.*"),
    ],
)
def test_a_problem_and_a_score_are_one_line(thing: object, expected: str) -> None:
    text = repr(thing)
    assert len(text) < 140
    assert "\n" not in text
    assert text == expected or re.fullmatch(expected, text), text


SCORE = Evaluation(100, 3.0, 0.1, 1.5, 0.2, 0.1, 0.9, 0.8, 0.95, (0.1,) * 10, "mnist", "classifier")
ROW = CheckRow(0.5, *[1.0] * 6, float("nan"))
TABLES = [
    (diffsde.list_solvers(), "dopri5", len(diffsde.list_solvers())),
    (WorkPrecision((WorkRow("euler", "t", 5, 5, 0.1, 0.25),), "strong"), "0.25", 1),
    (CheckReport((ROW,), ("All is <wrong>.",), None, "SDE", 196), "All is", 1),
    (EvaluationTable((EvaluationRow(Sampler(), 20, SCORE),), SCORE), "real training", 2),
    (SCORE, "confident", 1),
    (Likelihood(torch.ones(3), torch.zeros(3), torch.zeros(3, 2), 7), "log p", 3),
    (LikelihoodSummary(torch.ones(3), 4, 7), "bits/dim", 3),
    (BitsByNoise(1.0, 2.0, torch.arange(3.0), torch.ones(2), torch.ones(2)), "total", 2),
]


@pytest.mark.parametrize(("table", "word", "rows"), TABLES, ids=lambda v: type(v).__name__)
def test_a_result_is_a_table_in_every_form(table: Any, word: str, rows: int) -> None:
    page = table._repr_html_()
    assert page.startswith("<table>")
    assert word in page
    assert "<wrong>" not in page
    assert len(table.to_dataframe()) == rows
    assert repr(table) == str(table)
    assert "tensor(" not in repr(table)


def test_bits_are_shown_of_images_only() -> None:
    points = Likelihood(torch.ones(3), torch.zeros(3), torch.zeros(3, 2), 7)
    images = Likelihood(torch.ones(3), torch.zeros(3), torch.zeros(3, 1, 2, 2), 7)
    assert list(points.to_dataframe()) == ["log_prob", "stderr"]
    assert list(images.to_dataframe()) == ["log_prob", "stderr", "bits_per_dim"]
    assert "bits/dim" in repr(images)
    assert "bits/dim" not in repr(points)


def test_the_solvers_are_still_a_list() -> None:
    rows = diffsde.list_solvers("ode")
    assert isinstance(rows, list)
    frame = rows.to_dataframe()
    assert set(frame["kind"]) == {"ode"}
    assert list(frame["name"]) == [row.name for row in rows]


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"diffsde\[pandas\]"):
        diffsde.list_solvers().to_dataframe()


def test_columns_of_numbers_are_aligned_right_and_long_tables_cut() -> None:
    lines = [("name", "n"), ("a", "1"), ("bcd", "20"), ("e", "–")]
    assert aligned(lines).splitlines() == ["name   n", "a      1", "bcd   20", "e      –"]
    page = html_table([("k",), *((f"{k}",) for k in range(130))])
    assert page.count("<tr>") == 101
    assert "and 30 more rows" in page
