r"""Autocast: layers computed in bfloat16, on the devices for which torch can do it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["autocast", "has_autocast"]


def has_autocast(device: torch.device) -> bool:
    """Whether torch has autocast for devices of this kind."""
    return torch.amp.is_autocast_available(device.type)


def autocast(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """A context in which layers compute in bfloat16, or in their own precision.

    Raises:
        RuntimeError: bfloat16 is asked for on a device for which torch has no autocast.
    """
    if not (bfloat16 or has_autocast(device)):
        return nullcontext()  # there is none that would have to be turned off
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
