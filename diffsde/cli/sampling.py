r"""Commands that draw samples: `gallery`, `sample`, `explore`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import diffsde
from diffsde.cli.options import (
    AsJson,
    Clock,
    Kind,
    Method,
    Methods,
    Model,
    Out,
    Quiet,
    Seed,
    pick_model,
    pick_problem,
    pick_solver,
)
from diffsde.cli.report import reported

__all__ = ["explore", "gallery", "sample"]


def gallery(
    out: Out = Path("gallery"),
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of each sampler, frames of each film.")
    ] = 500,
    model: Model = "mnist",
    n: Annotated[int, typer.Option(min=1, help="Number of images.")] = 5,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw every picture of the tutorial: images, films and paths of five samplers.

    Example: diffsde gallery --out gallery --steps 500
    """
    with reported(as_json) as report:
        report.written += diffsde.views.write_gallery(
            out, pick_model(model), steps=steps, n=n, seed=seed, progress=not quiet
        )


def sample(
    method: Method = "euler",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Number of steps; adaptive solvers need none.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images.")] = 16,
    seed: Seed = 0,
    out: Out = Path("samples"),
    model: Model = "mnist",
    clock: Clock = "t",
    kind: Kind = None,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 256,
    animation: Annotated[
        bool, typer.Option("--animate", help="Also make a film of the path.")
    ] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Also plot every pixel's path.")] = False,
    denoise: Annotated[bool, typer.Option(help="Finish with one denoising evaluation.")] = True,
    label: Annotated[
        int | None, typer.Option(min=0, help="Draw one class only (for models with classes).")
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="Guidance strength; 1 = plain conditional sampling.")
    ] = 1.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw images from a model with any solver.

    Writes samples.png and samples.safetensors, a trajectory: its last state, or the whole
    path with --animate or --paths.

    Examples: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64,
    diffsde sample --label 7 --guidance 2 --clock karras --steps 50
    """
    with reported(as_json) as report:
        score = pick_model(model)
        solver = pick_solver(method, kind)
        whole = animation or paths
        sol = diffsde.solve(
            pick_problem(score, solver.kind, label, guidance),
            score.sde.prior_sample((n, *score.shape), seed=seed),
            method,
            steps=steps,
            clock=clock,
            seed=seed,
            save=(100 if solver.adaptive and steps is None else "all") if whole else "last",
            chunk=min(chunk, n),
            denoise=denoise,
            progress=not quiet,
        )
        report.say(
            f"{sol.method}: {sol.stats.nfe} evaluations of the score for each image",
            method=sol.method, kind=solver.kind, clock=clock, n=n, seed=seed,
            stats=asdict(sol.stats),
        )  # fmt: skip
        report.written += _write(sol, out, animation, paths)


def _write(sol: diffsde.Trajectory, out: Path, animation: bool, paths: bool) -> list[Path]:
    """Write the images and the trajectory, and the film and the paths if wanted."""
    out.mkdir(parents=True, exist_ok=True)
    diffsde.plot_images(sol.images(), out / "samples.png")
    written = [out / "samples.png", sol.save(out / "samples.safetensors")]
    if animation:
        written.append(diffsde.animate(sol, out / "samples.gif"))
    if paths:
        diffsde.plot_paths(sol, out / "paths.png")
        written.append(out / "paths.png")
    return written


def explore(
    method: Methods = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of each solver, times of each path.")
    ] = 200,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images.")] = 16,
    seed: Seed = 0,
    clock: Clock = "t",
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("explore.html"),
    model: Model = "mnist",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an HTML page for exploring paths: scrub through time, play, follow a pixel.

    Several methods are shown side by side, all starting from the same noise.

    Example: diffsde explore --method euler --method heun2
    """
    with reported(as_json) as report:
        score = pick_model(model)
        x1 = score.sde.prior_sample((n, *score.shape), seed=seed)
        sols = []
        for name in method or ["euler"]:
            problem = pick_problem(score, pick_solver(name, None).kind)
            sols.append(
                diffsde.solve(
                    problem, x1, name, steps=steps, clock=clock, seed=seed, progress=not quiet
                )
            )
        runs = [{"method": sol.method, "stats": asdict(sol.stats)} for sol in sols]
        costs = ", ".join(f"{sol.method}: {sol.stats.nfe} evaluations" for sol in sols)
        report.say(costs, runs=runs)
        report.written.append(diffsde.views.write_html(sols, out))
