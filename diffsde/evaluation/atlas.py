r"""The atlas: every solver on every network, by strong error, weak error, quality and seconds.

For each network and each number of evaluations, a solver is judged by

    error         how far its end is from that of a fine solve (see `work_precision`), path by path,
    moments, ks, wasserstein   how far its law is from the exact one (see `law_errors`), where the
                  score is that of a mixture, whose law is known,
    ratio         the FID of its images over that of real ones (see `evaluate`),
    confident     the share of images that the classifier is sure of.

Each is a cell, and a cell that is done is kept in a file and not done again. The strong errors of
one kind in one clock are one cell, since they share a fine solve, which is finer the smaller they
are. The images themselves are kept, too (see `sample_images`).

Networks end with the last denoising evaluation, which counts. A mixture ends at t = ε, where its
law is known.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from diffsde.analysis.budgets import work_precision
from diffsde.analysis.laws import law_errors
from diffsde.analysis.work_table import WorkRow
from diffsde.equations.reverse import PROBLEMS
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.evaluation.comparing import evaluate_samplers
from diffsde.evaluation.real import data_of
from diffsde.evaluation.samplers import Sampler
from diffsde.evaluation.scoring import check_enough
from diffsde.scores.exact import MixtureScore
from diffsde.scores.model import ScoreModel
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.options import checked_options, options_in_words
from diffsde.solvers.solving import solve
from diffsde.system.bars import load_tqdm
from diffsde.system.description import digest_of_score, surroundings
from diffsde.system.files import check_folder, written_whole
from diffsde.system.host import on_host
from diffsde.system.one_line import class_of
from diffsde.system.tables import Table

__all__ = [
    "BUDGETS",
    "EXACT",
    "RIVALS",
    "Atlas",
    "AtlasRow",
    "Rival",
    "exact_mixture",
    "make_atlas",
]

BUDGETS = (3, 4, 5, 6, 8, 10, 15, 20, 40)
EXACT = "exact samples"

_MORE = 10  # times as many samples of a mixture as images, since its score costs next to nothing

T = TypeVar("T")


class Rival(NamedTuple):
    """A solver in a clock, with options of the solver, such as {"last_order": 1}."""

    method: str
    kind: str
    clock: str = "karras"
    options: Mapping[str, Any] = {}


RIVALS = (
    Rival("ddim", "ode"),
    Rival("dpmpp_2m", "ode"),
    Rival("ipndm", "ode"),
    Rival("unipc", "ode", "log_sigma"),
    Rival("unipc", "ode", "karras", {"last_order": 1}),
    Rival("sde_dpmpp_2m", "sde"),
    Rival("sa_solver", "sde"),
    Rival("seeds_2", "sde"),
)


@dataclass(frozen=True)
class AtlasRow:
    """One solver with one number of evaluations, on one network; what was not measured is NaN.

    Attributes:
        network: its name.
        method, kind, clock, options: the solver, its clock, and its options as "last_order=1".
        steps, nfe: steps, and evaluations of the score, the last denoising one included.
        seconds: of a solve of the samples whose error is measured.
        error, reference: the strong error, and how sure the fine solve is of itself.
        moments, ks, wasserstein: weak errors against the exact law.
        ratio: FID over its floor.
        confident: share of images of which the classifier is sure.
    """

    network: str
    method: str
    kind: str
    clock: str
    steps: int
    nfe: int
    seconds: float
    error: float
    reference: float
    moments: float = math.nan
    ks: float = math.nan
    wasserstein: float = math.nan
    ratio: float = math.nan
    confident: float = math.nan
    options: str = ""

    @property
    def name(self) -> str:
        """The solver with its kind, clock and options."""
        return f"{self.kind} {self.method}, {self.clock}" + (self.options and f", {self.options}")


@dataclass(frozen=True, repr=False)
class Atlas(Table):
    """The table: save it, or draw it with `plot_atlas`."""

    rows: tuple[AtlasRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, network: str) -> Atlas:
        """The rows of one network."""
        return Atlas(tuple(row for row in self.rows if row.network == network))

    @property
    def networks(self) -> list[str]:
        """The networks, in the order of their rows."""
        return list(dict.fromkeys(row.network for row in self.rows))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as CSV, whole or not at all."""
        with written_whole(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(AtlasRow)])
            writer.writeheader()
            for row in self._records():
                writer.writerow({k: _cell(v, ".6g") for k, v in row.items()})
        return Path(path)

    def _records(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def _lines(self) -> Sequence[Sequence[str]]:
        records = self._records()
        # A measure of no row is no column.
        shown = [name for name in records[0] if any(_known(row[name]) for row in records)]
        return [shown, *([_cell(row[name], ".3g") for name in shown] for row in records)]


def _known(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))


