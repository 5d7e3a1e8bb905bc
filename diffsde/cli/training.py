r"""The command `train`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import diffsde
from diffsde.cli.options import AsJson, Out, Quiet, Threads
from diffsde.cli.picking import pick_weights
from diffsde.cli.report import compute_with, reported
from diffsde.errors import InputError
from diffsde.system.files import check_folder

__all__ = ["train"]


def train(
    context: typer.Context,
    out: Out,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe to start from: {recipes}. By default, the run's own to --resume; else "
            "images, or points for points and signals."
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            help="{datasets}; the path of a folder of images, or of an .npy or .npz file; a data "
            "set of torchvision, such as cifar10; or hf:NAME, of Hugging Face."
        ),
    ] = "mnist",
    data: Annotated[
        Path | None, typer.Option(help="Folder that keeps a data set which is given by name.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Crop and resize images to this side, or HEIGHTxWIDTH.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Network: {networks}.")] = None,
    sde: Annotated[str | None, typer.Option(help="Forward process: {sdes}.")] = None,
    preconditioning: Annotated[
        str | None, typer.Option(help="What the network's output means: {preconditionings}.")
    ] = None,
    sigma_data: Annotated[
        float | None, typer.Option(min=0, help="Root mean square of the data; 0: measured.")
    ] = None,
    start_from: Annotated[
        str | None, typer.Option(help="Start from the weights of this model, a name or a file.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn this model's denoised images, not the data's; a name or a file."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=0, help="Number of classes of a conditional network; 0: none.")
    ] = None,
    class_dropout: Annotated[
        float | None, typer.Option(help="Share of images shown without their class label.")
    ] = None,
    blocks: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Blocks of ResidualUNet before, in and after its inner part."),
    ] = None,
    waves: Annotated[
        list[int] | None,
        typer.Option(
            help="Frequency of waves that ResidualUNet or LevelUNet is given; repeatable."
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(min=0, help="Width of MLP's layers.")] = None,
    depth: Annotated[int | None, typer.Option(min=0, help="Number of MLP's blocks.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="How noise is drawn and weighted: {objectives}.")
    ] = None,
    level_mean: Annotated[
        float | None, typer.Option(help="Mean of ln σ (objectives lognormal, flow-logit-normal).")
    ] = None,
    level_std: Annotated[
        float | None, typer.Option(help="Standard deviation of ln σ (the same).")
    ] = None,
    coupling: Annotated[
        str | None, typer.Option(help="Which noise goes with which image: {couplings}.")
    ] = None,
    smallest_time: Annotated[
        float | None, typer.Option(help="Smallest time t to train at.")
    ] = None,
    dequantise: Annotated[
        bool | None, typer.Option(help="Learn (k + u) / 256, as likelihoods need.")
    ] = None,
    mirror: Annotated[
        bool | None, typer.Option(help="Mirror half of the images (for photographs).")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="Optimiser: {optimizers}.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes through the training samples.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples in one update, over all processes.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    averages: Annotated[
        list[float] | None,
        typer.Option(help="Decay of an average of the weights; repeatable. 0: the weights."),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(min=0, help="Shorten gradients so many times longer than usual; 0: never."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Share of the samples set aside to choose among the averages, below 1, or their "
            "number.",
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Schedule of the learning rate: {schedules}.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16, or auto: whichever is faster here.")
    ] = None,
    compile: Annotated[bool | None, typer.Option(help="Compile the network.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Split each batch into so many parts to save memory.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of latest states to keep.")] = 2,
    save_minutes: Annotated[
        float,
        typer.Option(min=0, help="Write a state so long after the last one, amid an epoch too."),
    ] = 10.0,
    log_with: Annotated[
        list[str] | None, typer.Option(help="Log the loss to tensorboard, wandb, …; repeatable.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn a score by denoising score matching, or a velocity by flow matching.

    The folder holds model.safetensors (for --model), the run's latest states, loss.csv and
    loss.png. Ctrl-C and a scheduler's SIGTERM save the run, and --resume continues it, even after a
    power cut. Start several processes with a launcher: they divide every batch among them.

    Examples: diffsde train --out runs/first --recipe mnist-tutorial --epochs 5,
    diffsde train --out runs/photos --dataset photos/ --size 64,
    torchrun --nproc_per_node 2 -m diffsde train --out runs/second
    """
    with reported(as_json) as report:
        check_folder(out, "out")
        compute_with(threads)
        chosen = _recipe_options(context.params)
        begun = _begun(out, recipe, resume)
        samples = diffsde.data.load_data(dataset, data, size=size)
        base = begun or _usual(samples)
        diffsde.train(
            out,
            samples,
            replace(base, **chosen),
            start_from=None if start_from is None else pick_weights(start_from),
            teacher=None if teacher is None else pick_weights(teacher),
            resume=resume,
            keep=keep,
            save_minutes=save_minutes,
            log_with=log_with or (),
            progress=not quiet,
        )
        update, loss = _last_loss(out / "loss.csv")
        report.say(f"loss {loss:.2f} after {update} updates", updates=update, loss=loss)
        report.written += [out / name for name in ("model.safetensors", "loss.csv", "loss.png")]


def _begun(out: Path, name: str | None, resume: bool) -> diffsde.training.Recipe | None:
    """The recipe of that name, or of the run to resume; None if it depends on the data."""
    from diffsde.training.run_state import saved_recipe

    recipes = diffsde.training.RECIPES
    if name is None:
        folder = diffsde.training.RunFolder(out, 1)
        return saved_recipe(folder.newest()) if resume else None
    if name not in recipes:
        raise InputError(f"no recipe {name!r}: choose {' or '.join(recipes)}")
    return recipes[name]


def _usual(data: diffsde.data.Samples) -> diffsde.training.Recipe:
    return diffsde.training.RECIPES["images" if len(data.shape) == 3 else "points"]


def _recipe_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options given that a recipe has by the same name."""
    names = {entry.name for entry in fields(diffsde.training.Recipe)}
    found = {name: value for name, value in given.items() if name in names}
    # An option that may be repeated is an empty list if it is not given at all.
    found = {name: value for name, value in found.items() if value not in (None, [], ())}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


def _last_loss(path: Path) -> tuple[int, float]:
    """The last line of loss.csv: a run always logs its last update and its loss."""
    update, loss = path.read_text("utf-8").splitlines()[-1].split(",")
    return int(update), float(loss)
