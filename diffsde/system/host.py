r"""Tensors of the host: times, coefficients and counts, whatever torch's default device is.

A solver looks at its times at every step, and a device would have to be waited for. So they stay
on the CPU, in float64, which some devices do not have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["on_host"]


def on_host(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers as a tensor on the CPU; a tensor stays where it is.

    Args:
        value: a number, a list or an array of numbers, or a tensor.
        dtype: of the result; by default that of the tensor, or torch's for these numbers.
    """
    if isinstance(value, Tensor):
        return value if dtype is None else value.to(dtype)
    return torch.as_tensor(value, dtype=dtype, device="cpu")