def _cell(value: Any, digits: str) -> str:
    if not _known(value):
        return ""
    return f"{value:{digits}}" if isinstance(value, float) else str(value)


def exact_mixture() -> MixtureScore:
    """Two well separated clusters of uneven weight and width in eight dimensions."""
    means = torch.stack([torch.full((8,), 0.5, device="cpu"), torch.full((8,), -0.4, device="cpu")])
    return MixtureScore(VESDE(), means, on_host([0.2, 0.3]), [0.7, 0.3])


def make_atlas(
    networks: Mapping[str, ScoreModel | MixtureScore],
    rivals: Sequence[Rival] = RIVALS,
    budgets: Sequence[int] = BUDGETS,
    *,
    n: int = 1000,
    paths: int = 16,
    seed: int = 0,
    out: str | os.PathLike[str],
    progress: bool = True,
) -> Atlas:
    """Measure every rival on every network with every number of evaluations.

        networks = {"mnist": load_pretrained("mnist"), "mixture": exact_mixture()}
        atlas = make_atlas(networks, out="atlas")

    Args:
        networks: models of data that are known (`model.data`), and mixtures, by name.
        rivals: solvers in clocks.
        budgets: numbers of evaluations, each of which pays for as many steps as it can.
        n: images by which laws are judged; of a mixture ten times as many samples are drawn.
        paths: samples whose strong error is measured.
        seed: of all noise.
        out: a folder, in which cells are kept. The same call goes on from there.
        progress: show a progress bar.

    Returns:
        A row for each network, rival and number of steps. Those of a mixture end with a row of
        exact samples, which is what no solver can be expected to beat.

    Raises:
        InputError: an argument does not fit, or the data of a model are not known.
    """
    if not (networks and rivals and budgets):
        raise InputError("networks, rivals, budgets: expected at least one of each")
    for number, rival in enumerate(rivals):
        if rival in rivals[:number]:
            raise InputError("rivals: one is given twice")
        solver = find_solver(rival.method, rival.kind)
        checked_options(rival.options, solver, solver.adaptive)
    for name, score in networks.items():
        if not isinstance(score, (ScoreModel, MixtureScore)):
            raise InputError(
                f"networks[{name!r}] = {class_of(score)}: expected a ScoreModel or a MixtureScore"
            )
    check_enough(n, "images")
    folder = check_folder(out, "out")
    charts = [  # all of them before the first is drawn: the data of one may be missing
        _Chart(name, score, n, paths, seed, folder, progress) for name, score in networks.items()
    ]
    return Atlas(tuple(row for chart in charts for row in chart.rows(rivals, budgets)))


class _LawJudge:
    """Judges the law of a mixture's samples, which start from the exact law."""

    name, denoises, digest = "law", False, None

    def __init__(self, score: MixtureScore, n: int, seed: int) -> None:
        self.score, self.n, self.seed = score, n, seed

    def judge(self, rival: Rival, steps: int) -> dict[str, float]:
        score = self.score
        problem = PROBLEMS[rival.kind](score.sde, score, score.shape)
        start = score.sample(self.n, score.sde.T, seed=self.seed)
        how: dict[str, Any] = {"steps": steps, "clock": rival.clock, "options": rival.options}
        sol = solve(problem, start, rival.method, seed=self.seed, save="last", **how)
        return self._errors(sol.final)

    def best(self) -> dict[str, float]:
        """The errors of exact samples."""
        return self._errors(self.score.sample(self.n, self.score.sde.eps, seed=self.seed))

    def _errors(self, x: Tensor) -> dict[str, float]:
        return law_errors(x, self.score, self.score.sde.eps)._asdict()


class _ImageJudge:
    """Judges the images of a model by those of its data."""

    name, denoises = "images", True

    def __init__(self, score: ScoreModel, n: int, seed: int, kept: Path) -> None:
        self.score, self.n, self.seed, self.kept = score, n, seed, kept
        self.data = data_of(score, None)
        self.digest = self.data.digest

    def judge(self, rival: Rival, steps: int) -> dict[str, float]:
        sampler = Sampler(rival.method, rival.kind, steps, rival.clock, options=rival.options)
        table = evaluate_samplers(
            self.score, [sampler], self.n,
            data=self.data, seed=self.seed, out=self.kept, bootstraps=1, progress=False,
        )  # fmt: skip
        score = table.rows[0].score
        return {"ratio": score.ratio, "confident": score.confident}


