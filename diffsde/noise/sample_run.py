r"""Neighbouring samples whose first number can be changed while a device goes by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

__all__ = ["SampleRun"]


class SampleRun(Sequence[int]):
    """The samples first, first + 1, …, as a `range`; their numbers are on the device.

    What is captured there makes the noise of other samples once `move` has been called.

    Args:
        first: the number of the first sample.
        count: how many they are.
        device: where their noise is made.

    Attributes:
        there: (count,) their numbers, int64, on the device.
    """

    def __init__(self, first: int, count: int, device: torch.device) -> None:
        self._range = range(first, first + count)
        self.there: Tensor = torch.arange(first, first + count, device=device)

    def move(self, first: int) -> None:
        """Begin at another sample."""
        self._range = range(first, first + len(self))
        self.there.copy_(torch.arange(first, first + len(self), device=self.there.device))

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> range: ...
    def __getitem__(self, index: int | slice) -> int | range:
        return self._range[index]
