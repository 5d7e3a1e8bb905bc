r"""Training: denoising score matching, on one process or many.

`train` runs a `Recipe` on an objective and keeps the run in a folder (`run_folder`), from which
it goes on after any interruption as if it had never stopped: the order of the images is a
function of (seed, epoch), the times and the noise of (seed, update, position in the batch).

Processes, devices, the accumulation of gradients and trackers are Hugging Face's accelerate.
One process needs no launcher; for several, each of which works on its share of every batch,

    torchrun --nproc_per_node 8 -m diffsde train --out runs/first
    accelerate launch --multi_gpu --num_processes 8 -m diffsde train --out runs/first

Since noise belongs to a position in the batch, the division changes a run by rounding alone.
"""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from tqdm.auto import tqdm

from diffsde.data.images import ImageData
from diffsde.equations.forward import SDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError, TrainingError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.system.compiler import has_compiler
from diffsde.system.digest import digest_of_score
from diffsde.system.interrupts import set_by_interrupt
from diffsde.training.initial_model import initial_model
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image, training_loss
from diffsde.training.optimizers import AveragedNetwork, load_moments, make_optimizers, moments
from diffsde.training.recipes import WARM_UP, Recipe, learning_rate
from diffsde.training.run_folder import Results, RunFolder, State
from diffsde.training.run_state import Progress, RunState, not_a_run, taken
from diffsde.training.teacher import Teacher
from diffsde.training.trackers import make_accelerator, tracked

__all__ = ["train"]

_LOG_EVERY = 50  # updates averaged into one line of loss.csv
_CHUNK = 250  # held-out images in one pass
_EXTENDABLE = ("epochs", "accumulate")  # what may change when a run is resumed


def train(
    out: str | os.PathLike[str],
    data: ImageData,
    recipe: Recipe | None = None,
    *,
    sde: SDE | None = None,
    start_from: ScoreModel | None = None,
    teacher: ScoreModel | None = None,
    resume: bool = False,
    keep: int = 2,
    log_with: str | Sequence[str] = (),
    progress: bool = True,
) -> ScoreModel:
    """Train a network and return the model with its averaged weights.

    Args:
        out: folder of the run, made if need be; several processes share it.
        data: the training images.
        recipe: how to train; when resuming, that of the run is used if left out.
        sde: the forward process, the tutorial's VE SDE by default.
        start_from: a trained model to begin from, instead of fresh weights: its network,
            SDE and preconditioning are the run's, and must be the recipe's by name.
        teacher: a trained model whose denoised images are learned instead of the images
            (`diffsde.training.teacher`); one that knows classes is told them. Kept in the run's
            states: when resuming, that of the run is used, as its beginning is.
        resume: go on with the run in `out`.
        keep: how many states stay in `out`, one after every epoch.
        log_with: trackers of accelerate that follow the loss, such as "tensorboard" (which
            writes to the folder `tensorboard` in `out`; needs the extra of that name) or "wandb".
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the update under way, when the run is saved.
        TrainingError: the loss is no longer finite, `out` holds another run, or cannot be
            written to.
        CheckpointError: there is nothing to resume from, or it is damaged.
    """
    folder = RunFolder(Path(out), keep)
    accelerator = make_accelerator(folder.path, log_with)
    if resume:
        run = _Run.load(folder.newest(), data, recipe, accelerator)
    elif folder.states():
        raise TrainingError(
            f"{folder.path} already holds a run: resume it (--resume), or choose another folder"
        )
    else:
        recipe = recipe or Recipe()
        model = initial_model(data, recipe, sde or VESDE(), start_from)
        run = _Run.start(data, recipe, model, accelerator, teacher)
    accelerator.wait_for_everyone()  # nobody writes before all have looked
    with tracked(accelerator, run.recipe):
        run.go_on(folder, progress)
    return run.averaged()


