"""Words and numbers are the same on every device; NumPy's Philox is the reference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy
import pytest
import torch
from numpy.random import Philox

from diffsde import VESDE, BrownianPath
from diffsde.noise import normal
from diffsde.noise.brownian import SequentialBrownian
from diffsde.noise.normal import NormalTable
from diffsde.noise.philox import HostWords, Node, device_words
from tests.emulated_device import Emulated

BIG = 2**32
ADDRESSES: list[tuple[Sequence[int], Node]] = [
    (range(3), 0),
    (range(7, 12), 2**64 + 5),
    (range(BIG - 2, BIG + 3), 2**127 + 9),  # where the upper half of the index changes
    (range(2, 9, 3), 1),
    ([5, 2**40 + 1, 2**63 + 7], [0, 2**64 - 1, 2**128 - 1]),
]


@pytest.mark.parametrize("key", [0, 2**63, 2**64 - 3])
@pytest.mark.parametrize("count", [1, 4, 13])
@pytest.mark.parametrize(("samples", "node"), ADDRESSES)
def test_a_device_makes_the_words_of_numpy(
    key: int, count: int, samples: Sequence[int], node: Node
) -> None:
    """At one node, and at several together."""
    for nodes in ([node], [3, node], [5, 2**127, 7]):
        host = numpy.stack([HostWords(key).draw(samples, one, count) for one in nodes])
        with Emulated() as device:
            there = device.cpu(device_words(key, samples, nodes, count, device.device))
        assert numpy.array_equal(host.view(numpy.int64), there.numpy())


@pytest.mark.parametrize(("samples", "node"), ADDRESSES)
def test_each_sample_has_words_of_its_own_address(samples: Sequence[int], node: Node) -> None:
    """Philox itself at the counter (place, node, node, upper half of the sample)."""
    key, count, blocks = 11, 7, 2
    found = HostWords(key).draw(samples, node, count)
    each = [node] * len(samples) if isinstance(node, int) else node
    for row, sample, own in zip(found, samples, each, strict=True):
        upper, lower = divmod(sample, BIG)
        counter = [lower * blocks, own % 2**64, own // 2**64, upper]
        philox = Philox(
            key=numpy.array([key, blocks], numpy.uint64), counter=numpy.array(counter, numpy.uint64)
        )
        assert numpy.array_equal(row, philox.random_raw(count))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (784,), (3, 5, 5)])
def test_numbers_are_the_same_on_a_device_and_in_each_dtype(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    table = NormalTable(4, "prior")
    host = table.rows(range(2, 6), 9, shape, torch.float32)
    with Emulated() as device:
        made = table.rows(range(2, 6), 9, shape, dtype, device.device)
        assert (device.synchronisations, device.transfers) == (0, 0)
        there = device.cpu(made)
    # Logarithms, sines and cosines may be rounded in another way: a few units of 6e-8 of values
    # up to 6.7, and one unit in the last place of a coarser dtype.
    close = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 0, "atol": 3e-6}
    assert torch.allclose(there.float(), host, **close)
    assert torch.equal(table.rows(range(2, 6), 9, shape, dtype), host.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_brownian_motion_is_made_on_the_device(dtype: torch.dtype) -> None:
    def sources(where: torch.device | str) -> list:
        size, kind = (3, 5), {"dtype": dtype, "device": where}
        return [SequentialBrownian(1, size, **kind), BrownianPath(1).bind(size, **kind)]

    own = torch.tensor([[0.1], [0.2], [1.5]], dtype=torch.float64)
    with Emulated() as device:
        for host, there in zip(sources("cpu"), sources(device.device), strict=True):
            device.reset()
            pairs = [(there(0.3, 0.7, return_U=True), host(0.3, 0.7, return_U=True))]
            assert device.synchronisations == 0
            if host.resolution:
                # One draw for both ends, of all levels between the cell and the resolution: one
                # copy of their addresses, and for each end one of what they count there.
                assert device.transfers <= 1 + 2
                assert device.launches <= 350
                ends = own, own + 0.3
                pairs.append((there(*ends, return_U=True), host(*ends, return_U=True)))
                assert device.synchronisations == 0
            for found, expected in pairs:
                for a, b in zip(found, expected, strict=True):
                    # The path adds up some twenty numbers of size 1, each rounded to 6e-8.
                    assert torch.allclose(device.cpu(a), b, rtol=0, atol=5e-6)


def test_a_device_draws_as_many_numbers_at_once_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the way down a path is, and however large a node."""
    host = BrownianPath(1).bind((3, 5))(0.3, 0.7)
    largest: list[int] = []
    drawn = normal.device_words

    def noted(key: int, samples: Sequence[int], nodes: Sequence[Node], *rest: int) -> torch.Tensor:
        largest.append(len(nodes))
        return drawn(key, samples, nodes, *rest)

    monkeypatch.setattr(normal, "device_words", noted)
    for fitting, nodes in ((3 * 10 * 4, 4), (1, 1)):
        largest.clear()
        monkeypatch.setattr(normal, "_ON_DEVICE", fitting)
        with Emulated() as device:
            found = BrownianPath(1).bind((3, 5), device=device.device)(0.3, 0.7)
            assert torch.allclose(device.cpu(found), host, rtol=0, atol=5e-6)
        assert max(largest) == nodes


def test_a_prior_is_drawn_where_it_is_asked_for() -> None:
    sde = VESDE()
    expected = sde.prior_sample((2, 3), seed=1)
    with Emulated() as device:
        made = sde.prior_sample((2, 3), seed=1, device=device.device)
        assert made.device.type == device.device.type
        assert torch.allclose(device.cpu(made), expected, rtol=1e-6)
        assert (device.synchronisations, device.transfers) == (0, 0)


@pytest.mark.parametrize("places", [[0.0, 0.1, 0.4, 0.5, 1.0], [k / 97 for k in range(98)]])
def test_a_device_draws_the_steps_to_come_together(
    monkeypatch: pytest.MonkeyPatch, places: list[float]
) -> None:
    """The host's numbers, and one copy of addresses for as many steps as fit."""
    monkeypatch.setattr(normal, "_ON_DEVICE", 3 * 5 * 40)
    times = {u: 1 - 0.9 * u for u in places}
    host = SequentialBrownian(1, (3, 5), times=times)
    with Emulated() as device:
        there = SequentialBrownian(1, (3, 5), device=device.device, times=times)
        for start, end in itertools.pairwise(places):
            for found, expected in zip(
                there.increment(start, end, True), host.increment(start, end, True), strict=True
            ):
                assert torch.allclose(device.cpu(found), expected, rtol=0, atol=5e-6)
        draws = 2 * math.ceil((len(places) - 1) / 40)  # of W and of H
        assert (device.synchronisations, device.transfers) == (0, draws)
