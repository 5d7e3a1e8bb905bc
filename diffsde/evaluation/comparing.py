r"""Comparing: which sampler draws better images, and at what cost?

Each sampler draws the same number of images, and `scoring` scores them. The table gives each cost
in evaluations of the score (NFE), counted during the solve, because a step of one solver may cost
as much as three of another. The same number of real training images is scored too: no sampler can
be expected to do better.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffsde.errors import InputError
from diffsde.evaluation.features import Features
from diffsde.evaluation.real import Data, data_of
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.evaluation.scoring import SHOWN, Evaluation, check_enough, reference_of
from diffsde.scores.model import ScoreModel
from diffsde.system.files import written_whole
from diffsde.system.parameters import device_of
from diffsde.system.tables import Table

__all__ = ["EvaluationRow", "EvaluationTable", "evaluate_samplers"]


@dataclass(frozen=True)
class EvaluationRow:
    """One sampler: the evaluations of the score per image, and the scores of its images."""

    sampler: Sampler
    nfe: int
    score: Evaluation


@dataclass(frozen=True, repr=False)
class EvaluationTable(Table):
    """A comparison of samplers: save it, or draw it with `plot_evaluation(table)`.

    Attributes:
        rows: a row for each sampler, in the order given.
        real: the scores of the same number of real training images, or of all, if there are
            fewer.
    """

    rows: tuple[EvaluationRow, ...]
    real: Evaluation

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row as a mapping; the last one is that of the real images, without a cost."""
        for row in self.rows:
            yield {
                "sampler": row.sampler.name,
                "line": row.sampler.line,
                "steps": row.sampler.steps,
                "nfe": row.nfe,
                **row.score._records()[0],
            }
        blank = {"line": None, "steps": None, "nfe": None}
        fewer = self.real.count < self.rows[0].score.count
        name = f"{self.real.count:,} real images" if fewer else "real training images"
        yield {"sampler": name, **blank, **self.real._records()[0]}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as CSV, whole or not at all."""
        rows = list(self)
        with written_whole(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: _cell(v, ".6g") for k, v in row.items()} for row in rows)
        return Path(path)

    def _records(self) -> Iterator[dict[str, Any]]:
        return iter(self)

    def _lines(self) -> Sequence[Sequence[str]]:
        shown = {"sampler": "sampler", "NFE": "nfe", **SHOWN}
        rows = ([_cell(row[name], ".3g") for name in shown.values()] for row in self)
        return [tuple(shown), *rows]


def _cell(value: Any, digits: str) -> str:
    if value is None:
        return ""
    return f"{value:{digits}}" if isinstance(value, float) else str(value)


def evaluate_samplers(
    model: ScoreModel,
    samplers: Sequence[Sampler],
    n: int = 10_000,
    *,
    data: Data | None = None,
    features: Features = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    chunk: int = 500,
    bootstraps: int = 50,
    progress: bool = True,
) -> EvaluationTable:
    """Draw images with each sampler from the same noise, and score them.

    Both are done on the device where the model is, and are divided among the processes of a launch
    as `sample_images` does.

        table = evaluate_samplers(model, [Sampler(steps=k) for k in (10, 20, 40)], out="kept")
        print(table)
        plot_evaluation(table, "scores.png")

    Args:
        model: a score of images.
        samplers: at least one.
        n: number of images for each sampler.
        data: what to score against, as for `evaluate`; the data that the model knows as its own
            (`model.data`), if left out.
        features: what images are compared by, as for `evaluate`.
        seed, out, chunk, progress: as for `sample_images`.
        bootstraps: as for `evaluate`.

    Raises:
        InputError: there is no sampler, there are too few images for a score, the model's own
            data are not known, or its images have another shape than those of the data; or as
            for `evaluate` and `sample_images`.
    """
    if not samplers:
        raise InputError("samplers: expected at least one")
    check_enough(n, "images")
    real = data_of(model, data)
    reference = reference_of(real, features, progress=progress, device=device_of(model))
    rows = []
    for sampler in samplers:
        drawn = sample_images(
            model, sampler, n, data=real, seed=seed, out=out, chunk=chunk, progress=progress
        )
        score = reference.evaluate(drawn.images, bootstraps=bootstraps, seed=seed)
        rows.append(EvaluationRow(sampler, drawn.nfe, score))
    return EvaluationTable(tuple(rows), reference.evaluate_real(n, bootstraps=bootstraps))
