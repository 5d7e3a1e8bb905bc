"""Brownian motion: it has its law, and a path is a function of time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffsde import BrownianPath, InputError
from diffsde.noise.brownian import BoundBrownian, SequentialBrownian
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import address_of

SIZE = (4, 5000)
INTERVALS = [(0.0, 0.25), (0.25, 0.31), (0.31, 1.234), (1.234, 1.2345), (1.2345, 2.0)]


def path(**more: object) -> BoundBrownian:
    return BrownianPath(3).bind(SIZE, dtype=torch.float64, **more)  # type: ignore[arg-type]


def sequential() -> BoundBrownian:
    return SequentialBrownian(3, SIZE, dtype=torch.float64)


@pytest.mark.parametrize("make", [path, sequential])
def test_increments_and_areas_have_their_law(make: object) -> None:
    assert_their_law(make(), INTERVALS)  # type: ignore[operator]


def test_the_bridge_within_an_interval_has_its_law() -> None:
    """At the coarsest resolution, where nothing is halved and each cell is bridged once."""
    noise = BrownianPath(3, resolution=1.0).bind(SIZE, dtype=torch.float64)
    assert_their_law(noise, [(0.0, 1.3), (1.3, 2.5), (2.5, 3.5), (3.5, 4.9), (4.9, 6.0)])


def assert_their_law(noise: BoundBrownian, intervals: list[tuple[float, float]]) -> None:
    for a, b in intervals:
        w, u = noise(a, b, return_U=True)
        h = b - a
        area = u / h - w / 2
        for value, std in ((w, math.sqrt(h)), (area, math.sqrt(h / 12))):
            assert stats.kstest((value / std).flatten().numpy(), "norm").pvalue > 1e-4
            spread = float((value / std).square().mean())
            assert spread == pytest.approx(1, abs=5 * math.sqrt(2 / value.numel()))
        assert abs(correlation(w, area)) < 5 / math.sqrt(w.numel())


@pytest.mark.parametrize("make", [path, sequential])
def test_disjoint_increments_are_independent(make: object) -> None:
    noise = make()  # type: ignore[operator]
    drawn = [noise(a, b) for a, b in INTERVALS]
    for one, other in itertools.pairwise(drawn):
        assert abs(correlation(one, other)) < 5 / math.sqrt(one.numel())


def test_a_path_is_a_function_of_time() -> None:
    noise = path()
    (w, u), (w1, u1), (w2, u2) = (
        noise(a, b, return_U=True) for a, b in ((0.2, 1.7), (0.2, 0.9), (0.9, 1.7))
    )
    assert torch.allclose(w, w1 + w2, atol=1e-12)
    assert torch.allclose(u, u1 + u2 + 0.8 * w1, atol=1e-12)  # Chen's relation
    again = path()
    again(1.3, 1.4)
    assert torch.equal(again(0.2, 1.7), w)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [*range(1, 36), 784, 785])
def test_a_sample_keeps_its_path_in_any_batch(channels: int, dtype: torch.dtype) -> None:
    """Bit for bit, alone and beside others, with one time for all and with times of their own."""
    own = torch.tensor([[0.3], [0.77]], dtype=torch.float64)
    whole = BrownianPath(3).bind((64, channels), dtype=dtype)(*own.flatten(), return_U=True)
    for rows in ([0], [1, 3], [63, 2, 9], list(range(63))):
        part = BrownianPath(3).bind((len(rows), channels), rows, dtype)
        for times in (own.flatten(), own.expand(2, len(rows)).unsqueeze(2)):
            for found, expected in zip(part(*times, return_U=True), whole, strict=True):
                assert torch.equal(found, expected[rows])


def test_times_of_their_own() -> None:
    noise = path()
    start = torch.tensor([[0.1], [0.2], [0.5], [1.0]], dtype=torch.float64)
    found = noise(start, start + 0.3)
    for i, a in enumerate(start[:, 0].tolist()):
        assert torch.equal(found[i], noise(a, a + 0.3)[i])


def test_both_sources_give_no_levy_area_where_it_has_no_effect() -> None:
    for noise in (path(commutes=True), SequentialBrownian(3, SIZE, commutes=True)):
        w, area = noise(0.0, 0.5, return_A=True)
        assert area.shape == (*w.shape, w.shape[1])
        assert area.count_nonzero() == 0


def test_levy_areas_have_their_law() -> None:
    """A_ij = ½ ∫ W_i dW_j − W_j dW_i: variance h²/4, and H_i W_j − W_i H_j given W and H."""
    h, n = 0.3, 20_000
    w, u, area = SequentialBrownian(3, (n, 2), dtype=torch.float64)(0.0, h, True, True)
    assert torch.equal(area, -area.transpose(1, 2))
    a, mean = area[:, 0, 1], w[:, 1] * (u[:, 0] / h) - w[:, 0] * (u[:, 1] / h)
    # Its fourth moment is 5 times its squared variance, so the variance is known to 2 / √n.
    assert float(a.var()) == pytest.approx(h**2 / 4, rel=10 / math.sqrt(n))
    rest = a - mean
    assert float(rest.var()) == pytest.approx(h**2 / 12, rel=10 / math.sqrt(n))
    assert abs(correlation(rest, mean)) < 5 / math.sqrt(n)


def test_the_same_interval_twice_is_the_same_noise() -> None:
    noise = sequential()
    assert torch.equal(noise(0.0, 0.1), noise(0.0, 0.1))
    assert not torch.equal(noise(0.1, 0.2), noise(0.2, 0.3))


@pytest.mark.parametrize("area", [False, True])
def test_the_numbers_of_a_step_are_those_of_each_sample_at_its_beginning(area: bool) -> None:
    size, table = (64, 300), NormalTable(3, "brownian")
    noise, few = SequentialBrownian(3, size), SequentialBrownian(3, (2, 300), [5, 60])
    for a, b in INTERVALS:
        (w, u), (part_w, part_u) = (n.increment(a, b, area) for n in (noise, few))
        z = table.rows(range(64), address_of(a), size[1:], torch.float32)
        assert torch.equal(w, math.sqrt(b - a) * z)
        assert torch.equal(w[[5, 60]], part_w)
        if area:
            assert torch.equal(u[[5, 60]], part_u)  # type: ignore[index, arg-type]


def test_a_sequential_source_refuses_another_order() -> None:
    noise = sequential()
    noise(0.0, 0.1)
    with pytest.raises(InputError, match="walked in order; a BrownianPath"):
        noise(0.5, 0.6)


def test_a_size_that_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"expected \(B, D\) and one index"):
        BrownianPath(0).bind((3, 2), samples=[0])


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
