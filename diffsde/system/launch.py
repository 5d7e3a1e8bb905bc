"""The processes of one launch: those that `torchrun` or `accelerate launch` started together."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState

from diffsde.errors import InputError

__all__ = ["processes"]


def processes() -> PartialState:
    """How many processes work together, and which of them this is; one of one without a launcher.

    Where there is no GPU, processes on the CPU find each other by gloo.

    Raises:
        InputError: a launcher started several, but they do not see each other.
    """
    found = PartialState(cpu=not _has_accelerator())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if found.num_processes != started:
        raise InputError(
            f"WORLD_SIZE = {started}, but this process sees {found.num_processes}: they would all "
            "do the same work. To run on CPUs although there is a GPU, set ACCELERATE_USE_CPU=true"
        )
    return found


def _has_accelerator() -> bool:
    if hasattr(torch, "accelerator"):  # since torch 2.6
        return torch.accelerator.is_available()
    return torch.cuda.is_available()
