r"""Random numbers that belong to a sample, not to a batch.

Every normal number has an address: (seed, purpose, sample, node). Image i of a batch
reads only the numbers of sample i. No image therefore depends on the size, the order or the
device of its batch, or on how the batch is split, and two solvers with the same seed see the
same noise.

The generator is Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
Its key and its counter hold the address, so any number can be read without drawing those
before it. Numbers are drawn on the CPU, where they have the same bits on every machine, and
then moved to the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import torch
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray
from torch import Tensor

from diffsde.system.numbers import whole_number

__all__ = [
    "PURPOSES",
    "NormalTable",
    "Numbers",
    "address_of",
    "checked_seed",
    "fresh_seed",
    "generator",
]

Numbers = NDArray[numpy.float64]

# What numbers are used for. Two purposes never share a number.
PURPOSES = {
    "prior": 0,
    "brownian": 1,
    "corrector": 2,
    "path": 3,
    "churn": 4,
    "probe": 5,
    "dequantise": 6,
    "training": 7,
    "held-out": 8,
    "class": 9,
    "levy-area": 10,
    "sample": 11,
    "component": 12,
    "check": 13,
    "bits": 14,
    "bootstrap": 15,
}

_WORD = 2**64


def fresh_seed() -> int:
    """A random seed from torch's global generator, so that `torch.manual_seed` determines it."""
    return int(torch.randint(2**31 - 1, ()).item())


def checked_seed(seed: int | None) -> int:
    """The seed itself, or a fresh one for None.

    Raises:
        InputError: it is not a whole number ≥ 0.
    """
    if seed is None:
        return fresh_seed()
    return whole_number(seed, "seed", 0, why=", or None")


def _entropy(seed: int, purpose: str) -> list[int]:
    """The 32-bit words of a seed and a purpose; no other pair has the same words.

    NumPy appends zeros to such a list, and the last word of a long seed is never zero.
    """
    low, rest = seed % 2**32, seed >> 32
    words = [low, PURPOSES[purpose]]
    while rest:
        words.append(rest % 2**32)
        rest >>= 32
    return words


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of torch's whose numbers no other seed or purpose shares.

    Any seed will do that `checked_seed` lets through, however large.
    """
    words = SeedSequence(_entropy(seed, purpose)).generate_state(1, numpy.uint64)
    return torch.Generator().manual_seed(int(words[0] >> numpy.uint64(1)))


def address_of(t: float) -> int:
    """A time as a whole number from 0 to 2³² − 1, by which a table is asked.

    It is rounded to float32, so that a time has one address whether it has gone through float32
    or not; the times of a solve must therefore differ in float32.
    """
    bits: int = numpy.float32(t + 0.0).view(numpy.uint32).item()  # + 0.0: −0 is 0
    return bits


class NormalTable:
    """Standard normal numbers by address.

    Args:
        seed: any whole number ≥ 0.
        purpose: a key of `PURPOSES`.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        words = SeedSequence(_entropy(seed, purpose)).generate_state(1, numpy.uint64)
        self._philox = Philox(key=numpy.array([words[0], 0], dtype=numpy.uint64))
        self._state = self._philox.state
        self._draw = Generator(self._philox).standard_normal

    def rows(
        self,
        samples: Sequence[int],
        nodes: Sequence[int] | int,
        shape: Sequence[int],
        dtype: torch.dtype,
    ) -> Tensor:
        """The numbers of each sample at its node: a CPU tensor of shape (len(samples), *shape).

        Args:
            samples: indices of the samples.
            nodes: one node for all samples, or one for each; 0 ≤ node < 2¹²⁸.
            shape: of one sample's numbers.
            dtype: to which the numbers, drawn in float64, are rounded.
        """
        numbers = self.draw(samples, nodes, math.prod(shape))
        return torch.from_numpy(numbers).reshape(len(samples), *shape).to(dtype)

    def draw(self, samples: Sequence[int], nodes: Sequence[int] | int, count: int) -> Numbers:
        """The first `count` numbers of each sample at its node, (len(samples), count), float64.

        It calls no function of torch, so a thread that draws starts no thread pool of torch's.
        """
        out = numpy.empty((len(samples), count))
        nodes = [nodes] * len(samples) if isinstance(nodes, int) else nodes
        for row, sample, node in zip(out, samples, nodes, strict=True):
            self._seek(sample, node)
            self._draw(out=row)
        return out

    def _seek(self, sample: int, node: int) -> None:
        # Philox itself advances the counter's lowest word, over the numbers of one address.
        self._state["state"]["key"][1] = sample % _WORD
        self._state["state"]["counter"][:] = (0, node % _WORD, node // _WORD, 0)
        self._philox.state = self._state
