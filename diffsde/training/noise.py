r"""The random numbers of training, each with an address: (seed, purpose, update, position).

An image's numbers depend on its position in the update's batch alone, not on the number of
processes that share the batch or on earlier draws. So a run is the same on one process and on
two, and a resumed run has no generator to restore.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.noise.normal import NormalTable

__all__ = ["TrainingNoise"]


class TrainingNoise:
    """Standard normal numbers for batches of images.

    Args:
        seed: any whole number ≥ 0.
        purpose: a key of `PURPOSES`.
        width: how many numbers an image has.
    """

    def __init__(self, seed: int, purpose: str, width: int) -> None:
        self._table, self._shape = NormalTable(seed, purpose), (width,)

    def draw(self, update: int, positions: range, device: torch.device | str = "cpu") -> Tensor:
        """The numbers of the images at these positions of an update's batch.

        Returns:
            (len(positions), width), float32, made on the device.
        """
        return self._table.rows(positions, update, self._shape, torch.float32, device)
