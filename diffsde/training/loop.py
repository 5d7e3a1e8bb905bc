r"""Training: denoising score matching or flow matching, on one process or several.

`train` runs a `Recipe` and keeps the run in a folder (`run_folder`). An interrupted run can be
resumed from there, and continues as if it had never stopped: the order of the images is a
function of (seed, epoch), the times and the noise of (seed, update, position in the batch).

Hugging Face's accelerate takes care of processes, devices, gradient accumulation and trackers.
A single process needs no launcher. With several, each works on its share of every batch:

    torchrun --nproc_per_node 8 -m diffsde train --out runs/first
    accelerate launch --multi_gpu --num_processes 8 -m diffsde train --out runs/first

Since noise belongs to a position in the batch, the number of processes changes a run only by
rounding.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffsde.data.images import as_data
from diffsde.data.samples import Samples
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.errors import TrainingError
from diffsde.scores.model import ScoreModel
from diffsde.scores.wrapped import plain_model
from diffsde.system.bars import load_tqdm
from diffsde.system.interrupts import set_by_interrupt
from diffsde.system.numbers import real_number
from diffsde.system.parameters import device_of
from diffsde.training.accelerators import make_accelerator, tracked
from diffsde.training.initial_model import initial_model
from diffsde.training.recipes import WARM_UP, Recipe, usual_recipe
from diffsde.training.run import Run
from diffsde.training.run_folder import Results, RunFolder
from diffsde.training.settled import settled, tell

if TYPE_CHECKING:
    from torch import Tensor
    from tqdm.auto import tqdm

__all__ = ["train"]

_LOG_EVERY = 50  # updates averaged into one line of loss.csv
_SAVE_EVERY = 250  # updates at least between two states: saving takes as long as some of them


def train(
    out: str | os.PathLike[str],
    data: Samples | Tensor,
    recipe: Recipe | None = None,
    *,
    sde: SDE | None = None,
    start_from: ScoreModel | None = None,
    teacher: ScoreModel | None = None,
    resume: bool = False,
    keep: int = 2,
    save_minutes: float = 10.0,
    log_with: str | Sequence[str] = (),
    progress: bool = True,
) -> ScoreModel:
    """Train a network and return the model with its averaged weights.

    It trains on the device that accelerate finds, and returns the model where `start_from` is, or
    else on torch's default device.

    Args:
        out: the run's folder, created if necessary; several processes share it.
        data: what to learn: a data set, such as `load_images("mnist")`; or a tensor of images,
            uint8 (N, C, H, W), of points, floats (N, D), or of signals, floats (N, C, L).
        recipe: how to train. By default the run's own when resuming; else `Recipe()` for images,
            and `RECIPES["points"]` for all other data.
        sde: the forward process, by default that which the recipe names.
        start_from: a trained model to start from, instead of fresh weights. The run uses its
            network, SDE and preconditioning, which must be of the kinds that the recipe names.
        teacher: a trained model whose denoised images are learned instead of the images
            (`diffsde.training.teacher`). It is saved with the run, so it is not needed when
            resuming.
        resume: continue the run in `out`.
        keep: how many states to keep in `out`; one is written after every epoch, or after
            several whose updates together are fewer than 250, and amid an epoch by the clock.
        save_minutes: so many minutes after a state the next one is written, if no epoch has
            ended before; at 0, one is written after every update amid an epoch.
        log_with: accelerate's trackers to log the loss with, such as "tensorboard" (which
            writes to the folder `tensorboard` in `out`; needs the extra of that name) or "wandb".
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, which schedulers send, once the current update is
            finished and the run is saved.
        TrainingError: the loss is no longer finite, `out` holds another run, another process is
            training in it, or it cannot be written to.
        CheckpointError: there is nothing to resume from, or it is damaged.
        InputError: data, recipe and models do not fit together.
    """
    data = as_data(data)
    words = "a number of minutes ≥ 0"
    seconds = 60 * real_number(save_minutes, "save_minutes", words, 0.0)
    home = device_of(start_from) or torch.get_default_device()
    start_from = None if start_from is None else plain_model(start_from)
    folder = RunFolder(Path(out), keep)
    earlier = folder.states()
    accelerator = make_accelerator(folder.path, log_with)
    if resume:
        run = Run.load(folder.newest(), data, recipe, accelerator)
    elif earlier:
        raise TrainingError(
            f"{folder.path} already holds a run: resume it (--resume), or choose another folder"
        )
    else:
        asked = recipe or usual_recipe(data)
        parts = accelerator.num_processes * asked.accumulate
        found = settled(asked, data, parts, start_from)
        model = initial_model(data, found, sde or SDES[found.sde](), start_from)
        run = Run.start(data, found, model, accelerator, teacher)
        if accelerator.is_main_process:
            tell(asked, found, len(data))
    accelerator.wait_for_everyone()  # no process writes before all have read the folder
    main = accelerator.is_main_process
    with folder.alone(earlier) if main else nullcontext(), tracked(accelerator, run.recipe):
        _go_on(run, _Saving(run, folder, seconds), progress)
    return run.averaged().to(home)


def _go_on(run: Run, saving: _Saving, progress: bool) -> None:
    """Train to the last update, saving the run between epochs, by the clock and on Ctrl-C."""
    at, main = run.progress, run.accelerator.is_main_process
    if main:
        saving.begin()
    with _progress_bar(run, progress and main) as bar, set_by_interrupt(run.stop):
        while at.step < run.steps:
            stopped = _finish_epoch(run, saving, bar)
            if stopped:
                saving.save_state()  # first, in case a scheduler has little patience
                saving.save_results()
                raise KeyboardInterrupt
            if at.step == run.steps or at.step >= saving.finished + _SAVE_EVERY:
                saving.save_results()


def _progress_bar(run: Run, shown: bool) -> tqdm:
    first = run.progress.step
    return load_tqdm()(total=run.steps, initial=first, unit="update", disable=not shown)


def _finish_epoch(run: Run, saving: _Saving, bar: tqdm) -> bool:
    """Make the updates left in this epoch; return whether Ctrl-C ended them early."""
    epoch, first = divmod(run.progress.step, run.steps_per_epoch)
    for index in run.batches(epoch)[first:]:
        stopping, due = run.update(index, due=saving.is_due())
        bar.update()
        _log(run, bar)
        if stopping:
            return True
        if due and run.progress.step % run.steps_per_epoch:  # at its end there may be results
            saving.save_state()
    return False


class _Saving:
    """When a run is saved, and what.

    Results are what one has a run for, and take long: the loss of every average on the held-out
    samples is measured for them. They are saved with a state after epochs. A state alone, from
    which the run goes on as if it had not stopped, is saved in between.

    Args:
        run: what is saved.
        folder: where.
        seconds: from one state to the next one.

    Attributes:
        finished: the update after which results were last saved, in this process or an earlier one.
    """

    def __init__(self, run: Run, folder: RunFolder, seconds: float) -> None:
        self.run, self.folder, self.seconds = run, folder, seconds
        measured = run.progress.held_out
        self.finished = measured[-1][0] if measured else 0
        self._started = time.perf_counter() - run.progress.seconds
        self._latest = time.perf_counter()

    def begin(self) -> None:
        """Tidy the folder, and fail now if it cannot be written to."""
        self.folder.clean()
        if self.run.progress.step == 0:
            self.folder.save(0, self.run.state())

    def is_due(self) -> bool:
        """Whether it is time for a state; the first process's clock decides."""
        late = time.perf_counter() - self._latest >= self.seconds
        return late and self.run.accelerator.is_main_process

    def save_state(self) -> None:
        """Save what is needed to go on from here."""
        self._save(None)

    def save_results(self) -> None:
        """Save what the run has come to, and what is needed to go on."""
        run = self.run
        run.measure_held_out()
        main = run.accelerator.is_main_process
        self._save(Results(run.averaged(), run.card(), run.progress.losses) if main else None)
        self.finished = run.progress.step

    def _save(self, results: Results | None) -> None:
        run = self.run
        run.progress.seconds = time.perf_counter() - self._started
        if run.accelerator.is_main_process:
            self.folder.save(run.progress.step, run.state(), results)
        run.accelerator.wait_for_everyone()
        self._latest = time.perf_counter()


def _log(run: Run, bar: tqdm) -> None:
    """Log the mean loss of the last `_LOG_EVERY` updates, or of what is left at the end."""
    at = run.progress
    if len(at.pending) < _LOG_EVERY and at.step < run.steps:
        return
    loss = sum(at.pending) / len(at.pending)
    at.losses.append((at.step, loss))
    at.pending = []
    bar.set_postfix(loss=f"{loss:.2f}")
    run.accelerator.log({"loss": loss}, step=at.step)
    clipped, run.clipped = run.clipped, 0
    if run.accelerator.is_main_process:
        _warn(run, loss, clipped)


def _warn(run: Run, loss: float, clipped: int) -> None:
    step, trivial = run.progress.step, math.prod(run.model.shape)
    if clipped:
        warnings.warn(
            f"up to update {step}, {clipped} of the last {_LOG_EVERY} gradients were more than "
            f"{run.recipe.clip:g} times as long as usual and were shortened: if this continues, "
            "lower the learning rate",
            stacklevel=2,
        )
    if loss > 1.2 * trivial and step > WARM_UP:
        warnings.warn(
            f"the loss is {loss:.0f} at update {step}, more than the {trivial} of a network "
            "that returns zero: lower the learning rate",
            stacklevel=2,
        )
