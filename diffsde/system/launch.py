"""The processes of one launch: those that `torchrun` or `accelerate launch` started together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from diffsde.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["launched_processes"]


def launched_processes() -> PartialState:
    """How many processes work together, and which of them this one is.

    Without a launcher it is the only one. Without a GPU, the processes communicate by gloo.

    Raises:
        InputError: a launcher started several, but they do not see each other.
    """
    from accelerate import PartialState

    found = PartialState(cpu=not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if found.num_processes != started:
        raise InputError(
            f"WORLD_SIZE = {started}, but this process sees {found.num_processes}: they would all "
            "do the same work. To run on CPUs although there is a GPU, set ACCELERATE_USE_CPU=true"
        )
    return found