class _Chart:
    """The part of the atlas that belongs to one network."""

    def __init__(
        self,
        name: str,
        score: ScoreModel | MixtureScore,
        n: int,
        paths: int,
        seed: int,
        folder: Path,
        progress: bool,
    ) -> None:
        self.name, self.score, self.paths, self.seed = name, score, paths, seed
        self.folder, self.progress = folder / name, progress
        self.judge: _LawJudge | _ImageJudge = (
            _LawJudge(score, _MORE * n, seed)
            if isinstance(score, MixtureScore)
            else _ImageJudge(score, n, seed, self.folder / "images")
        )
        self._about = {"model": digest_of_score(score), "data": self.judge.digest, "seed": seed}

    def rows(self, rivals: Sequence[Rival], budgets: Sequence[int]) -> Iterator[AtlasRow]:
        groups: dict[tuple[str, str, str], list[Rival]] = {}
        for rival in rivals:
            key = rival.kind, rival.clock, options_in_words(rival.options)
            groups.setdefault(key, []).append(rival)
        solved = [
            pair
            for group in self._bar(list(groups.values()), "strong errors")
            for pair in self._strong(group, list(budgets))
        ]
        for rival, row in self._bar(solved, self.judge.name):
            yield AtlasRow(self.name, kind=rival.kind, **asdict(row), **self._judged(rival, row))
        if isinstance(self.judge, _LawJudge):
            yield self._best(self.judge)

    def _bar(self, cells: list[T], what: str) -> Iterable[T]:
        bar: Iterable[T] = load_tqdm()(
            cells, desc=f"{self.name}, {what}", unit="cell", disable=not self.progress
        )
        return bar

    # -- the cells -----------------------------------------------------------------------

    def _cell(self, measure: Callable[[], Any], name: str, **settings: Any) -> Any:
        """What a measure gives with these settings: read if it is there, measured otherwise."""
        about = {"cell": name, **settings, **self._about, **surroundings()}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / "cells" / f"{name}-{key}.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))["found"]
        found = measure()
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps({"about": about, "found": found}), "utf-8")
        return found

    def _strong(self, group: list[Rival], budgets: list[int]) -> Iterator[tuple[Rival, WorkRow]]:
        """The strong errors of one kind in one clock with the same options, by one reference."""
        kind, clock, options = group[0].kind, group[0].clock, group[0].options
        methods = [rival.method for rival in group]

        def measure() -> list[dict[str, Any]]:
            problem = PROBLEMS[kind](self.score.sde, self.score, self.score.shape)
            table = work_precision(
                problem, methods, budgets,
                n=self.paths, seed=self.seed, clock=clock, denoise=self.judge.denoises,
                options=options,
            )  # fmt: skip
            return [asdict(row) for row in table.rows]

        settings: dict[str, Any] = {
            "kind": kind,
            "clock": clock,
            "methods": methods,
            "budgets": budgets,
        }
        named = {rival.method: rival for rival in group}
        for found in self._cell(measure, "strong", paths=self.paths, **settings, **_told(options)):
            row = WorkRow(**found)
            yield named[row.method], row

    def _judged(self, rival: Rival, row: WorkRow) -> dict[str, Any]:
        if not math.isfinite(row.error):  # it blew up, and would again
            return {}
        settings = {"method": row.method, "kind": rival.kind, "clock": row.clock}
        found: dict[str, Any] = self._cell(
            lambda: self.judge.judge(rival, row.steps),
            self.judge.name, n=self.judge.n, steps=row.steps, **settings, **_told(rival.options),
        )  # fmt: skip
        return found

    def _best(self, judge: _LawJudge) -> AtlasRow:
        found: dict[str, Any] = self._cell(judge.best, "best", n=judge.n)
        unknown: dict[str, Any] = dict.fromkeys(("seconds", "error", "reference"), math.nan)
        return AtlasRow(self.name, EXACT, kind="", clock="", steps=0, nfe=0, **unknown, **found)


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell says of options: nothing if there are none, as cells of before did."""
    return {"options": dict(options)} if options else {}
