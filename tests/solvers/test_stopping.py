"""How a solve ends early: limits, blow-ups, Ctrl-C, callbacks; and how it goes on."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import (
    STOP,
    BlowUpError,
    BrownianPath,
    InputError,
    LimitError,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    Trajectory,
    list_solvers,
    solve,
    work_precision,
)
from tests.problems import flow, mild, mixture, reverse

SCORE = mixture(mild(), dims=4)
X = SCORE.sde.prior_sample((3, 4), seed=0)
CLOCKS = ["t", "sigma", "log_sigma", "karras", lambda r: 1 - 0.9 * (r + r**2) / 2]
ROWS = list_solvers()
# Methods that remember earlier steps, which a solve that goes on does not have.
FORGET = {row.name for row in ROWS if row.multistep} - {"pc", "heun_edm"}


def problem(kind: str, score: Any = SCORE) -> Any:
    return (ReverseSDE if kind == "sde" else ProbabilityFlow)(SCORE.sde, score, (4,))


def stopped(p: Any, name: str, max_steps: int, **settings: Any) -> Trajectory:
    with pytest.raises(LimitError) as caught:
        solve(p, settings.pop("x", X), name, max_steps=max_steps, **settings)
    return caught.value.trajectory


# -- going on --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clock", CLOCKS, ids=lambda c: c if isinstance(c, str) else "own")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_a_solve_that_is_stopped_and_resumed_is_one_that_was_not(
    row: Any, clock: Any, dtype: torch.dtype
) -> None:
    """At every step of a fixed grid, bit for bit, on the seed's noise and along a path."""
    steps, x = 4, X.to(dtype)
    how: dict[str, Any] = {"clock": clock, "steps": steps}
    if row.one_step is None:
        pytest.skip("it chooses its own steps")
    sources = [{"seed": 5}] if row.kind == "ode" else [{"seed": 5}, {"noise": BrownianPath(5)}]
    for source in sources:
        settings = {**how, **source, "adaptive": False}
        whole = solve(problem(row.kind), x, row.name, **settings)
        for k in range(1, steps):
            first = stopped(problem(row.kind), row.name, k, x=x, **settings)
            rest = first.resume()
            assert torch.equal(first.ts, whole.ts[: k + 1])
            assert torch.equal(rest.ts, whole.ts[k:])
            assert torch.equal(first.ys, whole.ys[: k + 1])
            if row.name in FORGET:
                assert torch.isfinite(rest.ys).all()
            else:
                assert torch.equal(rest.ys, whole.ys[k:])


@pytest.mark.parametrize("clock", ["t", "sigma", "log_sigma", "karras"])
@pytest.mark.parametrize("row", list_solvers("sde"), ids=lambda row: row.name)
def test_two_windows_are_one_solve(row: Any, clock: str) -> None:
    """With the same seed, or along the same path, and the times of the whole."""
    whole = solve(problem("sde"), X, row.name, steps=8, clock=clock, seed=3)
    parts = [whole.ts[:4], whole.ts[3:]]
    for source in ({"seed": 3}, {"noise": BrownianPath(3)}):
        exact = solve(problem("sde"), X, row.name, ts=whole.ts, clock=clock, **source)
        x = X
        for ts in parts:
            x = solve(problem("sde"), x, row.name, ts=ts, clock=clock, **source).final
        if row.name in FORGET:
            assert torch.isfinite(x).all()
        else:
            assert torch.equal(x, exact.final)


def test_adaptive_solves_go_on() -> None:
    """To the tolerance, since the steps begin anew; other noise would end 0.3 away."""
    path = BrownianPath(1)
    for p, name, how in (
        (flow(SCORE), "dopri5", {"rtol": 1e-6, "atol": 1e-6}),
        (reverse(SCORE), "srk", {"rtol": 1e-3, "atol": 1e-3, "adaptive": True, "noise": path}),
    ):
        whole = solve(p, X, name, steps=4, save="last", **how)
        first = stopped(p, name, 2, steps=4, **how)
        assert torch.allclose(first.resume().final, whole.final, atol=2e-2)


