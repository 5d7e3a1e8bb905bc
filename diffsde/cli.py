r"""The command line: a thin layer over the public functions.

Exit codes: 0 done; 1 the work failed (a file, a solve, a training); 2 the command was
wrong (an unknown name, an option that does not fit); 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from diffsde import __version__
from diffsde.animation import animate
from diffsde.checkpoint import PRETRAINED, load_model, load_pretrained
from diffsde.data import load_images
from diffsde.errors import DiffSDEError, InputError
from diffsde.evaluation import Sampler, evaluate_samplers, sample_images
from diffsde.evaluation_plots import plot_evaluation, plot_neighbours
from diffsde.explorer import write_html
from diffsde.gallery import gallery as write_gallery
from diffsde.integrate import solve
from diffsde.likelihood import evaluate_likelihood
from diffsde.plots import plot_images, plot_paths, plot_work_precision
from diffsde.reverse import PROBLEMS, ProbabilityFlow, ReverseProblem
from diffsde.score import ScoreModel
from diffsde.solvers import Solver, find_solver, list_solvers
from diffsde.training import RECIPES
from diffsde.training import train as run_training
from diffsde.work_precision import work_precision as compare_work

__all__ = ["app", "main"]

app = typer.Typer(
    help="Diffusion models as differential equations: train a score, solve by any solver, look.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Folder for what is written.")]
Model = Annotated[
    str, typer.Option("--model", help=f"A model that ships ({', '.join(PRETRAINED)}), or a file.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all noise.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main() -> None:
    """The `diffsde` command."""
    try:
        app(standalone_mode=False)
    except DiffSDEError as error:
        print(f"diffsde: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        print("diffsde: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"diffsde: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # What Typer's own parser raises about the command line says how to show itself.
        if not hasattr(error, "exit_code"):
            raise
        if hasattr(error, "show"):
            error.show()
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"diffsde {__version__}")


@app.command()
def gallery(
    out: Out = Path("gallery"),
    steps: Annotated[int, typer.Option(min=1, help="Of each sampler; frames of each film.")] = 500,
    model: Model = "mnist",
    n: Annotated[int, typer.Option(min=1, help="How many images.")] = 5,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Every picture of the tutorial: images, films and paths by five samplers.

    Example: diffsde gallery --out gallery --steps 500
    """
    with _timed() as written:
        written += write_gallery(
            out, _model(model), steps=steps, n=n, seed=seed, progress=not quiet
        )


