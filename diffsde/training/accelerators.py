"""accelerate for a run: its processes, and the trackers that follow its loss."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from diffsde.errors import InputError, name_list
from diffsde.system.launch import processes
from diffsde.training.recipes import Recipe

__all__ = ["make_accelerator", "tracked"]


def make_accelerator(folder: Path, log_with: str | Sequence[str]) -> Accelerator:
    """The accelerator of a run in that folder, with trackers by name.

    Raises:
        InputError: a tracker is not there, or the launcher asks for a precision of its own.
    """
    trackers = [log_with] if isinstance(log_with, str) else [*log_with]
    valid = [str(tracker) for tracker in get_available_trackers()]
    for name in trackers:
        if name not in valid:
            raise InputError(
                f"log_with = {name!r}: not installed, or none of accelerate's trackers "
                f"(pip install 'diffsde[tensorboard]' for tensorboard). {name_list(name, valid)}"
            )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked != "no":
        raise InputError(
            f"the launcher asks for mixed precision {asked!r}, and a recipe says its own: leave "
            "it out there and give --precision bfloat16 here"
        )
    processes()  # finds the others first, so that accelerate takes them as they are
    return Accelerator(mixed_precision="no", log_with=trackers or None, project_dir=str(folder))


@contextmanager
def tracked(accelerator: Accelerator, recipe: Recipe) -> Iterator[None]:
    """Open the trackers, and close them."""
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
