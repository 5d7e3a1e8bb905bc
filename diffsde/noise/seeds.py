r"""Seeds, what their numbers are used for, and the time as an address.

One seed serves a whole solve, because every use of random numbers has a purpose, and no two pairs
of seed and purpose share a number.
"""

from __future__ import annotations

import numpy
import torch
from numpy.random import SeedSequence

from diffsde.system.numbers import whole_number

__all__ = [
    "PURPOSES",
    "address_of",
    "checked_seed",
    "entropy",
    "fresh_seed",
    "generator",
    "numbered",
]

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


def fresh_seed() -> int:
    """A random seed from torch's global generator, so that `torch.manual_seed` determines it."""
    return int(torch.randint(2**31 - 1, (), device="cpu").item())


def checked_seed(seed: int | None) -> int:
    """The seed itself, or a fresh one for None.

    Raises:
        InputError: it is not a whole number ≥ 0.
    """
    if seed is None:
        return fresh_seed()
    return whole_number(seed, "seed", 0, why=", or None")


def numbered(first: int, count: int) -> range:
    """The numbers of `count` samples, of which the first is `first`.

    Raises:
        InputError: it is not a whole number ≥ 0.
    """
    first = whole_number(first, "first", 0)
    return range(first, first + count)


def entropy(seed: int, purpose: str) -> list[int]:
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
    words = SeedSequence(entropy(seed, purpose)).generate_state(1, numpy.uint64)
    return torch.Generator().manual_seed(int(words[0] >> numpy.uint64(1)))


def address_of(t: float) -> int:
    """A time as a whole number from 0 to 2³² − 1, by which a table is asked.

    It is rounded to float32, so that a time has one address whether it has gone through float32
    or not; the times of a solve must therefore differ in float32.
    """
    bits: int = numpy.float32(t + 0.0).view(numpy.uint32).item()  # + 0.0: −0 is 0
    return bits
