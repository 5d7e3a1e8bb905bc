r"""Devices and dtypes as users name them."""

from __future__ import annotations

from typing import Any

import torch

from diffsde.errors import InputError

__all__ = ["named_device", "real_dtype"]


def named_device(asked: torch.device | str) -> torch.device:
    """The device of that name, whether there is one here or not.

    Raises:
        InputError: it is no name of a device.
    """
    if isinstance(asked, torch.device):
        return asked
    try:
        return torch.device(asked)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"device = {asked!r}: expected a torch.device or its name, such as 'cpu' or 'cuda:1'"
        ) from error


def real_dtype(asked: Any) -> torch.dtype:
    """A dtype of real numbers; torch's default one for None.

    Raises:
        InputError: it is none.
    """
    if asked is None:
        return torch.get_default_dtype()
    if not (isinstance(asked, torch.dtype) and asked.is_floating_point):
        raise InputError(f"dtype = {asked!r}: expected one of real numbers, such as torch.float64")
    return asked
