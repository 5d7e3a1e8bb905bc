"""Numbers of Python, NumPy and torch, wherever a count, a seed, a tolerance or a time is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diffsde import InputError, ensemble, interpolate, list_solvers, log_likelihood, solve
from diffsde.system.numbers import real_number, whole_number
from tests.problems import flow, gaussian, reverse

SCORE = gaussian()
X = SCORE.sample(3, 1.0, seed=0)

WHOLE: list[Callable[[int], Any]] = [
    int, np.int64, np.int32, np.uint8, np.array, torch.tensor,
    lambda n: torch.tensor(n, dtype=torch.int32),
]  # fmt: skip
REAL: list[Callable[[float], Any]] = [float, np.float64, np.float32, np.array, torch.tensor]


@pytest.mark.parametrize("kind", WHOLE)
def test_every_kind_of_whole_number_is_the_same_solve(kind: Callable[[int], Any]) -> None:
    plain = solve(reverse(SCORE), X, "em", steps=6, seed=3, first=2, chunk=2, save=3)
    sol = solve(
        reverse(SCORE), X, "em", steps=kind(6), seed=kind(3), first=kind(2), chunk=kind(2),
        save=kind(3), max_nfe=kind(100), max_steps=kind(100),
    )  # fmt: skip
    assert torch.equal(sol.ys, plain.ys)
    levels = ensemble(
        reverse(SCORE), kind(4), method="em", chunk=kind(2), seed=kind(1), steps=kind(3)
    )
    assert levels.n == 4
    frames = interpolate(flow(SCORE), X[:1], X[1:2], frames=kind(3), method="ddim", steps=kind(3))
    assert len(frames) == 3
    found = log_likelihood(flow(SCORE), X, probes=kind(2), seed=kind(0), rtol=1e-2, atol=1e-2)
    assert torch.isfinite(found.log_prob).all()


@pytest.mark.parametrize("kind", REAL)
def test_every_kind_of_number_is_the_same_tolerance(kind: Callable[[float], Any]) -> None:
    ends = [kind(1.0), kind(0.25)]
    plain = solve(flow(SCORE), X, "dopri5", rtol=2**-10, atol=2**-10, ts=[1.0, 0.25])
    sol = solve(
        flow(SCORE), X, "dopri5", rtol=kind(2**-10), atol=kind(2**-10), ts=ends,
        max_seconds=kind(60.0),
    )  # fmt: skip
    assert torch.equal(sol.ys, plain.ys)


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 2.0, np.float64(2), "2", None, [2], torch.ones(2)]
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(InputError, match="n = .*: expected a whole number ≥ 1"):
        whole_number(value, "n")


@pytest.mark.parametrize("value", ["1e-3", None, math.nan, math.inf, True, torch.ones(2), -1.0])
def test_what_is_no_tolerance(value: Any) -> None:
    with pytest.raises(InputError, match="rtol = .*: expected a number ≥ 0"):
        real_number(value, "rtol", "a number ≥ 0", 0.0)


@pytest.mark.parametrize("kind", ["rtol", "atol"])
def test_one_tolerance_may_be_zero_but_not_both(kind: str) -> None:
    rest = {"rtol": 1e-3, "atol": 1e-3, kind: 0}
    assert torch.isfinite(solve(flow(SCORE), X, "dopri5", **rest).ys).all()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rtol = atol = 0"):
        solve(flow(SCORE), X, "dopri5", rtol=0, atol=0)


@pytest.mark.parametrize("row", list_solvers(), ids=lambda row: f"{row.kind}-{row.name}")
def test_two_times_alone_are_no_grid_of_fixed_steps(row: Any) -> None:
    problem = (reverse if row.kind == "sde" else flow)(SCORE)
    if row.adaptive:
        assert solve(problem, X, row.name, ts=[1.0, 0.5]).stats.steps > 1
        return
    with pytest.raises(InputError, match=f"{row.name} takes fixed steps.*give steps="):
        solve(problem, X, row.name, ts=[1.0, 0.5])
    assert len(solve(problem, X, row.name, ts=[1.0, 0.5], steps=1, seed=0)) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_states_of_half_precision_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"expected (float32 or float64|a tensor of floating)"):
        solve(flow(SCORE), X.to(dtype), "dopri5")
