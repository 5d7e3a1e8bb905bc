r"""Training: denoising score matching with Adam.

A run is a folder. It holds `model.safetensors`, the averaged network, ready for
`load_model`; `state.safetensors`, all that is needed to go on; `loss.csv` and
`loss.png`. Both safetensors files are replaced whole, after every epoch and when
the run is interrupted, so a stopped run can be used and resumed at any time.

The order of the images is a function of (seed, epoch), the times and the noise
come from a generator whose state is saved: a resumed run continues as if it had
never stopped.
"""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from diffsde.checkpoint import save_model
from diffsde.data import ImageData
from diffsde.errors import CheckpointError, InputError, TrainingError, name_list
from diffsde.networks import ScoreUNet
from diffsde.plots import plot_losses
from diffsde.score import ScoreModel, score_matching_loss
from diffsde.sde import SDE, VESDE
from diffsde.tensorfile import read_tensors, write_tensors

__all__ = ["SCHEDULES", "Recipe", "learning_rate", "train"]

SCHEDULES = ("constant", "cosine")
_WARM_UP = 200  # updates over which the learning rate rises from zero
_LOG_EVERY = 50  # updates averaged into one line of loss.csv


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes through the training images.
        batch_size: images in one update.
        learning_rate: of Adam, at its highest.
        schedule: "constant", or "cosine" down to zero; both after a short warm-up.
        average: decay of the exponential moving average of the weights, 0 for none.
        seed: of initial weights, order of images, times and noise.
        precision: "float32", "bfloat16" (autocast), or "auto": whichever is faster here.
    """

    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    average: float = 0.999
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)}: expected a positive number")
        if not 0 <= self.average < 1:
            raise InputError(f"average = {self.average}: expected 0 ≤ average < 1")
        for name, valid in (("schedule", SCHEDULES), ("precision", _PRECISIONS)):
            if getattr(self, name) not in valid:
                value = getattr(self, name)
                raise InputError(f"{name} = {value!r}: {name_list(str(value), valid)}")


_PRECISIONS = ("auto", "float32", "bfloat16")


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of update `step` out of `steps`."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    decay = 1.0
    if recipe.schedule == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
    return recipe.learning_rate * warm * decay


def train(
    out: str | os.PathLike[str],
    data: ImageData,
    recipe: Recipe | None = None,
    *,
    sde: SDE | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
) -> ScoreModel:
    """Train a `ScoreUNet` and return it with its averaged weights.

    Args:
        out: folder of the run, made if need be.
        data: the training images.
        recipe: how to train; when resuming, that of the run is used if left out.
        sde: the forward process, the tutorial's VE SDE by default.
        resume: go on with the run in `out`.
        tensorboard: log the loss there too (needs the extra `tensorboard`).
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the run was saved.
        TrainingError: the loss is no longer finite, or `out` holds another run.
        CheckpointError: there is nothing to resume from, or it is damaged.
    """
    folder = Path(out)
    state = folder / "state.safetensors"
    if resume:
        run = _Run.load(state, data, recipe)
    elif state.exists():
        raise TrainingError(
            f"{folder} already holds a run: resume it (--resume), or choose another folder"
        )
    else:
        run = _Run.start(data, recipe or Recipe(), sde or VESDE())
    writer = _tensorboard_writer(folder) if tensorboard else None
    try:
        run.go_on(folder, writer, progress)
    finally:
        if writer is not None:
            writer.close()
    return run.averaged()


class _Run:
    """A training run: everything that changes from one update to the next."""

    def __init__(self, data: ImageData, recipe: Recipe, model: ScoreModel) -> None:
        if len(data.images) < recipe.batch_size:
            raise InputError(
                f"{len(data.images)} images are less than one batch of {recipe.batch_size}: "
                "choose a smaller batch_size"
            )
        self.data, self.recipe, self.model = data, recipe, model
        self.average = AveragedModel(
            model.network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.average),
            use_buffers=True,
        )
        self.optimizer = torch.optim.Adam(model.network.parameters(), lr=recipe.learning_rate)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step = 0
        self.seconds = 0.0
        self.losses: list[tuple[int, float]] = []
        self.pending: list[float] = []

    # -- beginning ---------------------------------------------------------------

    @classmethod
    def start(cls, data: ImageData, recipe: Recipe, sde: SDE) -> _Run:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            network = ScoreUNet(sde, in_channels=data.shape[0])
        model = ScoreModel(network, sde, data.shape)
        if recipe.precision == "auto":
            fastest = _fastest_precision(model, data, recipe.batch_size)
            recipe = Recipe(**{**asdict(recipe), "precision": fastest})
        return cls(data, recipe, model)

    @classmethod
    def load(cls, path: Path, data: ImageData, recipe: Recipe | None) -> _Run:
        tensors, notes = read_tensors(path)
        try:
            saved = Recipe(**notes["recipe"])
            if recipe is not None and not _same_recipe(recipe, saved):
                raise InputError(
                    f"{path} was trained with {saved}, which differs from {recipe}: "
                    "resume without options, or start a new run"
                )
            sde = VESDE(**notes["sde"])
            run = cls(data, saved, ScoreModel(ScoreUNet(sde, **notes["network"]), sde, data.shape))
            run._load_tensors(tensors)
            run.step, run.seconds = notes["step"], notes["seconds"]
            run.losses = [(step, loss) for step, loss in notes["losses"]]
            run.pending = notes["pending"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: not the state of a training run on such images "
                f"({type(error).__name__}: {error})"
            ) from error
        return run

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.network.load_state_dict(part("network."))
        self.average.load_state_dict(part("average."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("adam.").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])

    # -- the loop ----------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data.images) // self.recipe.batch_size

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def go_on(self, folder: Path, writer: Any, progress: bool) -> None:
        started = time.perf_counter() - self.seconds
        bar = tqdm(total=self.steps, initial=self.step, unit="update", disable=not progress)
        try:
            with bar:
                while self.step < self.steps:
                    epoch, first = divmod(self.step, self.steps_per_epoch)
                    for index in self._batches(epoch)[first:]:
                        self._update(index)
                        bar.update()
                        self._log(bar, writer)
                    self.seconds = time.perf_counter() - started
                    self.save(folder)
        except KeyboardInterrupt:
            self.seconds = time.perf_counter() - started
            self.save(folder)
            raise

    def _batches(self, epoch: int) -> list[Tensor]:
        """The epoch's batches of indices, a function of (seed, epoch)."""
        order = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
        shuffled = torch.randperm(len(self.data.images), generator=order)
        size = self.recipe.batch_size
        return list(shuffled[: self.steps_per_epoch * size].split(size))

    def _update(self, index: Tensor) -> None:
        # The step is counted last, so that an interruption repeats it from where it
        # began: the generator goes back too.
        state = self.generator.get_state()
        try:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step, self.steps)
            loss = _loss(self.model, self.data.batch(index), self.recipe.precision, self.generator)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} at update {self.step}: lower the learning rate "
                    f"({self.recipe.learning_rate:g}); the last saved state is from before"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        except BaseException:
            self.generator.set_state(state)
            raise
        self.optimizer.step()
        self.average.update_parameters(self.model.network)
        self.pending.append(loss.item())
        self.step += 1

    def _log(self, bar: tqdm, writer: Any) -> None:
        if len(self.pending) < _LOG_EVERY and self.step < self.steps:
            return
        loss = sum(self.pending) / len(self.pending)
        self.losses.append((self.step, loss))
        self.pending = []
        bar.set_postfix(loss=f"{loss:.2f}")
        if writer is not None:
            writer.add_scalar("loss", loss, self.step)

    # -- what is kept ------------------------------------------------------------

    def averaged(self) -> ScoreModel:
        """The model with averaged weights, in evaluation mode."""
        return ScoreModel(self.average.module, self.model.sde, self.model.shape).eval()

    def save(self, folder: Path) -> None:
        """Write model, state and losses."""
        adam = self.optimizer.state_dict()["state"]
        tensors = {
            **{f"network.{k}": v for k, v in self.model.network.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"adam.{i}.{k}": v for i, moments in adam.items() for k, v in moments.items()},
            "generator": self.generator.get_state(),
        }
        notes = {
            "recipe": asdict(self.recipe),
            "sde": self.model.sde.config(),
            "network": self.model.network.config(),  # type: ignore[operator]
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "pending": self.pending,
        }
        write_tensors(folder / "state.safetensors", tensors, notes)
        card = {
            "data": self.data.name,
            "recipe": asdict(self.recipe),
            "updates": self.step,
            "seconds": round(self.seconds),
            "loss": self.losses[-1][1] if self.losses else None,
        }
        save_model(self.averaged(), folder / "model.safetensors", **card)
        self._write_losses(folder)

    def _write_losses(self, folder: Path) -> None:
        with (folder / "loss.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("update", "loss"), *self.losses])
        if self.losses:
            plot_losses(self.losses, folder / "loss.png")


def _loss(
    model: ScoreModel, x: Tensor, precision: str, generator: torch.Generator | None
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return score_matching_loss(model, x, generator)


def _fastest_precision(model: ScoreModel, data: ImageData, batch_size: int) -> str:
    """Time a few updates in either precision; the winner is recorded in the run."""
    x = data.batch(torch.arange(batch_size))
    seconds = {}
    for precision in ("float32", "bfloat16"):
        times = []
        for _ in range(4):
            started = time.perf_counter()
            _loss(model, x, precision, torch.Generator().manual_seed(0)).backward()
            times.append(time.perf_counter() - started)
        seconds[precision] = min(times[1:])
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda precision: seconds[precision])


def _same_recipe(given: Recipe, saved: Recipe) -> bool:
    return all(
        getattr(given, f.name) == getattr(saved, f.name)
        for f in fields(Recipe)
        if not (f.name == "precision" and given.precision == "auto")
    )


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tensorboard is not installed: pip install 'diffsde[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
