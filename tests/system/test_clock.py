"""A clock that waits for the device, and waits no more often than it has to."""

from __future__ import annotations

import pytest
import torch

from diffsde.analysis.speed import optimize
from diffsde.solvers.solving import solve
from diffsde.system.clock import seconds_on
from diffsde.training.losses import fastest_precision
from tests.launched import RECIPE, images, small_model


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices that were waited for; the CPU passes for an accelerator."""
    seen: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.accelerator, "synchronize", seen.append)
    return seen


def test_the_clock_waits_for_its_own_device(waits: list[torch.device]) -> None:
    seconds_on()
    seconds_on(torch.device("meta"))
    assert not waits
    seconds_on(torch.device("cpu"))
    assert waits == [torch.device("cpu")]


def test_a_solve_waits_at_its_two_ends(waits: list[torch.device]) -> None:
    flow = small_model().flow()
    x = flow.sde.prior_sample((2, *flow.shape), seed=0)
    sol = solve(flow, x, "euler", steps=20)
    assert len(waits) == 2
    assert sol.stats.seconds > 0


def test_every_evaluation_that_is_timed_is_waited_for(
    waits: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    monkeypatch.setattr("diffsde.analysis.speed_bench.solve", _unwatched(waits))
    optimize(model, batch=2, compile=False, rounds=3)
    # Four ways, each after two for warming up, and three in turn with plain float32.
    assert len(waits) == 4 * 2 * (2 + 2 * 3)
    waits.clear()
    fastest_precision(small_model(3), images(), RECIPE, range(4))
    assert len(waits) == 2 * 2 * 4


def _unwatched(waits: list[torch.device]):
    """A solve whose own waits are not counted."""

    def solved(*args, **settings):
        before = len(waits)
        sol = solve(*args, **settings)
        del waits[before:]
        return sol

    return solved
