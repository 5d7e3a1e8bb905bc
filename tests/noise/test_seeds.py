"""Every normal number is determined by its address."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from diffsde import InputError
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import PURPOSES, checked_seed

F64 = torch.float64


def test_numbers_are_standard_normal_and_independent() -> None:
    z = NormalTable(0, "brownian").rows(range(200), 0, (784,), F64)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    correlation = torch.corrcoef(z) - torch.eye(200, dtype=F64)
    assert correlation.abs().max() < 6 / 784**0.5  # six standard deviations, for 20,000 pairs


@pytest.mark.parametrize("samples", [[0, 1, 2, 3], [3, 1], [2]])
def test_a_sample_does_not_depend_on_its_batch(samples: list[int]) -> None:
    whole = NormalTable(5, "prior").rows(range(4), 7, (3, 2), F64)
    part = NormalTable(5, "prior").rows(samples, 7, (3, 2), F64)
    assert torch.equal(part, whole[samples])


def test_entries_may_be_read_in_any_order() -> None:
    table = NormalTable(0, "path")
    first = table.rows([4], 2**40, (5,), F64)
    table.rows([1, 2], [3, 9], (7,), F64)
    assert torch.equal(table.rows([4], 2**40, (5,), F64), first)


def test_every_part_of_the_address_matters() -> None:
    drawn = [
        NormalTable(seed, purpose).rows([sample], node, (4,), F64)
        for seed in (0, 1)
        for purpose in PURPOSES
        for sample in (0, 1)
        for node in (0, 1)
    ]
    assert len({tuple(z.flatten().tolist()) for z in drawn}) == len(drawn)


def test_nodes_of_their_own() -> None:
    table = NormalTable(0, "path")
    both = table.rows([0, 1], [5, 6], (4,), F64)
    assert torch.equal(both[1], table.rows([1], 6, (4,), F64)[0])


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_a_bad_seed(seed: object) -> None:
    with pytest.raises(InputError, match="seed = .*whole number ≥ 0"):
        checked_seed(seed)  # type: ignore[arg-type]


def test_a_fresh_seed_follows_torch() -> None:
    torch.manual_seed(0)
    one = checked_seed(None)
    torch.manual_seed(0)
    assert checked_seed(None) == one != checked_seed(None)