def test_a_failure_goes_on_when_its_cause_is_gone() -> None:
    broken = {"now": True}

    def score(x: Tensor, t: Tensor) -> Tensor:
        if float(t) < 0.5 and broken["now"]:
            raise ZeroDivisionError("inside")
        return SCORE(x, t)

    whole = solve(problem("sde"), X, "euler", steps=8, seed=1)
    with pytest.raises(SolveError, match="ZeroDivisionError: inside") as caught:
        solve(problem("sde", score), X, "euler", steps=8, seed=1)
    assert type(caught.value) is SolveError
    broken["now"] = False
    assert torch.equal(caught.value.trajectory.resume().final, whole.final)


def test_what_cannot_go_on_says_why() -> None:
    sol = solve(problem("sde"), X, "euler", steps=3, seed=0)
    with pytest.raises(InputError, match="has reached its end"):
        sol.resume()
    part = stopped(problem("sde"), "euler", 1, steps=3, seed=0)
    with pytest.raises(InputError, match="max_step: did you mean 'max_steps'"):
        part.resume(max_step=3)


# -- callbacks -------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, 1, "stop", object(), None, False])
def test_only_stop_ends_a_solve(answer: object) -> None:
    sol = solve(problem("sde"), X, "euler", steps=5, seed=0, callback=lambda *_: answer)
    assert sol.stats.steps == 5
    sol = solve(problem("sde"), X, "euler", steps=5, seed=0, callback=lambda *_: STOP)
    assert sol.stats.steps == 1
    assert sol.resume().stats.steps == 4


# -- Ctrl-C and errors ------------------------------------------------------------------


def raising(error: BaseException) -> Any:
    def score(x: Tensor, t: Tensor) -> Tensor:
        if float(t.min()) < 0.5:
            raise error
        return SCORE(x, t)

    return score


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_ctrl_c_stays_what_it_is_and_brings_the_path(row: Any) -> None:
    how: dict[str, Any] = {} if row.adaptive else {"steps": 6}
    with pytest.raises(KeyboardInterrupt) as caught:
        solve(problem(row.kind, raising(KeyboardInterrupt())), X, row.name, seed=0, **how)
    path: Trajectory = caught.value.trajectory  # type: ignore[attr-defined]
    assert len(path) >= 2
    assert float(path.ts[-1]) > 0.3


def test_errors_are_told_apart_by_class() -> None:
    with pytest.raises(BlowUpError, match="not finite"):
        solve(problem("sde", lambda x, t: x * float("nan")), X, "euler", steps=3)
    with pytest.raises(LimitError, match="max_nfe"):
        solve(problem("sde"), X, "euler", steps=9, max_nfe=3)
    with pytest.raises(SolveError, match="ValueError: mine") as caught:
        solve(problem("sde", raising(ValueError("mine"))), X, "euler", steps=9)
    assert type(caught.value) is SolveError
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_users_error_is_no_measurement() -> None:
    for error, kind in ((ValueError("mine"), SolveError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(kind):
            work_precision(problem("ode", raising(error)), ["heun2"], (10,), n=2, reference=X[:2])
    bad = problem("ode", lambda x, t: x * float("nan"))
    (row,) = work_precision(bad, ["heun2"], (10,), x=X[:2], reference=X[:2]).rows
    assert row.error == float("inf")


def test_a_solve_error_travels_between_processes() -> None:
    path = Trajectory(torch.linspace(1, 0, 3), torch.zeros(3, 2, 4), "euler")
    for cls in (SolveError, BlowUpError, LimitError):
        again = pickle.loads(pickle.dumps(cls("words", path)))
        assert (type(again), str(again)) == (cls, "words")
        assert torch.equal(again.trajectory.ys, path.ys)


@pytest.mark.parametrize("what", ["error", "interrupt", "nan"])
def test_finished_chunks_are_kept(what: str) -> None:
    big = torch.cat([X, X, X])
    calls = {"n": 0}

    def score(x: Tensor, t: Tensor) -> Tensor:
        calls["n"] += 1
        if calls["n"] > 11:  # in the third of three chunks of five steps
            if what == "nan":
                return x * float("nan")
            raise KeyboardInterrupt if what == "interrupt" else ValueError("mine")
        return SCORE(x, t)

    whole = solve(problem("sde"), big, "euler", steps=5, seed=2)
    with pytest.raises((SolveError, KeyboardInterrupt), match="Samples 0 to 5 were") as caught:
        solve(problem("sde", score), big, "euler", steps=5, seed=2, chunk=3)
    finished: Trajectory = caught.value.trajectory  # type: ignore[union-attr]
    assert torch.equal(finished.ys, whole.ys[:, :6])
