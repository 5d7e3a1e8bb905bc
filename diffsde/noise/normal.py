r"""Normal numbers that belong to a sample, not to a batch.

Every number has an address: (seed, purpose, sample, node). Image i of a batch reads only the
numbers of sample i. No image therefore depends on the size, the order or the device of its
batch, or on how the batch is split, and two solvers with the same seed see the same noise.

Two halves of a random word (see `philox`) give two numbers by the transform of Box and Muller
(1958), here in float32:

    z₁ = √(−2 ln u₁) cos 2πu₂,    z₂ = √(−2 ln u₁) sin 2πu₂.

So every dtype gets the same numbers, and a solve in float64 meets the noise of one in float32. On
a device they are made by the device itself. The words are the same there, and the numbers are
too, but for the rounding of its logarithm, sine and cosine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy
import torch
from numpy.random import SeedSequence
from numpy.typing import NDArray
from torch import Tensor

from diffsde.noise.philox import HostWords, Node, device_words
from diffsde.noise.seeds import entropy

__all__ = ["NormalTable", "nodes_at_once"]

# Numbers drawn at once. On a device a draw takes some three hundred launches, however many its
# numbers, and a million take some 100 MB while they are made. On the CPU few numbers take as long
# as one, and many are faster in a small part of memory.
_ON_DEVICE = 2**20
_ON_HOST = 2**14

_CPU = torch.device("cpu")
_UNIT = 2.0**-32  # a half word k gives u₁ = (k + ½) / 2³², which is never zero, and u₂ = k / 2³²
_ANGLE = 2 * math.pi * _UNIT


class NormalTable:
    """Standard normal numbers by address.

    Args:
        seed: any whole number ≥ 0.
        purpose: a key of `PURPOSES`.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        (key,) = SeedSequence(entropy(seed, purpose)).generate_state(1, numpy.uint64)
        self._key = int(key)
        self._words = HostWords(self._key)

    def rows(
        self,
        samples: Sequence[int],
        node: Node,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = _CPU,
    ) -> Tensor:
        """The numbers of each sample at its node: (len(samples), *shape), on the device.

        Args:
            samples: indices of the samples.
            node: one for all samples, or one for each; 0 ≤ node < 2¹²⁸.
            shape: of one sample's numbers; another number of them are other numbers.
            dtype: to which the numbers, made in float32, are cast.
            device: where they are made.
        """
        return next(self.at_nodes(samples, [node], shape, dtype, device))

    def at_nodes(
        self,
        samples: Sequence[int],
        nodes: Sequence[Node],
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = _CPU,
    ) -> Iterator[Tensor]:
        """The numbers of each sample at several nodes, of each node (len(samples), *shape)."""
        count, device = math.prod(shape), torch.device(device)
        fitting = nodes_at_once(samples, shape, device)
        for start in range(0, len(nodes), fitting):
            for numbers in self._drawn(samples, nodes[start : start + fitting], count, device):
                yield numbers[:, :count].reshape(len(samples), *shape).to(dtype)

    def _drawn(
        self, samples: Sequence[int], nodes: Sequence[Node], count: int, device: torch.device
    ) -> Sequence[Tensor]:
        """At least `count` numbers of each sample, for each node (len(samples), …)."""
        pairs = -(-count // 2)
        if device.type == "cpu":
            drawn = [self._words.draw(samples, node, pairs) for node in nodes]
            if len(drawn) == 1:  # as at most times, so that it should cost nothing beside
                return [torch.from_numpy(_on_host(drawn[0]))]
            return torch.from_numpy(_on_host(numpy.concatenate(drawn))).split(len(samples))
        return _on_device(device_words(self._key, samples, nodes, pairs, device)).unbind()


def nodes_at_once(samples: Sequence[int], shape: Sequence[int], device: torch.device) -> int:
    """At how many nodes the numbers of these samples are drawn together; at least one."""
    numbers = _ON_HOST if device.type == "cpu" else _ON_DEVICE
    return max(1, numbers // max(1, len(samples) * math.prod(shape)))


def _on_host(words: NDArray[numpy.uint64]) -> NDArray[numpy.float32]:
    """Two numbers for each word, (B, 2 × words), by NumPy, which is faster than torch here."""
    radius = words.astype(numpy.uint32).astype(numpy.float32)  # of the lower half
    radius += 0.5
    radius *= _UNIT
    numpy.log(radius, out=radius)
    radius *= -2
    numpy.sqrt(radius, out=radius)
    upper = (words >> numpy.uint64(32)).astype(numpy.uint32)  # from which a cast is faster
    angle = upper.astype(numpy.float32)
    angle *= _ANGLE
    n, pairs = words.shape
    numbers = numpy.empty((n, 2, pairs), numpy.float32)
    numpy.multiply(radius, numpy.cos(angle), out=numbers[:, 0])
    numpy.multiply(radius, numpy.sin(angle), out=numbers[:, 1])
    return numbers.reshape(n, 2 * pairs)


def _on_device(words: Tensor) -> Tensor:
    """The same with torch."""
    radius = (-2 * (((words & 0xFFFFFFFF).float() + 0.5) * _UNIT).log()).sqrt()
    angle = ((words >> 32) & 0xFFFFFFFF).float() * _ANGLE
    return torch.cat([radius * angle.cos(), radius * angle.sin()], -1)
