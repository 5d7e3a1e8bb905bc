r"""The command line: a thin layer over the public functions."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from diffsde import __version__
from diffsde.analysis.budgets import work_precision as compare_work
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.cli.report import reported, text_table
from diffsde.data.images import load_images
from diffsde.equations.clocks import CLOCKS
from diffsde.equations.reverse import PROBLEMS, ProbabilityFlow, ReverseProblem
from diffsde.errors import DiffSDEError, InputError
from diffsde.evaluation.plots import plot_evaluation, plot_neighbours
from diffsde.evaluation.samplers import Sampler, evaluate_samplers, sample_images
from diffsde.scores.checkpoint import PRETRAINED, load_model, load_pretrained
from diffsde.scores.guidance import classifier_free
from diffsde.scores.model import ScoreModel
from diffsde.solvers.catalogue import find_solver, list_solvers
from diffsde.solvers.registry import Solver
from diffsde.solvers.solving import solve
from diffsde.training.loop import train as run_training
from diffsde.training.objectives import OBJECTIVES
from diffsde.training.recipes import RECIPES, Recipe
from diffsde.views import plot_images, plot_paths, plot_work_precision
from diffsde.views.animation import animate
from diffsde.views.explorer import write_html
from diffsde.views.gallery import write_gallery

__all__ = ["app", "main"]

EXAMPLE = "Example: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64 --animate"
EXIT_CODES = (
    "Exit codes: 0 done; 1 the work failed (a file, a solve, a training); 2 the command was wrong "
    "(an unknown name, an option that does not fit); 130 interrupted by Ctrl-C."
)

app = typer.Typer(
    help="Diffusion models as differential equations: train a score, solve by any solver, look.",
    epilog=f"{EXAMPLE}\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Folder for what is written.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help=f"A model that ships ({', '.join(PRETRAINED)}), or a file.",
        autocompletion=lambda: list(PRETRAINED),
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all noise.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else, for programs.")
]
Clock = Annotated[
    str,
    typer.Option(
        "--clock",
        help=f"In which steps are even: {', '.join(CLOCKS)}.",
        autocompletion=lambda: list(CLOCKS),
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method", help="A solver's name: see `diffsde solvers`.", autocompletion=lambda: _names()
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="A solver's name; several times for several.",
        autocompletion=lambda: _names(),
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="sde or ode, for a name that both have (sde if not given).",
        autocompletion=lambda: list(PROBLEMS),
    ),
]


def main() -> None:
    """The `diffsde` command."""
    try:
        # Typer catches Ctrl-C itself, and returns its code.
        if app(standalone_mode=False) == 130:
            raise KeyboardInterrupt
    except DiffSDEError as error:
        print(f"diffsde: {error}", file=sys.stderr)
        # A solve that Ctrl-C stops hands back its path so far, by an error of its own.
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        sys.exit(130 if interrupted else 2 if isinstance(error, InputError) else 1)
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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Every picture of the tutorial: images, films and paths by five samplers.

    Example: diffsde gallery --out gallery --steps 500
    """
    with reported(as_json) as report:
        report.written += write_gallery(
            out, _model(model), steps=steps, n=n, seed=seed, progress=not quiet
        )


@app.command()
def sample(
    method: Method = "euler",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps; an adaptive solver needs none.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 16,
    seed: Seed = 0,
    out: Out = Path("samples"),
    model: Model = "mnist",
    clock: Clock = "t",
    kind: Kind = None,
    chunk: Annotated[int, typer.Option(min=1, help="Images solved at a time.")] = 256,
    animation: Annotated[
        bool, typer.Option("--animate", help="Also the film of the path.")
    ] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Also every pixel's path.")] = False,
    denoise: Annotated[bool, typer.Option(help="End with the estimate without noise.")] = True,
    label: Annotated[
        int | None, typer.Option(min=0, help="Of one class (a model with classes).")
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="How strongly: 1 is the class itself, more exaggerates it.")
    ] = 1.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw images from a model by any solver.

    Writes samples.png and samples.safetensors (a trajectory: its last state, or the whole
    path with --animate or --paths).

    Examples: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64,
    diffsde sample --label 7 --guidance 2 --clock karras --steps 50
    """
    with reported(as_json) as report:
        score = _model(model)
        solver = _solver(method, kind)
        problem = _problem(score, solver, label, guidance)
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
        report.say(
            f"{sol.method}: {sol.stats.nfe} evaluations of the score for each image",
            method=sol.method, kind=solver.kind, clock=clock, n=n, seed=seed,
            stats=asdict(sol.stats),
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        plot_images(sol.images(), out / "samples.png")
        report.written += [out / "samples.png", sol.save(out / "samples.safetensors")]
        if animation:
            report.written.append(animate(sol, out / "samples.gif"))
        if paths:
            plot_paths(sol, out / "paths.png")
            report.written.append(out / "paths.png")


@app.command()
def explore(
    method: Methods = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each solver; times of each path.")] = 200,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 16,
    seed: Seed = 0,
    clock: Clock = "t",
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("explore.html"),
    model: Model = "mnist",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a page to explore paths in: scrub over t, play, follow a pixel.

    Several methods stand side by side, from the same noise.

    Example: diffsde explore --method euler --method heun2
    """
    with reported(as_json) as report:
        score = _model(model)
        x1 = score.sde.prior_sample((n, *score.shape), seed=seed)
        sols = []
        for name in method or ["euler"]:
            problem = _problem(score, _solver(name, None))
            sols.append(
                solve(problem, x1, name, steps=steps, clock=clock, seed=seed, progress=not quiet)
            )
        runs = [{"method": sol.method, "stats": asdict(sol.stats)} for sol in sols]
        costs = ", ".join(f"{sol.method}: {sol.stats.nfe} evaluations" for sol in sols)
        report.say(costs, runs=runs)
        report.written.append(write_html(sols, out))


