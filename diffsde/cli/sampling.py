r"""Commands that draw samples: `gallery`, `sample`, `explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import diffsde
from diffsde.cli.options import (
    Adaptive,
    AsJson,
    Atol,
    Clock,
    Dark,
    Denoise,
    Device,
    Estimates,
    Eta,
    EtaBetween,
    FilmFormat,
    Guidance,
    Kinds,
    Label,
    MethodOptions,
    Methods,
    Model,
    Number,
    Out,
    OutFile,
    Quiet,
    Rtol,
    Seed,
    Temperature,
    Threads,
)
from diffsde.cli.picking import pick_model, pick_plans, pick_score
from diffsde.cli.pictures import Pictures, check_page, image_shape
from diffsde.cli.report import compute_with, is_first, reported
from diffsde.cli.solving import solve_all
from diffsde.errors import DiffSDEError
from diffsde.scores.usual import CLOCK, STEPS
from diffsde.system.files import check_file, check_folder

__all__ = ["explore", "gallery", "sample"]


def gallery(
    out: Out = Path("gallery"),
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of each sampler, frames of each film.")
    ] = 500,
    model: Model = "mnist",
    n: Number = 5,
    seed: Seed = 0,
    label: Label = None,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    dark: Dark = False,
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw every picture of the tutorial: images, films and paths of five samplers.

    Example: diffsde gallery --out gallery --steps 500
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        score = pick_model(model, device)
        own = pick_score(score, label, guidance, temperature, seed, n)
        try:
            report.written += diffsde.views.write_gallery(
                out,
                score,
                score=own,
                steps=steps,
                n=n,
                seed=seed,
                progress=not quiet and is_first(),
                dark=True if dark else None,
            )
        except (DiffSDEError, KeyboardInterrupt) as stopped:
            report.written += getattr(stopped, "written", [])
            raise


def sample(
    method: Methods = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help=f"Number of steps ({STEPS}); adaptive solvers need none."),
    ] = None,
    n: Number = 16,
    seed: Seed = 0,
    out: Out = Path("samples"),
    model: Model = "mnist",
    clock: Clock = CLOCK,
    kind: Kinds = None,
    adaptive: Adaptive = None,
    rtol: Rtol = None,
    atol: Atol = None,
    eta: Eta = None,
    eta_between: EtaBetween = None,
    option: MethodOptions = None,
    label: Label = None,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    denoise: Denoise = True,
    estimates: Estimates = False,
    animation: Annotated[
        bool, typer.Option("--animate", help="Also make a film of the path.")
    ] = False,
    film: Annotated[
        FilmFormat | None,
        typer.Option(
            "--format",
            help="Format of the film, which it asks for as --animate does (gif). png is an "
            "animated PNG, samples.apng; mp4 and webm need the extra: video.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames per second of the film; by default, it lasts as one can watch."),
    ] = None,
    paths: Annotated[
        bool,
        typer.Option("--paths", help="Also plot every pixel's path, 1920 by 1080 for a slide."),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of each image in pictures and film, in pixels, rounded down so that all "
            "pixels of an image are equal.",
            min=1,
        ),
    ] = None,
    dark: Dark = False,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 256,
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw images from a model with any solver, or with several from the same noise.

    Writes samples.png and samples.safetensors, a trajectory: its last state, or the whole
    path with a film or --paths. Several methods share one film and one plot, and each has its
    images and its trajectory in files with its name, such as samples-ode-heun2.png. Ctrl-C
    writes what is finished.

    Examples: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64,
    diffsde sample --label 7 --guidance 2 --clock karras --steps 50,
    diffsde sample --label random --n 64,
    diffsde sample --method euler --kind sde --kind ode --format mp4 --dark
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        form = film or (FilmFormat.gif if animation else None)
        compute_with(threads)
        score, chosen = pick_plans(
            model, device, method, kind, clock, label, guidance, temperature, seed, n,
            eta=eta, eta_between=eta_between, adaptive=adaptive, rtol=rtol, atol=atol,
            option=option,
        )  # fmt: skip
        pictures = Pictures.checked(
            out, score, film=form and form.value, fps=fps, paths=paths, size=size, dark=dark
        )
        solved = solve_all(
            chosen,
            n,
            whole=form is not None or paths,
            steps=steps,
            clock=clock,
            seed=seed,
            adaptive=adaptive,
            chunk=min(chunk, n),
            denoise=denoise,
            estimates=estimates,
            progress=not quiet and is_first(),
        )
        runs = [run.facts() for run in solved.runs]
        facts = runs[0] if len(chosen) == 1 and runs else {"runs": runs}
        solved.tell(report, n)
        report.say(**facts, clock=clock, n=n, seed=seed)
        if is_first():
            pictures.write(solved, report.written)
        if solved.stopped is not None:
            raise solved.stopped


def explore(
    method: Methods = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of each solver, times of each path.")
    ] = STEPS,
    n: Number = 16,
    seed: Seed = 0,
    clock: Clock = CLOCK,
    out: OutFile = Path("explore.html"),
    model: Model = "mnist",
    kind: Kinds = None,
    adaptive: Adaptive = None,
    rtol: Rtol = None,
    atol: Atol = None,
    eta: Eta = None,
    eta_between: EtaBetween = None,
    option: MethodOptions = None,
    label: Label = None,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    denoise: Denoise = True,
    estimates: Estimates = False,
    device: Device = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an HTML page for exploring paths: scrub through time, play, follow a pixel.

    Several methods are shown side by side, all starting from the same noise. Ctrl-C writes the
    paths so far.

    Examples: diffsde explore --method euler --method heun2,
    diffsde explore --label 7 --guidance 2 --estimates
    """
    with reported(as_json) as report:
        check_file(out, "out")
        compute_with(threads)
        score, chosen = pick_plans(
            model, device, method, kind, clock, label, guidance, temperature, seed, n,
            eta=eta, eta_between=eta_between, adaptive=adaptive, rtol=rtol, atol=atol,
            option=option,
        )  # fmt: skip
        check_page(n, image_shape(score), len(chosen), estimates)
        solved = solve_all(
            chosen,
            n,
            whole=True,
            steps=steps,
            clock=clock,
            seed=seed,
            adaptive=adaptive,
            denoise=denoise,
            estimates=estimates,
            progress=not quiet and is_first(),
        )
        solved.tell(report, n)
        report.say(runs=[run.facts() for run in solved.runs])
        if solved.runs and is_first():
            page = diffsde.views.write_html(solved.sols, out, decode=score.decoder)
            report.written.append(page)
        if solved.stopped is not None:
            raise solved.stopped