class _Run:
    """A training run: everything that changes from one update to the next."""

    def __init__(
        self,
        data: ImageData,
        recipe: Recipe,
        model: ScoreModel,
        accelerator: Accelerator,
        teacher: ScoreModel | None,
    ) -> None:
        self.data, self.recipe, self.accelerator = data, recipe, accelerator
        self.model = model.to(accelerator.device)
        self.teacher = None if teacher is None else Teacher(teacher, model, data)
        self.averages = [AveragedNetwork(model.network, decay) for decay in recipe.averages]
        self.optimizers = make_optimizers(model.network, recipe)
        self.progress = Progress()
        self.clipped = 0  # gradients shortened since the last line of the log
        self.stop = threading.Event()
        width = numbers_per_image(data.shape, recipe)
        self.noise = TrainingNoise(recipe.seed, "training", width)
        self.held_out_noise = TrainingNoise(recipe.seed, "held-out", width)
        accelerator.gradient_accumulation_steps = recipe.accumulate
        self.parts = _parts(recipe, accelerator)
        if recipe.compile and _can_compile():
            model.network.compile()
            if self.teacher is not None:
                self.teacher.model.network.compile()
        # What accelerate divides among processes; `model` and `optimizers` are what is inside.
        network, *self.steppers = accelerator.prepare(model.network, *self.optimizers)
        if network is not model.network:
            network.classes = model.classes  # which the wrapper does not pass on
        self.divided = self._model_of(network)

    # -- beginning ---------------------------------------------------------------

    @classmethod
    def start(
        cls,
        data: ImageData,
        recipe: Recipe,
        model: ScoreModel,
        accelerator: Accelerator,
        teacher: ScoreModel | None = None,
    ) -> _Run:
        _check_data(data, recipe)
        if recipe.precision == "auto":
            model.to(accelerator.device)
            # Measured by each, decided by the first, for all must do the same.
            found = [_fastest_precision(model, data, recipe, _parts(recipe, accelerator)[0])]
            recipe = replace(recipe, precision=broadcast_object_list(found)[0])
        return cls(data, recipe, model, accelerator, teacher)

    @classmethod
    def load(
        cls, path: Path, data: ImageData, recipe: Recipe | None, accelerator: Accelerator
    ) -> _Run:
        state = RunState.read(path)
        if state.images != tuple(data.images.shape):
            raise InputError(
                f"{path} was trained on images of shape {state.images}, not "
                f"{tuple(data.images.shape)}: resume with the data set it began with"
            )
        recipe = _extended(state.recipe, recipe or state.recipe, path)
        _check_data(data, recipe)
        run = cls(data, recipe, state.model, accelerator, state.teacher)
        try:
            run._load_rest(state.rest)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise not_a_run(path, error) from error
        run.progress = state.progress
        return run

    def _load_rest(self, tensors: dict[str, Tensor]) -> None:
        for i, average in enumerate(self.averages):
            average.load_state_dict(taken(tensors, f"average{i}."))
        for i, optimizer in enumerate(self.optimizers):
            load_moments(optimizer, taken(tensors, f"optimizer{i}."))
        if tensors:
            raise ValueError(f"unknown tensors {sorted(tensors)[:3]}")

    # -- the loop ----------------------------------------------------------------

    @property
    def train_images(self) -> int:
        return len(self.data.images) - self.recipe.held_out

    @property
    def steps_per_epoch(self) -> int:
        return self.train_images // self.recipe.batch_size

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def go_on(self, folder: RunFolder, progress: bool) -> None:
        at = self.progress
        started = time.perf_counter() - at.seconds
        main = self.accelerator.is_main_process
        if main:
            folder.clean()
            if at.step == 0:
                folder.save(0, self._state())  # a folder that cannot be written to is known now
        bar = tqdm(
            total=self.steps, initial=at.step, unit="update", disable=not (progress and main)
        )
        with bar, set_by_interrupt(self.stop):
            while at.step < self.steps:
                epoch, first = divmod(at.step, self.steps_per_epoch)
                for index in self._batches(epoch)[first:]:
                    stopped = self._update(index)
                    bar.update()
                    self._log(bar)
                    if stopped:
                        break
                at.seconds = time.perf_counter() - started
                self._save(folder)
                if stopped:
                    raise KeyboardInterrupt

    def _batches(self, epoch: int) -> list[Tensor]:
        """The epoch's batches of indices, a function of (seed, epoch)."""
        order = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
        shuffled = torch.randperm(self.train_images, generator=order)
        size = self.recipe.batch_size
        return list(shuffled[: self.steps_per_epoch * size].split(size))

    def _update(self, index: Tensor) -> bool:
        """One update on the images of those indices; whether any process was asked to stop."""
        rate = learning_rate(self.recipe, self.progress.step, self.steps)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        losses = []
        for positions in self.parts:
            with self.accelerator.accumulate(self.divided.network):
                mine = index[positions.start : positions.stop]
                numbers = self.noise.draw(self.progress.step, positions)
                loss = _loss(self.divided, self.data, mine, self.recipe, numbers, self.teacher)
                self.accelerator.backward(loss)
            losses.append(loss.detach())
        told = torch.stack(
            [torch.stack(losses).mean(), losses[0].new_tensor(float(self.stop.is_set()))]
        )
        mean_loss, stopping = self.accelerator.reduce(told, "mean").tolist()
        self._clip(mean_loss, index)
        for stepper in self.steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        for average in self.averages:
            average.update_parameters(self.model.network)
        self.progress.pending.append(mean_loss)
        self.progress.step += 1
        return stopping > 0

    def _clip(self, loss: float, index: Tensor) -> None:
        """Shorten a gradient that is far longer than usual; stop at one that is not finite."""
        at = self.progress
        parameters = list(self.model.network.parameters())
        norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"at update {at.step} the loss is {loss} and its gradient's norm {norm}, on the "
                f"batch that begins with images {index[:4].tolist()}: lower the learning rate "
                f"({self.recipe.learning_rate:g}). The last saved state is from before"
            )
        longest = self.recipe.clip * at.norm
        if longest and norm > longest:
            nn.utils.clip_grads_with_norm_(parameters, longest, torch.tensor(norm))
            norm = longest
            self.clipped += 1
        at.norm = norm if at.step == 0 else 0.99 * at.norm + 0.01 * norm

    def _log(self, bar: tqdm) -> None:
        at = self.progress
        if len(at.pending) < _LOG_EVERY and at.step < self.steps:
            return
        loss = sum(at.pending) / len(at.pending)
        at.losses.append((at.step, loss))
        at.pending = []
        bar.set_postfix(loss=f"{loss:.2f}")
        self.accelerator.log({"loss": loss}, step=at.step)
        self._warn(loss)

    def _warn(self, loss: float) -> None:
        at = self.progress
        clipped, self.clipped = self.clipped, 0
        if clipped and self.accelerator.is_main_process:
            warnings.warn(
                f"up to update {at.step}, {clipped} of the last {_LOG_EVERY} gradients were more "
                f"than {self.recipe.clip:g} times as long as usual and were shortened: if that "
                "goes on, lower the learning rate",
                stacklevel=2,
            )
        trivial = math.prod(self.model.shape)
        if loss > 1.2 * trivial and at.step > WARM_UP and self.accelerator.is_main_process:
            warnings.warn(
                f"the loss is {loss:.0f} at update {at.step}, more than the {trivial} of a "
                "network that returns zero: lower the learning rate",
                stacklevel=2,
            )

    # -- what is kept ------------------------------------------------------------

    def _candidates(self) -> list[nn.Module]:
        return [average.module for average in self.averages] or [self.model.network]

    def averaged(self) -> ScoreModel:
        """The model with the best averaged weights, in evaluation mode."""
        best = 0
        if self.progress.held_out:
            losses = self.progress.held_out[-1][1]
            best = losses.index(min(losses))
        return self._model_of(self._candidates()[best]).eval()

    def _model_of(self, network: nn.Module) -> ScoreModel:
        model = self.model
        return ScoreModel(network, model.sde, model.shape, model.preconditioning)

    def _measure_held_out(self) -> None:
        """Append the loss of every average on the images kept apart, always with one noise."""
        count, processes = self.recipe.held_out, self.accelerator.num_processes
        if not count:
            return
        firsts = range(0, count, _CHUNK)[self.accelerator.process_index :: processes]
        losses = []
        with torch.no_grad():
            for model in [self._model_of(network).eval() for network in self._candidates()]:
                total = torch.zeros((), device=self.accelerator.device)
                for first in firsts:
                    positions = range(first, min(first + _CHUNK, count))
                    index = self.train_images + torch.arange(positions.start, positions.stop)
                    numbers = self.held_out_noise.draw(0, positions)
                    loss = _loss(model, self.data, index, self.recipe, numbers, self.teacher)
                    total += loss * len(positions)
                losses.append(self.accelerator.reduce(total, "sum").item() / count)
        self.progress.held_out.append((self.progress.step, losses))

    def _save(self, folder: RunFolder) -> None:
        self._measure_held_out()
        if self.accelerator.is_main_process:
            results = Results(self.averaged(), self._card(), self.progress.losses)
            folder.save(self.progress.step, self._state(), results)
        self.accelerator.wait_for_everyone()

    def _state(self) -> State:
        """All that is needed to go on."""
        rest: dict[str, Tensor] = {}
        for i, average in enumerate(self.averages):
            rest |= {f"average{i}.{k}": v for k, v in average.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            rest |= {f"optimizer{i}.{k}": v for k, v in moments(optimizer).items()}
        images = tuple(self.data.images.shape)
        teacher = self._taught_by()
        run = RunState(self.recipe, self.model, teacher, images, self.progress, rest)
        return run.written()

    def _taught_by(self) -> ScoreModel | None:
        return None if self.teacher is None else self.teacher.model

    def _card(self) -> dict[str, Any]:
        at, teacher = self.progress, self._taught_by()
        return {
            "data": self.data.name,
            "recipe": asdict(self.recipe),
            "teacher": None
            if teacher is None
            else {**describe_model(teacher), "digest": digest_of_score(teacher)},
            "updates": at.step,
            "seconds": round(at.seconds),
            "loss": at.losses[-1][1] if at.losses else None,
            "held_out_loss": min(at.held_out[-1][1]) if at.held_out else None,
        }


def _loss(
    model: ScoreModel,
    data: ImageData,
    index: Tensor,
    recipe: Recipe,
    numbers: Tensor,
    teacher: Teacher | None = None,
) -> Tensor:
    """The recipe's loss on the images of those indices, in its precision, where the model is."""
    device = next(model.network.parameters()).device
    told = data.labels[index].to(device) if recipe.classes and data.labels is not None else None
    # accelerate's own mixed precision is one for all that a process trains; a recipe has its own.
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        x, target = data.batch(index).to(device), teacher.target(index) if teacher else None
        return training_loss(model, x, recipe, numbers.to(device), told, target)


def _check_data(data: ImageData, recipe: Recipe) -> None:
    if len(data.images) - recipe.held_out < recipe.batch_size:
        raise InputError(
            f"{len(data.images)} images, {recipe.held_out} of them held out, are less than "
            f"one batch of {recipe.batch_size}: choose a smaller batch_size or held_out"
        )
    if recipe.classes:
        data.check_classes(recipe.classes)


def _parts(recipe: Recipe, accelerator: Accelerator) -> list[range]:
    """The positions of a batch that this process works on, in as many parts as it accumulates."""
    parts = accelerator.num_processes * recipe.accumulate
    size, rest = divmod(recipe.batch_size, parts)
    if rest or not size:
        raise InputError(
            f"batch_size = {recipe.batch_size} on {accelerator.num_processes} processes, in "
            f"{recipe.accumulate} parts each: expected a multiple of {parts}"
        )
    first = accelerator.process_index * recipe.accumulate
    return [range(i * size, (i + 1) * size) for i in range(first, first + recipe.accumulate)]


def _can_compile() -> bool:
    if has_compiler():
        return True
    warnings.warn("no C++ compiler was found: training goes on uncompiled", stacklevel=2)
    return False


def _fastest_precision(model: ScoreModel, data: ImageData, recipe: Recipe, positions: range) -> str:
    """Time a part of an update in either precision; the winner is recorded in the run."""
    index = torch.arange(len(positions))
    numbers = TrainingNoise(0, "training", numbers_per_image(data.shape, recipe)).draw(0, positions)
    seconds = {}
    for precision in ("float32", "bfloat16"):
        times = []
        for _ in range(4):
            started = time.perf_counter()
            tried = replace(recipe, precision=precision)
            _loss(model, data, index, tried, numbers).backward()
            times.append(time.perf_counter() - started)
        seconds[precision] = min(times[1:])
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda precision: seconds[precision])


def _extended(saved: Recipe, given: Recipe, path: Path) -> Recipe:
    """The saved recipe with what may change; an error if anything else differs."""
    for name in (entry.name for entry in fields(Recipe)):
        old, new = getattr(saved, name), getattr(given, name)
        measured = name == "precision" and new == "auto"
        if old != new and not measured and name not in _EXTENDABLE:
            raise InputError(
                f"{path} was trained with {name} = {old!r}, not {new!r}: resume without "
                f"that option (only {', '.join(_EXTENDABLE)} may change), or start a new run"
            )
    return replace(saved, **{name: getattr(given, name) for name in _EXTENDABLE})
