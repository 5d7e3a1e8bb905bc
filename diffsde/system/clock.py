"""A clock that is read once a device has done what it was given."""

from __future__ import annotations

import time

import torch

__all__ = ["seconds_on"]


def seconds_on(device: torch.device | None = None) -> float:
    """Seconds since some moment, once that device has finished; a CPU always has.

    An accelerator computes while the program goes on, so a clock that is read without waiting for
    it times only how fast the work was handed over.
    """
    if device is not None and torch.accelerator.is_available():
        usual = torch.accelerator.current_accelerator()
        if usual is not None and usual.type == device.type:
            torch.accelerator.synchronize(device)
    return time.perf_counter()
