"""Solves on a device: the CPU's results, and the host waits for none of the steps.

The device is emulated (see `tests.emulated_device`), mostly as one that has no float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde import (
    STOP,
    BlowUpError,
    BrownianPath,
    LimitError,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    autoguidance,
    classifier_free,
    ensemble,
    inpainting,
    list_solvers,
    log_likelihood,
    solve,
    steps,
)
from diffsde.analysis import encode, interpolate
from diffsde.equations.forward import SDE
from tests.emulated_device import Emulated, OnDevice
from tests.problems import mild

STEPS, MORE = 5, 11  # a solve is looked at once more from 8 steps on
LOOKS = 3  # at the start, early on, and at the end
ROWS = list_solvers()
FIXED = [row for row in ROWS if row.one_step is not None]
BY_ITSELF = [row for row in ROWS if row.adaptive and row.one_step is not None]
NOISY = [row for row in ROWS if row.kind == "sde" and row.can_adapt]
# These ask whether they have converged, up to so often a step.
ITERATE = {"implicit_adams": 5, "fixed_adams": 5}
CLOCKS = ["t", "karras"]
X = mild().prior_sample((3, 2), seed=0)

Place = Callable[[Any], Any]
"""Puts a tensor or a module where it is wanted."""


def ids(row: Any) -> str:
    return f"{row.kind}-{row.name}"


def score(sde: SDE | None = None) -> MixtureScore:
    means = torch.tensor([[0.5, -0.2], [-0.4, 0.3]])
    return MixtureScore(sde or mild(), means, torch.tensor([0.2, 0.3]), [0.7, 0.3]).float()


def problem(kind: str, of: nn.Module) -> Any:
    sde = of.sde if isinstance(of, MixtureScore) else mild()
    return (ReverseSDE if kind == "sde" else ProbabilityFlow)(sde, of, (2,))


def here(value: Any) -> Any:
    return value


def on(device: Emulated) -> Place:
    def place(value: Any) -> Any:
        return device.module(value) if isinstance(value, nn.Module) else device.tensor(value)

    return place


def solved(row: Any, place: Place, x: Tensor = X, **how: Any) -> Any:
    how = {"seed": 1, "options": None, **how}
    with pytest.warns(UserWarning) if row.loses_law else _quietly():
        return solve(problem(row.kind, place(score())), place(x), row.name, **how)


class _quietly:  # noqa: N801  (a context, as pytest's are)
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def assert_same(device: Emulated, found: Any, expected: Any, rtol: float = 1e-5) -> None:
    assert isinstance(found, OnDevice)
    torch.testing.assert_close(device.cpu(found.detach()), expected.detach(), rtol=rtol, atol=1e-5)


# -- fixed steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("row", FIXED, ids=ids)
def test_fixed_steps_of_every_row(row: Any, clock: str) -> None:
    """The CPU's states; three looks however many the steps, and times that travel once."""
    how = {"adaptive": False, "clock": clock}
    there = solved(row, here, steps=MORE, **how)
    with Emulated(float64=False) as device:
        transfers = []
        for count in (STEPS, MORE):
            device.reset()
            found = solved(row, on(device), steps=count, **how)
            assert device.synchronisations <= LOOKS + ITERATE.get(row.name, 0) * count
            transfers.append(device.transfers)
        assert_same(device, found.ys, there.ys)
        assert found.stats.nfe == there.stats.nfe
        if row.kind == "ode":
            assert transfers[0] == transfers[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", [row for row in FIXED if row.kind == "sde"], ids=ids)
def test_fixed_steps_along_a_path(row: Any, dtype: torch.dtype) -> None:
    how: dict[str, Any] = {"noise": BrownianPath(2), "steps": 3, "seed": None, "x": X.to(dtype)}
    there = solved(row, here, **how)
    with Emulated(float64=dtype == torch.float64) as device:
        found = solved(row, on(device), **how)
        assert device.synchronisations <= LOOKS
        assert_same(device, found.ys, there.ys)


# -- steps of their own --------------------------------------------------------------------


@pytest.mark.parametrize("row", BY_ITSELF, ids=ids)
def test_adaptive_flows(row: Any) -> None:
    """Two looks a step at most, which ends and whose error somebody must know."""
    how = {"rtol": 0.05, "atol": 0.05, "clock": "log_sigma", "save": "last"}
    there = solved(row, here, **how)
    with Emulated(float64=False) as device:
        found = solved(row, on(device), **how)
        taken = found.stats.steps + found.stats.rejected
        assert device.synchronisations <= 2 * taken + 6  # and at the start
        assert_same(device, found.ys, there.ys)


@pytest.mark.parametrize("float64", [True, False])
@pytest.mark.parametrize("row", NOISY, ids=ids)
def test_adaptive_sdes(row: Any, float64: bool) -> None:
    """In float64 the CPU's states to rounding; without it, other steps to the same tolerance."""
    how = {"rtol": 0.3, "atol": 0.3, "adaptive": True, "clock": "log_sigma", "save": "last"}
    there = solved(row, here, **how)
    with Emulated(float64) as device:
        found = solved(row, on(device), **how)
        taken = found.stats.steps * len(X) + found.stats.rejected
        assert device.synchronisations <= 2 * taken + 6
        if float64:
            assert_same(device, found.ys, there.ys)
        else:
            assert float((device.cpu(found.ys) - there.ys).abs().max()) < 0.6


def test_scipy_s_steps() -> None:
    """Every evaluation comes to the CPU, where the steps are taken."""
    (row,) = (row for row in ROWS if row.name == "scipy_solver")
    there = solved(row, here, rtol=0.01, atol=0.01)
    with Emulated(float64=False) as device:
        found = solved(row, on(device), rtol=0.01, atol=0.01)
        assert device.synchronisations <= found.stats.nfe + 2 * found.stats.steps + LOOKS
        assert_same(device, found.ys, there.ys)


# -- failures ------------------------------------------------------------------------------


class Fails(nn.Module):
    """A score that does something else from an evaluation on."""

    def __init__(self, at: int, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.calls, self.at, self.what = score(), 0, at, what

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        found = self.inner(x, t)
        return found if self.calls < self.at else self.what(found)


def nothing(found: Tensor) -> Tensor:
    return found / 0


def huge(found: Tensor) -> Tensor:
    return 1e9 * found


def one_is_not_a_number(found: Tensor) -> Tensor:
    return torch.cat([found[:1] * math.nan, found[1:]])


def failure(place: Place, at: int, what: Any, **how: Any) -> SolveError:
    with pytest.raises(SolveError) as caught:
        solve(problem("ode", place(Fails(at, what))), place(X), **how)
    return caught.value


SAVES: list[Any] = ["all", "last", 3]


@pytest.mark.parametrize("what", [nothing, huge, one_is_not_a_number])
@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("at", [1, 4, 17, 25])
@pytest.mark.parametrize("method", ["heun2", "dopri5"])
def test_a_failure_names_the_first_bad_step(method: str, at: int, save: Any, what: Any) -> None:
    """Found late, it hands back what the CPU does: the path up to the last good state."""
    how = {"method": method, "steps": 16, "adaptive": False, "save": save}
    there = failure(here, at, what, **how)
    with Emulated(float64=False) as device:
        found = failure(on(device), at, what, **how)
        assert device.synchronisations <= LOOKS
        assert (str(found), type(found)) == (str(there), type(there))
        path, expected = found.trajectory, there.trajectory
        assert torch.equal(path.ts, expected.ts)
        assert torch.equal(path.evaluations, expected.evaluations)
        assert path.stats.steps == expected.stats.steps
        assert_same(device, path.ys, expected.ys)


@pytest.mark.parametrize("save", SAVES)
def test_what_came_before_an_error_is_the_error(save: Any) -> None:
    """A score, a limit or Ctrl-C that stops a solve after a bad step stops it at that step."""

    def stops(found: Tensor) -> Tensor:
        if bool((found != found).any()):
            raise ValueError("not a number")
        return found * math.nan

    how = {"method": "euler", "steps": 20, "save": save}
    there = failure(here, 3, nothing, **how)
    with Emulated(float64=False) as device:
        assert str(failure(on(device), 3, stops, **how)) == str(there)
        limited = failure(on(device), 3, nothing, max_nfe=6, **how)
        assert isinstance(limited, BlowUpError)
        assert str(limited) == str(there)
        interrupted = Fails(3, nothing)

        def ctrl_c(*_: Any) -> None:
            if interrupted.calls == 6:
                raise KeyboardInterrupt

        interrupted.inner.register_forward_hook(ctrl_c)
        with pytest.raises(KeyboardInterrupt) as caught:
            solve(problem("ode", on(device)(interrupted)), device.tensor(X), **how)
        assert_same(device, caught.value.trajectory.ys, there.trajectory.ys)


@pytest.mark.parametrize("extra", ["denoise", "estimates"])
def test_a_clean_image_that_is_not_finite(extra: str) -> None:
    how = {"method": "euler", "steps": 3, extra: True}
    there = failure(here, 4, nothing, **how)
    with Emulated(float64=False) as device:
        found = failure(on(device), 4, nothing, **how)
        assert str(found) == str(there)
        assert_same(device, found.trajectory.ys, there.trajectory.ys)


def test_a_solve_that_failed_goes_on_from_its_last_good_state() -> None:
    with Emulated(float64=False) as device:
        for save in SAVES:
            whole = solve(problem("ode", score()), X, "heun2", steps=16, save=save)
            stopped = failure(on(device), 9, nothing, method="heun2", steps=16, save=save)
            mended = stopped.trajectory
            mended._resume.keywords["begin"] if False else None
            assert float(mended.ts[-1]) > float(whole.ts[-1])


def test_a_limit_hands_back_the_path() -> None:
    with Emulated(float64=False) as device:
        for how in ({"max_nfe": 5}, {"max_steps": 5}):
            with pytest.raises(LimitError) as caught:
                solve(problem("ode", on(device)(score())), device.tensor(X), "euler", steps=9, **how)
            whole = solve(problem("ode", score()), X, "euler", steps=9)
            assert_same(device, caught.value.trajectory.ys, whole.ys[:6])
