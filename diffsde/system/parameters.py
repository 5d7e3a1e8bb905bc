r"""Where a module computes and how precisely, by its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["device_of", "dtype_of", "finest_dtype"]


def finest_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no float64, as Apple's."""
    try:
        return torch.empty(0, dtype=torch.float64, device=device).dtype
    except TypeError:
        return torch.float32


def dtype_of(fn: Any, default: torch.dtype) -> torch.dtype:
    """The dtype of a module's parameters; the default for anything else, or if it has none."""
    if not isinstance(fn, nn.Module):
        return default
    return next((parameter.dtype for parameter in fn.parameters()), default)


def device_of(fn: Any) -> torch.device | None:
    """The device of a module's parameters or buffers; None for anything else, or without them."""
    if not isinstance(fn, nn.Module):
        return None
    tensors = (*fn.parameters(), *fn.buffers())
    return next((tensor.device for tensor in tensors), None)
