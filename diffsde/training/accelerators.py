"""Hugging Face's accelerate: the processes of a run, and the trackers that log its loss."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from diffsde.errors import InputError, name_list
from diffsde.system.bars import load_tqdm
from diffsde.system.launch import launched_processes
from diffsde.training.recipes import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["batch_parts", "make_accelerator", "tracked"]


def make_accelerator(folder: Path, log_with: str | Sequence[str]) -> Accelerator:
    """The accelerator of a run in that folder, with trackers by name.

    Raises:
        InputError: a tracker is not available, or the launcher asks for mixed precision or for a
            model in parts, as of FSDP.
    """
    load_tqdm()  # before accelerate imports it
    from accelerate import Accelerator

    trackers = [log_with] if isinstance(log_with, str) else [*log_with]
    _check_trackers(trackers)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked != "no":
        raise InputError(
            f"the launcher asks for mixed precision {asked!r}, but the recipe sets the "
            "precision: leave it out there and give --precision bfloat16 here"
        )
    launched_processes()  # first, so that accelerate takes over the group that this finds
    made = Accelerator(mixed_precision="no", log_with=trackers or None, project_dir=str(folder))
    _check_whole(made)
    return made


def _check_whole(accelerator: Accelerator) -> None:
    """Refuse what divides a model: states, averages and clipping here take it as a whole."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise InputError(
            f"the launcher asks for {kind}, but here each process holds the whole model: "
            "launch with --multi_gpu alone, and give accumulate= to save memory"
        )


def _check_trackers(names: Sequence[str]) -> None:
    from accelerate.tracking import get_available_trackers

    valid = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in valid:
            raise InputError(
                f"log_with = {name!r}: not installed, or not one of accelerate's trackers "
                f"(pip install 'diffsde[tensorboard]' for tensorboard). {name_list(name, valid)}"
            )


@contextmanager
def tracked(accelerator: Accelerator, recipe: Recipe) -> Iterator[None]:
    """Open the trackers, and close them afterwards."""
    if not accelerator.log_with:
        yield
        return
    config = {k: str(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}
    accelerator.init_trackers("tensorboard", config)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def batch_parts(recipe: Recipe, accelerator: Accelerator) -> list[range]:
    """The positions of a batch that this process works on, a range for each accumulated part.

    Raises:
        InputError: the batch cannot be divided evenly.
    """
    parts = accelerator.num_processes * recipe.accumulate
    size, rest = divmod(recipe.batch_size, parts)
    if rest or not size:
        raise InputError(
            f"batch_size = {recipe.batch_size} on {accelerator.num_processes} processes, in "
            f"{recipe.accumulate} parts each: expected a multiple of {parts}"
        )
    first = accelerator.process_index * recipe.accumulate
    return [range(i * size, (i + 1) * size) for i in range(first, first + recipe.accumulate)]