@app.command()
def sample(
    method: Annotated[str, typer.Option(help="A solver's name: see `diffsde solvers`.")] = "euler",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps; an adaptive solver needs none.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 16,
    seed: Seed = 0,
    out: Out = Path("samples"),
    model: Model = "mnist",
    clock: Annotated[str, typer.Option(help="t, sigma, log_sigma or karras.")] = "t",
    kind: Annotated[
        str | None, typer.Option(help="sde or ode, for a name that both have (sde if not given).")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 256,
    animation: Annotated[
        bool, typer.Option("--animate", help="Also the film of the path.")
    ] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Also every pixel's path.")] = False,
    denoise: Annotated[bool, typer.Option(help="End with the estimate without noise.")] = True,
    quiet: Quiet = False,
) -> None:
    """Draw images from a model by any solver.

    Writes samples.png and samples.safetensors (a trajectory: its last state, or the whole
    path with --animate or --paths).

    Example: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64
    """
    with _timed() as written:
        score = _model(model)
        solver = _solver(method, kind)
        problem = _problem(score, solver)
        whole = animation or paths
        sol = solve(
            problem,
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
        out.mkdir(parents=True, exist_ok=True)
        plot_images(sol.images(), out / "samples.png")
        written += [out / "samples.png", sol.save(out / "samples.safetensors")]
        if animation:
            written.append(animate(sol, out / "samples.gif"))
        if paths:
            plot_paths(sol, out / "paths.png")
            written.append(out / "paths.png")
        print(f"{sol.method}: {sol.stats.nfe} evaluations of the score for each image")


@app.command()
def explore(
    method: Annotated[
        list[str] | None, typer.Option(help="A solver; twice for two side by side.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each solver; times of each path.")] = 200,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 16,
    seed: Seed = 0,
    clock: Annotated[str, typer.Option(help="t, sigma, log_sigma or karras.")] = "t",
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("explore.html"),
    model: Model = "mnist",
    quiet: Quiet = False,
) -> None:
    """Write a page to explore paths in: scrub over t, play, follow a pixel.

    Example: diffsde explore --method euler --method heun2
    """
    with _timed() as written:
        score = _model(model)
        x1 = score.sde.prior_sample((n, *score.shape), seed=seed)
        sols = []
        for name in method or ["euler"]:
            problem = _problem(score, _solver(name, None))
            sols.append(
                solve(problem, x1, name, steps=steps, clock=clock, seed=seed, progress=not quiet)
            )
        written.append(write_html(sols, out))


@app.command()
def evaluate(
    method: Annotated[
        list[str] | None, typer.Option(help="A solver; several times for several.")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Steps, or several numbers of them (19).")
    ] = None,
    clock: Annotated[str, typer.Option(help="t, sigma, log_sigma or karras.")] = "karras",
    kind: Annotated[str | None, typer.Option(help="sde or ode.")] = None,
    denoise: Annotated[bool, typer.Option(help="End with one evaluation without noise.")] = True,
    n: Annotated[int, typer.Option("--n", min=100, help="How many images of each.")] = 10_000,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("evaluation"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score samples of digits against MNIST's test images, sampler by sampler (extra: metrics).

    Every method runs with every number of steps. Writes scores.csv, scores.png and
    neighbours.png: the images that lie nearest to training images, beside those. Finished
    batches are kept in --out: the same command goes on where it was stopped.

    Example: diffsde evaluate --method sde_dpmpp_2m --method dpmpp_2m --steps 9 --steps 19
    """
    with _timed(as_json) as written:
        samplers = [
            Sampler(name, _solver(name, kind).kind, count, clock, denoise)
            for name in method or ["sde_dpmpp_2m"]
            for count in steps or [19]
        ]
        # The kept batches belong to a model; a folder for each keeps them apart.
        kept = out / Path(model).stem
        score = _model(model)
        table = evaluate_samplers(score, samplers, n, seed=seed, out=kept, progress=not quiet)
        print(json.dumps(list(table)) if as_json else table)
        written.append(table.save(out / "scores.csv"))
        plot_evaluation(table, out / "scores.png")
        written.append(out / "scores.png")
        # The images are kept, so they are read, not drawn again.
        drawn = {
            one.name: sample_images(score, one, n, seed=seed, out=kept, progress=False).images
            for one in samplers
        }
        train, test = (load_images("mnist", train=t).images.float() / 255 for t in (True, False))
        plot_neighbours(drawn, train, test, out / "neighbours.png")
        written.append(out / "neighbours.png")


@app.command()
def likelihood(
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Test images; all if left out.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Of Hutchinson's estimator.")] = 1,
    tolerance: Annotated[float, typer.Option(help="rtol and atol of the solve.")] = 1e-3,
    eps: Annotated[
        float, typer.Option(help="Time at which images are taken: its noise costs bits.")
    ] = 1e-5,
    chunk: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    dataset: Annotated[str, typer.Option(help="mnist, fashion-mnist or kmnist.")] = "mnist",
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Annotated[Path, typer.Option(help="File of the results.")] = Path(
        "likelihood.safetensors"
    ),
    quiet: Quiet = False,
) -> None:
    """Bits per dimension of the test images, under the probability flow.

    The results file is written after every chunk; the same command goes on from it.

    Example: diffsde likelihood --n 256
    """
    with _timed() as written:
        score = _model(model)
        images = load_images(dataset, data, train=False).images[:n].float() / 255
        flow = ProbabilityFlow(score.sde, score, score.shape)
        print(
            evaluate_likelihood(
                flow, images, path=out, chunk=chunk, seed=seed, progress=not quiet,
                probes=probes, rtol=tolerance, atol=tolerance, eps=eps,
            )
        )  # fmt: skip
        written.append(out)


@app.command("work-precision")
def work_precision(
    method: Annotated[list[str], typer.Option(help="A solver; several times for several.")],
    budget: Annotated[list[int] | None, typer.Option(help="Evaluations (10, 20, 40).")] = None,
    clock: Annotated[list[str] | None, typer.Option(help="A clock, or several.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Images.")] = 16,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("work-precision"),
) -> None:
    """Error against score evaluations, on one noise, as a table and a picture.

    Example: diffsde work-precision --method heun2 --method dpmpp_2m --clock karras
    """
    with _timed() as written:
        score = _model(model)
        rows = [_solver(name, None) for name in method]
        if len({row.kind for row in rows}) > 1:
            raise InputError("work-precision: give methods of one kind (see `diffsde solvers`)")
        problem = _problem(score, rows[0])
        table = compare_work(
            problem, method, budget or (10, 20, 40), n=n, seed=seed, clock=clock or "karras"
        )
        print(table)
        written.append(table.save(out / "table.csv"))
        plot_work_precision(table, out / "table.png")
        written.append(out / "table.png")


@app.command()
def solvers(
    kind: Annotated[str | None, typer.Argument(help="sde or ode; both if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """The table of solvers: order, cost for each step, source and advice.

    Example: diffsde solvers sde
    """
    rows = list_solvers(kind)
    if as_json:
        print(json.dumps([_facts(row) for row in rows], ensure_ascii=False, indent=1))
        return
    for title, name in (("Reverse SDE", "sde"), ("Probability flow", "ode")):
        chosen = [row for row in rows if row.kind == name]
        if chosen:
            print(f"\n{title}\n")
            print(_table(chosen))


@app.command()
def train(
    out: Out,
    recipe: Annotated[str, typer.Option(help=f"Start from: {', '.join(RECIPES)}.")] = "mnist",
    dataset: Annotated[str, typer.Option(help="mnist, fashion-mnist, kmnist or folder.")] = "mnist",
    data: Annotated[Path | None, typer.Option(help="Folder of the data set, or of images.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Bring images to this size.")] = None,
    network: Annotated[str | None, typer.Option(help="The network's name.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Of the learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or auto: the faster one here.")
    ] = None,
    compile: Annotated[bool | None, typer.Option(help="Compile the network.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log there too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Learn the score by denoising score matching.

    The folder holds model.safetensors (for --model), the run's state, loss.csv and loss.png.
    Ctrl-C saves the run; --resume goes on with it.

    Example: diffsde train --out runs/first --recipe mnist-tutorial --epochs 5
    """
    chosen: dict[str, Any] = {
        name: value
        for name, value in {
            "network": network,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "seed": seed,
            "precision": precision,
            "compile": compile,
        }.items()
        if value is not None
    }
    with _timed() as written:
        if recipe not in RECIPES:
            raise InputError(f"no recipe {recipe!r}: choose {' or '.join(RECIPES)}")
        images = load_images(dataset, data, size=size)
        wanted = None if resume and not chosen else replace(RECIPES[recipe], **chosen)
        run_training(
            out, images, wanted, resume=resume, tensorboard=tensorboard, progress=not quiet
        )
        written += [out / name for name in ("model.safetensors", "loss.csv", "loss.png")]


def _model(name: str) -> ScoreModel:
    """A model that ships, or one from a file."""
    return (
        load_pretrained(name) if name in PRETRAINED or not Path(name).exists() else load_model(name)
    )


def _problem(score: ScoreModel, solver: Solver) -> ReverseProblem:
    return PROBLEMS[solver.kind](score.sde, score, score.shape)


def _solver(method: str, kind: str | None) -> Solver:
    if kind is None:
        kind = "sde" if any(row.name == method for row in list_solvers("sde")) else "ode"
        if not any(row.name == method for row in list_solvers()):
            kind = "sde"
    if kind not in ("sde", "ode"):
        raise InputError(f"--kind {kind}: expected sde or ode")
    return find_solver(method, kind)


@contextmanager
def _timed(as_json: bool = False) -> Iterator[list[Path]]:
    """Collect what is written, and say so with the seconds it took (not among JSON)."""
    started = time.perf_counter()
    written: list[Path] = []
    yield written
    if as_json:
        return
    for path in written:
        print(f"wrote {path}")
    print(f"in {time.perf_counter() - started:.1f} s")


def _facts(row: Solver) -> dict[str, Any]:
    """The fields of a row that say something to a reader."""
    shown = [f.name for f in fields(row) if f.repr]
    return {name: getattr(row, name) for name in shown}


def _table(rows: list[Solver]) -> str:
    head = ("name", "family", "order", "evaluations", "steps", "advice")
    lines = [
        (
            row.name,
            row.family,
            f"{row.order:g}",
            "varies" if row.evaluations is None else f"{row.evaluations:g}",
            "its own" if row.adaptive else "fixed",
            row.advice,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]])
        for line in [head, *lines]
    )
