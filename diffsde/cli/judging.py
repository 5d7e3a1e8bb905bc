r"""Commands that judge a model or a solver: `evaluate`, `likelihood`, `work-precision`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import diffsde
from diffsde.cli.command import clock_names
from diffsde.cli.options import (
    AsJson,
    Clock,
    Denoise,
    Guidance,
    Kind,
    Label,
    Methods,
    Model,
    Number,
    Out,
    OutFile,
    Quiet,
    Seed,
    Threads,
)
from diffsde.cli.picking import (
    check_clock,
    pick_model,
    pick_rivals,
    pick_solvers,
    plans,
)
from diffsde.cli.report import compute_with, reported, resumable
from diffsde.errors import InputError
from diffsde.scores.usual import CLOCK
from diffsde.system.files import check_file, check_folder
from diffsde.system.packages import optional_package

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["evaluate", "likelihood", "work_precision"]

_MNIST = (1, 28, 28)


def evaluate(
    method: Methods = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of steps (19); repeatable.")
    ] = None,
    clock: Clock = CLOCK,
    kind: Kind = None,
    denoise: Denoise = True,
    classes: Annotated[
        bool, typer.Option("--classes", help="Give the network a random class label per image.")
    ] = False,
    n: Annotated[
        int, typer.Option("--n", min=100, help="Number of images from each sampler.")
    ] = 10_000,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("evaluation"),
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score each sampler's digits against MNIST's test images (extra: metrics).

    Every method runs with every number of steps. Writes scores.csv, scores.png and
    neighbours.png, which shows the samples nearest to training images beside those images.
    Finished batches are kept in --out, so the same command resumes where it stopped.

    Example: diffsde evaluate --method sde_dpmpp_2m --method dpmpp_2m --steps 9 --steps 19
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        check_clock(clock)
        samplers = [
            diffsde.evaluation.Sampler(solver.name, solver.kind, number, clock, denoise, classes)
            for solver in pick_solvers(method or ["sde_dpmpp_2m"], kind and [kind])
            for number in steps or [19]
        ]
        score = pick_model(model)
        _check_digits(model, score, classes)
        optional_package("torchmetrics", "metrics")  # takes seconds to load: after other checks
        # The kept batches belong to one model, so each model has a folder of its own.
        kept = out / Path(model).stem
        with resumable(kept):
            table = diffsde.evaluation.evaluate_samplers(
                score, samplers, n, seed=seed, out=kept, progress=not quiet
            )
        report.say(table, scores=list(table))
        report.written.append(table.save(out / "scores.csv"))
        diffsde.evaluation.plot_evaluation(table, out / "scores.png")
        report.written.append(out / "scores.png")
        drawn = {
            one.name: diffsde.evaluation.sample_images(
                score, one, n, seed=seed, out=kept, progress=False
            ).images
            for one in samplers
        }  # read from the kept batches, not drawn again
        report.written.append(_plot_nearest(drawn, out / "neighbours.png"))


def _check_digits(name: str, model: diffsde.ScoreModel, classes: bool) -> None:
    """Refuse a model whose images cannot be scored as digits."""
    if model.shape != _MNIST:
        raise InputError(
            f"--model {name} draws images of {_size(model.shape)} pixels; evaluate scores digits "
            f"like MNIST's, of {_size(_MNIST)}"
        )
    if classes and not model.classes:
        raise InputError(f"--classes: --model {name} takes no class labels; leave --classes out")


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _plot_nearest(drawn: dict[str, Tensor], path: Path) -> Path:
    """Plot the samples nearest to MNIST's training images, beside those images."""
    train, test = (
        diffsde.load_images("mnist", train=part).images.float() / 255 for part in (True, False)
    )
    diffsde.evaluation.plot_neighbours(drawn, train, test, path)
    return path


def likelihood(
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Number of test images; all by default.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Probes of Hutchinson's estimator.")] = 1,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of rk4, even in ln σ, of four evaluations each.")
    ] = 30,
    eps: Annotated[
        float, typer.Option(help="Time at which the images are taken; its noise costs bits.")
    ] = 1e-5,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 64,
    dataset: Annotated[str, typer.Option(help="Data set: {datasets}.")] = "mnist",
    data: Annotated[Path | None, typer.Option(help="Folder that holds the data set.")] = None,
    seed: Seed = 0,
    model: Model = "mnist",
    out: OutFile = Path("likelihood.safetensors"),
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure the bits per dimension of the test images under the probability flow.

    The results file is written after every chunk; the same command resumes from it.

    Example: diffsde likelihood --model mnist-likelihood --eps 1e-8 --n 256
    """
    with reported(as_json) as report:
        check_file(out, "out")
        compute_with(threads)
        score = pick_model(model)
        if not 0 < eps < score.sde.T:
            raise InputError(
                f"--eps {eps:g}: expected a time above 0 and below {score.sde.T:g}, where the "
                "images are noise"
            )
        images = diffsde.load_images(dataset, data, train=False).images[:n].float() / 255
        if images.shape[1:] != score.shape:
            raise InputError(
                f"--dataset {dataset} has images of {_size(images.shape[1:])}, --model {model} is "
                f"of {_size(score.shape)}"
            )
        flow = diffsde.ProbabilityFlow(score.sde, score, score.shape)
        with resumable(out):
            found = diffsde.evaluate_likelihood(
                flow, images, path=out, chunk=chunk, seed=seed, progress=not quiet,
                probes=probes, eps=eps, method="rk4", steps=steps,
            )  # fmt: skip
        report.say(
            found,
            bits_per_dim=found.mean, stderr=found.stderr, images=len(images), nfe=found.nfe,
        )  # fmt: skip
        report.written.append(out)


def work_precision(
    method: Methods = None,
    budget: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of evaluations (10, 20, 40); repeatable."),
    ] = None,
    clock: Annotated[
        list[str] | None,
        typer.Option(
            help="Clock in which the steps are even (karras); repeatable.",
            autocompletion=clock_names,
        ),
    ] = None,
    kind: Kind = None,
    label: Label = None,
    guidance: Guidance = 1.0,
    n: Number = 16,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("work-precision"),
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compare solvers: the error against score evaluations, as a table and a plot.

    All solvers start from the same noise.

    Example: diffsde work-precision --method heun2 --method dpmpp_2m --clock karras
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        solvers = pick_rivals(method or ["dpmpp_2m", "unipc", "heun2", "midpoint"], kind)
        for name in clock or []:
            check_clock(name)
        score = pick_model(model)
        chosen = plans(score, solvers, score.of_class(label, guidance))
        table = diffsde.work_precision(
            chosen[0].problem, [solver.name for solver in solvers], budget or (10, 20, 40),
            n=n, seed=seed, clock=clock or "karras",
        )  # fmt: skip
        report.say(table, measure=table.measure, rows=[asdict(row) for row in table.rows])
        report.written.append(table.save(out / "table.csv"))
        diffsde.views.plot_work_precision(table, out / "table.png")
        report.written.append(out / "table.png")
