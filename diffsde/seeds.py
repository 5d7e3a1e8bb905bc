r"""Random numbers that belong to a sample, not to a batch.

Image i of a batch draws its numbers from a stream that is keyed by
(seed, purpose, i) and by nothing else. So the size, the order and the device
of a batch do not change any image, and two solvers given one seed see one noise.

Numbers are drawn on the CPU, whose generator gives the same bits on every
machine, and moved to where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

__all__ = ["PURPOSES", "SampleStreams", "fresh_seed"]

# What a stream is used for: two purposes never share numbers.
PURPOSES = {"prior": 0, "brownian": 1, "corrector": 2, "bridge": 3, "data": 4}


def fresh_seed() -> int:
    """A seed nobody chose, drawn from torch's global generator (so `torch.manual_seed` rules it)."""
    return int(torch.randint(2**31 - 1, ()).item())


def _generator(key: Sequence[int]) -> torch.Generator:
    word = numpy.random.SeedSequence(list(key)).generate_state(1, numpy.uint64)[0]
    return torch.Generator().manual_seed(int(word))


class SampleStreams:
    """One stream of standard normal numbers for each sample of a batch.

    Args:
        seed: any non-negative integer.
        purpose: a key of `PURPOSES`.
        count: number of samples B.
        first: index of the first sample, when the batch is part of a larger one.
        extra: further integers of the key, such as the node of a tree.
    """

    def __init__(
        self, seed: int, purpose: str, count: int, first: int = 0, extra: Sequence[int] = ()
    ) -> None:
        self._generators = [
            _generator((seed, PURPOSES[purpose], first + i, *extra)) for i in range(count)
        ]

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The next numbers of every stream: a CPU tensor of shape (B, *shape)."""
        out = torch.empty(len(self._generators), *shape, dtype=dtype)
        for row, generator in zip(out, self._generators, strict=True):
            row.normal_(generator=generator)
        return out
