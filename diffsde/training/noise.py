r"""The random numbers of training, each with an address: (seed, purpose, update, position).

An image's numbers depend on its position in the update's batch alone, not on the number of
processes that share the batch or on earlier draws. So a run is the same on one process and on
two, and a resumed run has no generator to restore.

`NormalTable` has such addresses too, but draws one image at a time, ten times as slowly. Here a
whole batch is drawn at once: Philox supplies the words, and the transform of Box and Muller
(1958) takes a fixed number of them for each image,

    z₁ = √(−2 ln u₁) cos 2πu₂,    z₂ = √(−2 ln u₁) sin 2πu₂.
"""

from __future__ import annotations

import math

import numpy
import torch
from numpy.random import Philox, SeedSequence
from torch import Tensor

from diffsde.noise.seeds import PURPOSES

__all__ = ["TrainingNoise"]

_WORDS = 8  # 32-bit words for each step of Philox's counter


class TrainingNoise:
    """Standard normal numbers for batches of images.

    Args:
        seed: any whole number ≥ 0.
        purpose: a key of `PURPOSES`.
        width: how many numbers an image has.
    """

    def __init__(self, seed: int, purpose: str, width: int) -> None:
        (self._key,) = SeedSequence([seed, PURPOSES[purpose]]).generate_state(1, numpy.uint64)
        self._width = width
        self._steps = math.ceil(width / _WORDS)

    def draw(self, update: int, positions: range) -> Tensor:
        """The numbers of the images at these positions of an update's batch.

        Returns:
            (len(positions), width), float32, on the CPU.
        """
        key = numpy.array([self._key, update], dtype=numpy.uint64)
        source = Philox(key=key, counter=positions.start * self._steps)
        words = source.random_raw(len(positions) * self._steps * _WORDS // 2)
        share = torch.from_numpy(words.view(numpy.uint32).astype(numpy.float32))
        share = ((share + 0.5) / 2**32).reshape(len(positions), 2, -1)  # in (0, 1]
        radius, angle = (-2 * share[:, 0].log()).sqrt(), 2 * math.pi * share[:, 1]
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return normal[:, : self._width]
