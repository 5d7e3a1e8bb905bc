r"""The command `atlas`: every solver on every network, by every measure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import diffsde
from diffsde.cli.command import clock_names, model_names
from diffsde.cli.options import (
    AsJson,
    Device,
    Kinds,
    MethodOptions,
    Methods,
    Out,
    Quiet,
    Seed,
    Threads,
)
from diffsde.cli.picking import check_clock, pick_model, pick_solvers, with_options
from diffsde.cli.report import compute_with, reported, resumable
from diffsde.errors import InputError
from diffsde.scores.usual import CLOCK
from diffsde.system.files import check_folder
from diffsde.system.packages import optional_package

__all__ = ["atlas"]

_MIXTURE = "mixture"


def atlas(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Network: mixture (a law that is known exactly), a model that ships with the "
            "package ({models}), or a file; mixture, mnist and fashion-mnist by default. "
            "Repeatable.",
            autocompletion=lambda: [_MIXTURE, *model_names()],
        ),
    ] = None,
    method: Methods = None,
    kind: Kinds = None,
    clock: Annotated[
        list[str] | None,
        typer.Option(
            help="Clock of every --method (karras); repeatable.", autocompletion=clock_names
        ),
    ] = None,
    option: MethodOptions = None,
    budget: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of evaluations (3, 4, 5, 6, 8, 10, 15, 20, 40), the last denoising one "
            "included; repeatable.",
        ),
    ] = None,
    n: Annotated[
        int,
        typer.Option("--n", min=100, help="Number of images; of the mixture ten times as many."),
    ] = 1000,
    paths: Annotated[
        int, typer.Option(min=1, help="Number of samples whose strong error is measured.")
    ] = 16,
    seed: Seed = 0,
    out: Out = Path("atlas"),
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Chart solvers: strong error, weak error, FID, confidence and seconds (extra: metrics).

    Writes table.csv and a picture for each network. Without --method, it takes eight solvers
    that are worth comparing. What is done is kept in --out, so the same command resumes where it
    stopped, and images and laws that are there are not made again if options are added.

    Example: diffsde atlas --model mixture --method dpmpp_2m --method unipc --n 2000
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        from diffsde.system.launch import process_count  # it loads torch

        if process_count() > 1:
            raise InputError("atlas: expected one process; start it without a launcher")
        rivals = _pick_rivals(method, kind, clock, option)
        names = model or [_MIXTURE, "mnist", "fashion-mnist"]
        if len(set(names)) < len(names):
            raise InputError("--model: one is given twice")
        networks = {Path(name).stem: _pick_network(name, device) for name in names}
        if len(networks) < len(names):
            raise InputError("--model: two of these have the same name; rename one")
        if networks.keys() != {_MIXTURE}:
            optional_package("torchmetrics", "metrics")  # seconds to load: after other checks
        with resumable(out):
            table = diffsde.evaluation.make_atlas(
                networks, rivals, budget or diffsde.evaluation.BUDGETS,
                n=n, paths=paths, seed=seed, out=out, progress=not quiet,
            )  # fmt: skip
        report.say(table, rows=[asdict(row) for row in table.rows])
        report.written.append(table.save(out / "table.csv"))
        for name in table.networks:
            diffsde.evaluation.plot_atlas(table.of(name), out / f"{name}.png")
            report.written.append(out / f"{name}.png")


def _pick_rivals(
    methods: list[str] | None,
    kinds: list[str] | None,
    clocks: list[str] | None,
    option: list[str] | None,
) -> list[diffsde.evaluation.Rival]:
    for name in clocks or []:
        check_clock(name)
    if methods is None:
        if kinds or clocks or option:
            raise InputError("--kind, --clock and --option are those of --method: give it too")
        return list(diffsde.evaluation.RIVALS)
    return [
        diffsde.evaluation.Rival(solver.name, solver.kind, clock, options)
        for clock in clocks or [CLOCK]
        for solver, options in with_options(pick_solvers(methods, kinds), option)
    ]


def _pick_network(name: str, device: str | None) -> diffsde.ScoreModel | diffsde.MixtureScore:
    if name == _MIXTURE:
        from diffsde.system.launch import chosen_device

        return diffsde.evaluation.exact_mixture().to(chosen_device(device))
    return pick_model(name, device)
