r"""Random words by address: Philox 4×64 with 10 rounds, on the CPU and on any other device.

Philox turns a key and a counter into four random words of 64 bits, so any word can be read
without those before it (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
3", 2011). On the CPU, NumPy's generator makes the words. On a device the same rounds are whole-
number arithmetic of torch, where the words are made by the device itself: nothing is copied to
it, and the words are the same.

The address of a word is (key, node, sample, place), of which all but the key are the counter. The
words of neighbouring samples follow on one another there, so that a batch is drawn in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy
import torch
from numpy.random import Philox
from numpy.typing import NDArray
from torch import Tensor

from diffsde.noise.sample_run import SampleRun

__all__ = ["HostWords", "Node", "device_words"]

Node = int | Sequence[int]
"""One node for all samples, or one for each: whole numbers from 0 to 2¹²⁸ − 1."""

_WORD = 2**64
_HALF = 2**32
_LOW = _HALF - 1
_IN_BLOCK = 4  # words for each place of the counter
_ROUNDS = 10
_FACTORS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # what each round adds to the key


class HostWords:
    """Words of one key on the CPU, by NumPy. It calls no function of torch.

    Args:
        key: 0 ≤ key < 2⁶⁴.
    """

    def __init__(self, key: int) -> None:
        self._philox = Philox(key=numpy.array([key, 0], dtype=numpy.uint64))
        self._state = self._philox.state

    def draw(self, samples: Sequence[int], node: Node, count: int) -> NDArray[numpy.uint64]:
        """The first `count` words of each sample at its node, (len(samples), count)."""
        blocks = -(-count // _IN_BLOCK)
        runs = [self._run(*run, blocks) for run in _runs(samples, node)]
        words = runs[0] if len(runs) == 1 else numpy.concatenate(runs)
        return words.reshape(len(samples), blocks * _IN_BLOCK)[:, :count]

    def _run(self, first: int, n: int, node: int, blocks: int) -> NDArray[numpy.uint64]:
        """All words of n neighbouring samples."""
        state, (upper, lower) = self._state["state"], divmod(first % _WORD, _HALF)
        state["key"][1] = blocks
        state["counter"][:] = (lower * blocks, node % _WORD, node // _WORD, upper)
        self._philox.state = self._state
        return self._philox.random_raw(n * blocks * _IN_BLOCK)


def _runs(samples: Sequence[int], node: Node) -> list[tuple[int, int, int]]:
    """Neighbouring samples at one node, whose words follow on one another: (first, n, node)."""
    if isinstance(node, int) and isinstance(samples, range) and _is_run(samples):
        return [(samples.start, len(samples), node)]
    return [
        (sample, 1, own) for sample, own in zip(samples, _each(node, len(samples)), strict=True)
    ]


def _each(node: Node, n: int) -> Sequence[int]:
    """The node of each of n samples."""
    return [node] * n if isinstance(node, int) else node


def _is_run(samples: range) -> bool:
    """Whether the counter only counts up from sample to sample: its upper half may not change."""
    same_upper_half = samples.start // _HALF == (samples.stop - 1) // _HALF
    return samples.step == 1 and len(samples) > 0 and same_upper_half


def device_words(
    key: int, samples: Sequence[int], nodes: Sequence[Node], count: int, device: torch.device
) -> Tensor:
    """The same words, made on a device: (len(nodes), len(samples), count), as bits of int64."""
    blocks = -(-count // _IN_BLOCK)
    index, (lower, upper) = _index(samples, device), _halves(nodes, len(samples), device)
    first = (index & _LOW) * blocks + 1  # NumPy counts before it draws
    place = first + torch.arange(blocks, device=device)
    shape = (len(nodes), *place.shape)
    even = torch.stack([place.expand(shape), upper.expand(shape)])
    odd = torch.stack([lower.expand(shape), _upper(index).expand(shape)])
    keys, factors, weyl = (_pair(n, device) for n in ((key, blocks), _FACTORS, _WEYL))
    halves = factors & _LOW, _upper(factors)
    for _ in range(_ROUNDS):
        high = _high_product(even & _LOW, _upper(even), *halves)
        even, odd = high.flip(0) ^ odd ^ keys, (even * factors).flip(0)
        keys = keys + weyl
    block = torch.stack([even[0], odd[0], even[1], odd[1]], -1)
    return block.flatten(2)[..., :count]


# A word is kept as the int64 of the same bits, whose sums, products and exclusive-ors are those of
# the word modulo 2⁶⁴. `even` holds the words 0 and 2 of a counter, `odd` its words 1 and 3.


def _high_product(x_low: Tensor, x_high: Tensor, f_low: Tensor, f_high: Tensor) -> Tensor:
    """The upper 64 bits of a product, by halves of both; no sum of them exceeds 64 bits."""
    middle = x_high * f_low + _upper(x_low * f_low)
    rest = x_low * f_high + (middle & _LOW)
    return x_high * f_high + _upper(middle) + _upper(rest)


def _upper(x: Tensor) -> Tensor:
    """The upper half of a word; a shift alone would drag its sign along."""
    return (x >> 32) & _LOW


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _pair(numbers: tuple[int, int], device: torch.device) -> Tensor:
    """Two words, (2, 1, 1, 1), written by the device: copying them there would make it wait."""
    return torch.stack([torch.full((1, 1, 1), _signed(n), device=device) for n in numbers])


def _index(samples: Sequence[int], device: torch.device) -> Tensor:
    """The samples as words, (B, 1)."""
    if isinstance(samples, SampleRun):
        index = samples.there
    elif isinstance(samples, range):
        index = torch.arange(samples.start, samples.stop, samples.step, device=device)
    else:
        index = _sent([_signed(i) for i in samples], device)
    return index[:, None]


def _halves(nodes: Sequence[Node], n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The lower and the upper word of the nodes, (len(nodes), 1 or n, 1) each."""
    if len(nodes) == 1 and isinstance(nodes[0], int):  # whose address need not be copied there
        upper, lower = divmod(nodes[0], _WORD)
        filled = partial(torch.full, (1, 1, 1), device=device)
        return filled(_signed(lower)), filled(_signed(upper))
    shared = all(isinstance(node, int) for node in nodes)
    rows = [_each(node, 1 if shared else n) for node in nodes]
    pairs = [[(_signed(one % _WORD), _signed(one // _WORD)) for one in row] for row in rows]
    both = _sent(pairs, device)
    return both[..., :1], both[..., 1:]


def _sent(words: Sequence[Any], device: torch.device) -> Tensor:
    """Words of the host on the device, without waiting until it has done what it was given."""
    return torch.tensor(words, device="cpu").to(device, non_blocking=True)
