r"""Evaluation: which sampler draws better images, and at what cost?

A sampler is a solver with its steps and clock. Each sampler draws the same number of images,
and `metrics` scores them. The table gives each cost in evaluations of the score (NFE), counted
during the solve, because a step of one solver may cost as much as three of another. The same
number of real training images is scored too: no sampler can be expected to do better.

Finished chunks are saved in a folder, so that ten thousand images survive an interruption.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsde.data.images import load_images
from diffsde.equations.reverse import PROBLEMS, Score
from diffsde.errors import InputError, name_list
from diffsde.evaluation.metrics import SHOWN, Evaluation, evaluate
from diffsde.noise.seeds import NormalTable
from diffsde.scores.guidance import classifier_free
from diffsde.scores.model import ScoreModel
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.settings import full_settings
from diffsde.solvers.solving import solve
from diffsde.system.bars import load_tqdm
from diffsde.system.description import (
    described_settings,
    differences,
    digest_of_score,
    surroundings,
)
from diffsde.system.files import check_folder, written_whole
from diffsde.system.launch import launched_processes
from diffsde.system.tables import Table
from diffsde.system.tensorfile import read_tensors, write_tensors
from diffsde.system.wrapped import unwrapped

__all__ = [
    "EvaluationRow",
    "EvaluationTable",
    "Sampler",
    "Samples",
    "evaluate_samplers",
    "sample_images",
]

_GUIDANCE = 1.0  # towards the classes, where they are given


@dataclass(frozen=True)
class Sampler:
    """A way to draw images.

    Attributes:
        method: the name of a solver.
        kind: "sde" for the reverse SDE, "ode" for the probability flow; some solvers do both.
        steps: number of steps.
        clock: the clock in which the steps are even.
        denoise: end with one more evaluation, which removes the remaining noise.
        classes: give the network a class label for each image, drawn with the frequencies of
            the training data, so that the images still have the law of the data.
    """

    method: str = "sde_dpmpp_2m"
    kind: str = "sde"
    steps: int = 20
    clock: str = "karras"
    denoise: bool = True
    classes: bool = False

    def __post_init__(self) -> None:
        if self.kind not in PROBLEMS:
            raise InputError(f"kind = {self.kind!r}: {name_list(self.kind, PROBLEMS)}")
        find_solver(self.method, self.kind)

    @property
    def line(self) -> str:
        """The name without the steps."""
        end = "-denoised" if self.denoise else ""
        classes = "-classes" if self.classes else ""
        return f"{self.kind}-{self.method}-{self.clock}{end}{classes}"

    @property
    def name(self) -> str:
        return f"{self.line}-{self.steps}"


@dataclass(frozen=True)
class Samples:
    """Images drawn by a sampler.

    Attributes:
        images: (N, C, H, W) in [0, 1], on the CPU.
        nfe: evaluations of the score per image; the largest, if chunks differ.
    """

    images: Tensor
    nfe: int


def sample_images(
    model: ScoreModel,
    sampler: Sampler,
    n: int = 10_000,
    *,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    chunk: int = 500,
    progress: bool = True,
) -> Samples:
    """Draw n images.

    The processes of one launch (`torchrun`, `accelerate launch`) divide the chunks among
    themselves, and each returns all images. The number of processes does not change the images.

    Args:
        model: the score.
        sampler: solver, steps and clock.
        n: number of images.
        seed: seed of all random numbers; image i depends on (seed, i) alone.
        out: a folder for finished chunks; a later call with the same arguments continues
            from there. The model must be one that can be described: see
            `diffsde.system.description`.
        chunk: images solved at a time.
        progress: show a progress bar.

    Raises:
        InputError: `out` holds chunks of another model or other settings or cannot be written to,
            or the model cannot be described.
    """
    tqdm = load_tqdm()  # before accelerate imports it
    from accelerate.utils import gather, reduce

    model = unwrapped(model)
    chunks = _Chunks(model, sampler, seed, None if out is None else Path(out))
    launch = launched_processes()
    firsts = range(0, n, chunk)[launch.process_index :: launch.num_processes]
    # Each process fills in its chunks, and the sum over processes is the whole.
    levels = torch.zeros((n, *model.shape), dtype=torch.uint8)
    nfe = torch.zeros(1, dtype=torch.long)
    hidden = not (progress and launch.is_main_process)
    for first in tqdm(firsts, desc=sampler.name, unit="chunk", disable=hidden):
        images = chunks.images(first, min(chunk, n - first))
        levels[first : first + chunk] = images.levels
        nfe = nfe.clamp(min=images.nfe)
    levels = reduce(levels.to(launch.device), "sum").cpu()
    return Samples(levels.float() / 255, int(gather(nfe.to(launch.device)).max()))


class _Chunk(NamedTuple):
    """Images in 256 levels, like real ones, and the evaluations of the score for each."""

    levels: Tensor
    nfe: int


class _Chunks:
    """The chunks of one sampler: read if they were saved, drawn otherwise."""

    def __init__(self, model: ScoreModel, sampler: Sampler, seed: int, folder: Path | None) -> None:
        self.model, self.sampler, self.seed, self.folder = model, sampler, seed, folder
        self.description: dict[str, Any] = {}
        if folder is not None:
            check_folder(folder, "out")
            self.description = _description(model, sampler, seed)

    def images(self, first: int, size: int) -> _Chunk:
        """Images first, …, first + size − 1."""
        if self.folder is None:
            return self._drawn(first, size)
        path = self.folder / f"{self.sampler.name}-seed{self.seed}-{first}-{size}.safetensors"
        if path.exists():
            return self._read(path)
        drawn = self._drawn(first, size)
        tensors = {"images": drawn.levels, "nfe": torch.tensor(drawn.nfe)}
        write_tensors(path, tensors, {"samples": self.description})
        return drawn

    def _read(self, path: Path) -> _Chunk:
        tensors, found = read_tensors(path)
        different = differences(found.get("samples"), self.description)
        if different:
            raise InputError(
                f"{path} holds images {different}: give another folder, or remove this one's "
                "files to start again"
            )
        return _Chunk(tensors["images"], int(tensors["nfe"]))

    def _drawn(self, first: int, size: int) -> _Chunk:
        model, sampler = self.model, self.sampler
        score: Score = model
        if sampler.classes:
            score = classifier_free(model, _drawn_classes(self.seed, first, size), _GUIDANCE)
        sol = solve(
            PROBLEMS[sampler.kind](model.sde, score, model.shape),
            model.sde.prior_sample((size, *model.shape), seed=self.seed, first=first),
            sampler.method,
            seed=self.seed,
            first=first,
            **_settings(sampler),
        )
        return _Chunk((sol.final.clamp(0, 1) * 255).round().to(torch.uint8), sol.stats.nfe)


def _settings(sampler: Sampler) -> dict[str, Any]:
    """What a sampler asks of `solve`, beside its method."""
    return {
        "steps": sampler.steps,
        "clock": sampler.clock,
        "save": "last",
        "denoise": sampler.denoise,
    }


def _description(model: ScoreModel, sampler: Sampler, seed: int) -> dict[str, Any]:
    """Everything that the images depend on, as their files keep it."""
    solver = full_settings(sampler.method, sampler.kind, **_settings(sampler))
    return {
        **described_settings({**asdict(sampler), **solver, "guidance": _GUIDANCE}),
        "seed": seed,
        "model": digest_of_score(model),
        **surroundings(),
    }


def _drawn_classes(seed: int, first: int, size: int) -> Tensor:
    """Classes of random training images, (size,); that of image i depends on (seed, i) alone."""
    labels = _training_labels()
    drawn = NormalTable(seed, "class").rows(range(first, first + size), 0, (1,), torch.float64)
    return labels[(torch.special.ndtr(drawn[:, 0]) * len(labels)).long()]


@cache
def _training_labels() -> Tensor:
    return load_images("mnist").known_labels()


# -- the table ----------------------------------------------------------------------


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
        real: the scores of the same number of real training images.
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
        yield {"sampler": "real training images", **blank, **self.real._records()[0]}

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
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    chunk: int = 500,
    bootstraps: int = 50,
    progress: bool = True,
) -> EvaluationTable:
    """Draw images with each sampler from the same noise, and score them.

        table = evaluate_samplers(model, [Sampler(steps=k) for k in (10, 20, 40)], out="kept")
        print(table)
        plot_evaluation(table, "scores.png")

    Args:
        model: the score of MNIST digits.
        samplers: at least one.
        n: number of images for each sampler.
        seed, out, chunk, progress: as for `sample_images`.
        bootstraps: as for `metrics.evaluate`.

    Raises:
        InputError: there is no sampler, there are too few images for a score, or the model is
            known to be of other data.
    """
    if not samplers:
        raise InputError("samplers: expected at least one")
    if model.data not in (None, "mnist"):
        raise InputError(
            f"model = one trained on {model.data}: expected one of MNIST's digits, because its "
            "images are scored by a classifier of digits"
        )
    rows = []
    for sampler in samplers:
        drawn = sample_images(model, sampler, n, seed=seed, out=out, chunk=chunk, progress=progress)
        score = evaluate(drawn.images, bootstraps=bootstraps, seed=seed)
        rows.append(EvaluationRow(sampler, drawn.nfe, score))
    real = evaluate(load_images("mnist").images[:n].float() / 255, bootstraps=bootstraps)
    return EvaluationTable(tuple(rows), real)