@app.command()
def evaluate(
    method: Methods = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Steps, or several numbers of them (19).")
    ] = None,
    clock: Clock = "karras",
    kind: Kind = None,
    denoise: Annotated[bool, typer.Option(help="End with one evaluation without noise.")] = True,
    classes: Annotated[
        bool, typer.Option("--classes", help="Tell the network a class drawn for each image.")
    ] = False,
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
    with reported(as_json) as report:
        samplers = [
            Sampler(name, _solver(name, kind).kind, count, clock, denoise, classes)
            for name in method or ["sde_dpmpp_2m"]
            for count in steps or [19]
        ]
        # The kept batches belong to a model; a folder for each keeps them apart.
        kept = out / Path(model).stem
        score = _model(model)
        table = evaluate_samplers(score, samplers, n, seed=seed, out=kept, progress=not quiet)
        report.say(table, scores=list(table))
        report.written.append(table.save(out / "scores.csv"))
        plot_evaluation(table, out / "scores.png")
        report.written.append(out / "scores.png")
        # The images are kept, so they are read, not drawn again.
        drawn = {
            one.name: sample_images(score, one, n, seed=seed, out=kept, progress=False).images
            for one in samplers
        }
        train, test = (load_images("mnist", train=t).images.float() / 255 for t in (True, False))
        plot_neighbours(drawn, train, test, out / "neighbours.png")
        report.written.append(out / "neighbours.png")


