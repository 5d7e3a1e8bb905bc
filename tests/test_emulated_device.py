"""The emulated device refuses and counts what a real one would."""

from __future__ import annotations

import pytest
import torch

from tests.emulated_device import DEVICE, Emulated


def test_tensors_of_both_sides_do_not_mix():
    with Emulated() as device:
        there, here = device.tensor(torch.ones(2, 3)), torch.ones(2, 3)
        assert torch.equal(device.cpu(there + torch.ones(())), torch.full((2, 3), 2.0))
        for mix in (
            lambda: there + here,
            lambda: here + there,
            lambda: there.add_(here),
            lambda: here.add_(there),
            lambda: torch.stack([there, here]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


@pytest.mark.parametrize(
    ("look", "synchronisations"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).all()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cpu", torch.float64), 1),
        (lambda x: torch.empty(2, 3).copy_(x), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: torch.equal(x, x), 1),
        (lambda x: x.double().sum(), 0),
        (lambda x: torch.where(x > 0, x, 0.0).amax(), 0),
        (lambda x: x.clone().copy_(x), 0),
    ],
)
def test_looks_are_counted(look, synchronisations):
    with Emulated() as device:
        x = device.tensor(torch.ones(2, 3))
        device.reset()
        look(x)
        assert device.synchronisations == synchronisations
        assert device.transfers == 0


def test_transfers_are_counted_with_their_bytes():
    with Emulated() as device:
        x = torch.ones(2, 3).to(DEVICE)
        x.copy_(torch.ones(2, 3))
        torch.tensor([1.0, 2.0], device=DEVICE)
        x[torch.tensor([0, 1])]
        assert (device.transfers, device.transferred_bytes) == (4, 24 + 24 + 8 + 16)
        assert device.synchronisations == 0


@pytest.mark.parametrize(
    ("work", "launches"),
    [
        (lambda x: x + 1, 1),
        (lambda x: x.add_(1), 1),
        (lambda x: x.reshape(3, 2)[1:], 0),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: torch.zeros_like(x), 1),
        (lambda x: torch.cat([x, x]).double(), 2),
    ],
)
def test_launches_are_counted(work, launches):
    with Emulated() as device:
        x = device.tensor(torch.ones(2, 3))
        device.reset()
        work(x)
        assert device.launches == launches


def test_a_device_without_float64_refuses_it():
    with Emulated(float64=False) as device:
        x = device.tensor(torch.ones(2))
        assert torch.equal(x.cpu().double(), torch.ones(2).double())
        for make in (
            lambda: x.double(),
            lambda: torch.ones(2).double().to(DEVICE),
            lambda: torch.zeros(2, dtype=torch.float64, device=DEVICE),
            lambda: torch.tensor([1.0], dtype=torch.float64, device=DEVICE),
        ):
            with pytest.raises(TypeError, match="float64"):
                make()
    with Emulated() as device:
        assert device.tensor(torch.ones(2).double()).dtype == torch.float64


def test_shifts_are_not_taken_for_operations_in_place():
    with Emulated() as device:
        x = device.tensor(torch.tensor([5, 6]))
        assert torch.equal(device.cpu(x >> 1), torch.tensor([2, 3]))
        assert torch.equal(device.cpu(x), torch.tensor([5, 6]))
