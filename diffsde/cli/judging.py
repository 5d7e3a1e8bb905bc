r"""Commands that judge a model or a solver: `evaluate`, `likelihood`, `work-precision`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import diffsde
from diffsde.cli.command import clock_names
from diffsde.cli.options import (
    AsJson,
    Clock,
    Denoise,
    Device,
    Eta,
    EtaBetween,
    Guidance,
    Kind,
    Label,
    MethodOptions,
    Methods,
    Model,
    Number,
    Out,
    OutFile,
    Quiet,
    Seed,
    Temperature,
    Threads,
)
from diffsde.cli.picking import (
    check_clock,
    check_eta,
    pick_model,
    pick_rivals,
    pick_score,
    pick_solvers,
    with_options,
)
from diffsde.cli.report import Report, compute_with, is_first, reported, resumable
from diffsde.errors import InputError
from diffsde.scores.usual import CLOCK
from diffsde.system.files import check_file, check_folder
from diffsde.system.packages import optional_package

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["evaluate", "likelihood", "work_precision"]


Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Data set to compare with: {datasets}, or a path; that of the model, if it is known.",
    ),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder that holds the data set or the images.")
]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Resize images to this side.")]


def evaluate(
    method: Methods = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of steps (19); repeatable.")
    ] = None,
    clock: Clock = CLOCK,
    kind: Kind = None,
    option: MethodOptions = None,
    eta: Eta = None,
    eta_between: EtaBetween = None,
    denoise: Denoise = True,
    classes: Annotated[
        bool,
        typer.Option(
            "--classes",
            help="Give the network a random class label per image, each as often as in the data.",
        ),
    ] = False,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    n: Annotated[
        int, typer.Option("--n", min=100, help="Number of images from each sampler.")
    ] = 10_000,
    dataset: Dataset = None,
    data: DataFolder = None,
    size: Size = None,
    features: Annotated[
        str,
        typer.Option(
            help="What images are compared by: classifier (of the data set), inception (of the "
            "usual FID, where its weights are), or your own function as MODULE:FUNCTION."
        ),
    ] = "classifier",
    bootstraps: Annotated[
        int, typer.Option(min=1, help="Resamplings for the error of the FID; 1 for no error.")
    ] = 50,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("evaluation"),
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score each sampler's images against the data's test images (extra: metrics).

    Every method runs with every number of steps. Writes scores.csv, scores.png and
    neighbours.png, which shows the samples nearest to training images beside those images.
    Finished batches are kept in --out, so the same command resumes where it stopped. Several
    processes, started by a launcher, divide the images among themselves.

    Example: diffsde evaluate --method sde_dpmpp_2m --method dpmpp_2m --steps 9 --steps 19
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        check_clock(clock)
        solvers = pick_solvers(method or ["sde_dpmpp_2m"], kind and [kind])
        check_eta(eta, eta_between, solvers)
        noise: dict[str, Any] = {"eta": 1.0 if eta is None else eta, "between": eta_between}
        samplers = [
            diffsde.evaluation.Sampler(
                solver.name, solver.kind, number, clock, denoise, classes, guidance, temperature,
                options, **(noise if solver.kind == "sde" else {}),
            )
            for solver, options in with_options(solvers, option)
            for number in steps or [19]
        ]  # fmt: skip
        by = _pick_features(features)
        score = pick_model(model, device)
        if classes and not score.classes:
            raise InputError(f"--classes: --model {model} takes no class labels; leave it out")
        real = diffsde.evaluation.data_of(score, dataset, data, size=size)
        _say_divided(report, real)
        optional_package("torchmetrics", "metrics")  # takes seconds to load: after other checks
        # The kept batches belong to one model, so each model has a folder of its own.
        kept = out / Path(model).stem
        with resumable(kept):
            table = diffsde.evaluation.evaluate_samplers(
                score, samplers, n, data=real, features=by, seed=seed, out=kept,
                bootstraps=bootstraps, progress=not quiet and is_first(),
            )  # fmt: skip
        report.say(table, scores=list(table), data=real.name, features=table.real.features)
        drawn = {
            one.name: diffsde.evaluation.sample_images(
                score, one, n, data=real, seed=seed, out=kept, progress=False
            ).images
            for one in samplers
        }  # read from the kept batches, not drawn again
        if not is_first():
            return
        report.written.append(table.save(out / "scores.csv"))
        diffsde.evaluation.plot_evaluation(table, out / "scores.png")
        report.written.append(out / "scores.png")
        report.written.append(_plot_nearest(drawn, real, out / "neighbours.png"))


def _pick_features(name: str) -> str | Callable[[Tensor], Tensor]:
    """The name of features, or the function that MODULE:FUNCTION stands for."""
    if ":" not in name:
        return name
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--features {name}: {error}; expected MODULE:FUNCTION that Python can import, where "
            "the function takes images (B, C, H, W) in [0, 1] to features (B, F)"
        ) from error
    return cast("Callable[[Tensor], Tensor]", found)


def _say_divided(report: Report, real: diffsde.evaluation.RealImages) -> None:
    """Say so if the test images are training images that were set aside."""
    if real.divided:
        count = len(real.test.images)
        report.say(
            f"{real.name} has no test images: its last {count:,}, which training held out, stand "
            "for them",
            held_out=count,
        )


def _plot_nearest(
    drawn: dict[str, Tensor], real: diffsde.evaluation.RealImages, path: Path
) -> Path:
    """Plot the samples nearest to training images, beside those images."""
    train, test = (part.images.float() / 255 for part in (real.train, real.test))
    diffsde.evaluation.plot_neighbours(drawn, train, test, path)
    return path


def likelihood(
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Number of test images; all by default.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="How bits are counted: uniform, truncated-normal or variational; by default "
            "uniform, or variational if the network knows levels."
        ),
    ] = None,
    probes: Annotated[
        int | None, typer.Option(min=1, help="Probes of Hutchinson's estimator (1).")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of rk4 (30), even in ln σ, of four evaluations each."),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluations for each image (16), for variational."),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(
            help="Time at which the images are taken; its noise costs bits. By default 1e-5; for "
            "variational, the time at which the noise is an eighth of a level."
        ),
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 64,
    dataset: Dataset = None,
    data: DataFolder = None,
    size: Size = None,
    seed: Seed = 0,
    model: Model = "mnist",
    out: OutFile = Path("likelihood.safetensors"),
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure the bits per dimension of the test images.

    Images are dequantised (uniform), get as much noise as stays within their levels
    (truncated-normal), or are coded as they are (variational). The first two solve the probability
    flow.

    The results file is written after every chunk; the same command resumes from it.

    Example: diffsde likelihood --model mnist-likelihood --n 256
    """
    with reported(as_json) as report:
        check_file(out, "out")
        compute_with(threads)
        score = pick_model(model, device)
        if eps is not None and not 0 < eps < score.sde.T:
            raise InputError(
                f"--eps {eps:g}: expected a time above 0 and below {score.sde.T:g}, where the "
                "images are noise"
            )
        if score.decoder is not None:
            raise InputError(
                f"--model {model}: a model of latents, whose density says nothing of images' bits; "
                "give a model of images"
            )
        convention = diffsde.analysis.find_convention(convention, score)
        settings = _counting(convention, eps, probes=probes, steps=steps, draws=draws)
        real = diffsde.evaluation.data_of(score, dataset, data, size=size)
        _say_divided(report, real)
        images = real.test.images[:n].float() / 255
        flow = score.flow()
        with resumable(out):
            found = diffsde.evaluate_likelihood(
                flow, images, convention=convention, path=out, chunk=chunk, seed=seed,
                progress=not quiet and is_first(), **settings,
            )  # fmt: skip
        report.say(
            found,
            bits_per_dim=found.mean, stderr=found.stderr, images=len(images), nfe=found.nfe,
            data=real.name,
        )  # fmt: skip
        report.written.append(out)