@app.command()
def likelihood(
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Test images; all if left out.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Of Hutchinson's estimator.")] = 1,
    steps: Annotated[
        int, typer.Option(min=1, help="Of rk4, even in ln σ, four evaluations each.")
    ] = 30,
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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bits per dimension of the test images, under the probability flow.

    The results file is written after every chunk; the same command goes on from it.

    Example: diffsde likelihood --model mnist-likelihood --eps 1e-8 --n 256
    """
    with reported(as_json) as report:
        score = _model(model)
        images = load_images(dataset, data, train=False).images[:n].float() / 255
        flow = ProbabilityFlow(score.sde, score, score.shape)
        found = evaluate_likelihood(
            flow, images, path=out, chunk=chunk, seed=seed, progress=not quiet,
            probes=probes, eps=eps, method="rk4", steps=steps,
        )  # fmt: skip
        report.say(
            found,
            bits_per_dim=found.mean, stderr=found.stderr, images=len(images), nfe=found.nfe,
        )  # fmt: skip
        report.written.append(out)


@app.command("work-precision")
def work_precision(
    method: Methods = None,
    budget: Annotated[list[int] | None, typer.Option(help="Evaluations (10, 20, 40).")] = None,
    clock: Annotated[
        list[str] | None,
        typer.Option(
            help="A clock; several times for several (karras).",
            autocompletion=lambda: list(CLOCKS),
        ),
    ] = None,
    kind: Kind = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Images.")] = 16,
    seed: Seed = 0,
    model: Model = "mnist",
    out: Out = Path("work-precision"),
    as_json: AsJson = False,
) -> None:
    """Error against score evaluations, on one noise, as a table and a picture.

    Example: diffsde work-precision --method heun2 --method dpmpp_2m --clock karras
    """
    with reported(as_json) as report:
        score = _model(model)
        names = method or ["dpmpp_2m", "unipc", "heun2", "midpoint"]
        rows = [_solver(name, kind) for name in names]
        if len({row.kind for row in rows}) > 1:
            raise InputError("work-precision: give methods of one kind (see `diffsde solvers`)")
        problem = _problem(score, rows[0])
        table = compare_work(
            problem, names, budget or (10, 20, 40), n=n, seed=seed, clock=clock or "karras"
        )
        report.say(table, measure=table.measure, rows=[asdict(row) for row in table.rows])
        report.written.append(table.save(out / "table.csv"))
        plot_work_precision(table, out / "table.png")
        report.written.append(out / "table.png")


@app.command()
def solvers(
    kind: Annotated[str | None, typer.Argument(help="sde or ode; both if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """The table of solvers: order, cost for each step, source and advice.

    Example: diffsde solvers sde
    """
    with reported(as_json) as report:
        rows = list_solvers(kind)
        texts = [
            f"{title}\n\n{_table(chosen)}\n"
            for title, name in (("Reverse SDE", "sde"), ("Probability flow", "ode"))
            if (chosen := [row for row in rows if row.kind == name])
        ]
        report.say("\n".join(texts), solvers=[_facts(row) for row in rows])


@app.command()
def train(
    context: typer.Context,
    out: Out,
    recipe: Annotated[str, typer.Option(help=f"Start from: {', '.join(RECIPES)}.")] = "mnist",
    dataset: Annotated[str, typer.Option(help="mnist, fashion-mnist, kmnist or folder.")] = "mnist",
    data: Annotated[Path | None, typer.Option(help="Folder of the data set, or of images.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Bring images to this size.")] = None,
    network: Annotated[str | None, typer.Option(help="The network's name.")] = None,
    start_from: Annotated[
        str | None, typer.Option(help="Begin with the weights of a model, by name or file.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn what a model, by name or file, denoises, instead of the images."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=0, help="How many classes the network is told of.")
    ] = None,
    class_dropout: Annotated[
        float | None, typer.Option(help="Share of images whose class is not told.")
    ] = None,
    blocks: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Of ResidualUNet: before, in and after its inner part."),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help=f"How noise is drawn and weighted: {', '.join(OBJECTIVES)}.")
    ] = None,
    level_mean: Annotated[float | None, typer.Option(help="Of ln σ (objective lognormal).")] = None,
    level_std: Annotated[float | None, typer.Option(help="Of ln σ (objective lognormal).")] = None,
    smallest_time: Annotated[float | None, typer.Option(help="No t is drawn below it.")] = None,
    dequantise: Annotated[
        bool | None, typer.Option(help="Learn (k + u) / 256: for likelihoods.")
    ] = None,
    mirror: Annotated[
        bool | None, typer.Option(help="Show half of the images mirrored: for photographs.")
    ] = None,
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
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts of a batch, each in memory by itself.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="States to keep, the newest.")] = 2,
    log_with: Annotated[
        list[str] | None, typer.Option(help="Follow the loss with tensorboard, wandb, ….")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn the score by denoising score matching.

    The folder holds model.safetensors (for --model), the run's newest states, loss.csv and
    loss.png. Ctrl-C saves the run; --resume goes on with it, after a power cut too. Several
    processes are started by a launcher, and divide every batch.

    Examples: diffsde train --out runs/first --recipe mnist-tutorial --epochs 5,
    torchrun --nproc_per_node 2 -m diffsde train --out runs/second
    """
    # The options that a recipe has by the same names.
    options = {entry.name for entry in fields(Recipe)} & context.params.keys()
    chosen = {name: context.params[name] for name in options if context.params[name] is not None}
    with reported(as_json) as report:
        if recipe not in RECIPES:
            raise InputError(f"no recipe {recipe!r}: choose {' or '.join(RECIPES)}")
        images = load_images(dataset, data, size=size)
        wanted = None if resume and not chosen else replace(RECIPES[recipe], **chosen)
        run_training(
            out, images, wanted, start_from=None if start_from is None else _model(start_from),
            teacher=None if teacher is None else _model(teacher), resume=resume, keep=keep,
            log_with=log_with or (), progress=not quiet,
        )  # fmt: skip
        update, loss = _last_loss(out / "loss.csv")
        report.say(f"loss {loss:.2f} after {update} updates", updates=update, loss=loss)
        report.written += [out / name for name in ("model.safetensors", "loss.csv", "loss.png")]


def _model(name: str) -> ScoreModel:
    """A model that ships, or one from a file."""
    return (
        load_pretrained(name) if name in PRETRAINED or not Path(name).exists() else load_model(name)
    )


def _problem(
    score: ScoreModel, solver: Solver, label: int | None = None, guidance: float = 1.0
) -> ReverseProblem:
    if label is None and guidance != 1:
        raise InputError(f"--guidance {guidance:g} is towards a class: give --label too")
    wanted = score if label is None else classifier_free(score, label, guidance)
    return PROBLEMS[solver.kind](score.sde, wanted, score.shape)


def _solver(method: str, kind: str | None) -> Solver:
    if kind is None:
        kind = "sde" if any(row.name == method for row in list_solvers("sde")) else "ode"
        if not any(row.name == method for row in list_solvers()):
            kind = "sde"
    if kind not in ("sde", "ode"):
        raise InputError(f"--kind {kind}: expected sde or ode")
    return find_solver(method, kind)


def _names() -> list[str]:
    """Of all solvers, for the shell's completion."""
    return sorted({row.name for row in list_solvers()})


def _last_loss(path: Path) -> tuple[int, float]:
    """The last line of a run's loss.csv, which every run has: its last update is logged."""
    update, loss = path.read_text("utf-8").splitlines()[-1].split(",")
    return int(update), float(loss)


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
    return text_table(head, lines)