def _counting(convention: str, eps: float | None, **given: int | None) -> dict[str, Any]:
    """The options that were given, and the solver of the command if the convention solves.

    Raises:
        InputError: an option is not for this convention.
    """
    taken = diffsde.analysis.CONVENTIONS[convention].settings({})
    solves, asked = "method" in taken, {k: v for k, v in given.items() if v is not None}
    for name, value in asked.items():
        if name not in taken:
            raise InputError(
                f"--{name} {value} with --convention {convention}: leave it out, because "
                + ("no numbers are drawn but the probes" if solves else "nothing is solved")
            )
    if not solves:
        return {"eps": eps, **asked}
    return {"method": "rk4", "steps": 30, "eps": 1e-5 if eps is None else eps, **asked}


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
    option: MethodOptions = None,
    label: Label = None,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    n: Number = 16,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("work-precision"),
    device: Device = None,
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
        from diffsde.solvers.options import options_read  # it loads torch

        solvers = pick_rivals(method or ["dpmpp_2m", "unipc", "heun2", "midpoint"], kind)
        for name in clock or []:
            check_clock(name)
        score = pick_model(model, device)
        own = pick_score(score, label, guidance, temperature, seed, n)
        problem = diffsde.equations.PROBLEMS[solvers[0].kind](score.sde, own, score.shape)
        table = diffsde.work_precision(
            problem, [solver.name for solver in solvers], budget or (10, 20, 40),
            n=n, seed=seed, clock=clock or "karras", options=options_read(option or ()),
        )  # fmt: skip
        report.say(table, measure=table.measure, rows=[asdict(row) for row in table.rows])
        if not is_first():
            return
        report.written.append(table.save(out / "table.csv"))
        diffsde.views.plot_work_precision(table, out / "table.png")
        report.written.append(out / "table.png")
