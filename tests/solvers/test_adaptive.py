"""Adaptive steps for SDEs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffsde import BrownianPath, SolveError, list_solvers, solve
from diffsde.solvers.registry import Solver
from tests.problems import assert_same_law, gaussian, many, mild, mixture, reverse, typical

ROWS = [row for row in list_solvers("sde") if row.can_adapt]
SCORE = mixture(dims=8)
REV = reverse(SCORE)
X1 = SCORE.sample(6, 1.0, seed=0)
FEW = X1[:2]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_every_solver_adapts_and_keeps_its_tolerance(row: Solver) -> None:
    """Against a tight solve on the same path, the error falls with the tolerance."""
    noise = BrownianPath(1)
    tight = solve(REV, X1, "srk", noise=noise, clock="log_sigma", steps=256, save="last").final
    loose, close = (
        typical(
            solve(REV, X1, row.name, adaptive=True, seed=1, clock="log_sigma", rtol=tol, atol=tol,
                  save="last").final
            - tight
        )
        for tol in (1e-1, 1e-2)
    )  # fmt: skip
    assert close < 0.6 * loose + 1e-3
    assert close < 0.1


def test_a_path_does_not_depend_on_its_batch() -> None:
    whole = solve(REV, X1, "srk", adaptive=True, seed=3, save="last").final
    for i in (0, 4):
        alone = solve(REV, X1[i : i + 1], "srk", adaptive=True, seed=3, first=i, save="last")
        assert torch.allclose(alone.final, whole[i : i + 1], atol=1e-5)


def test_the_law() -> None:
    score = mixture(dims=4)
    x = score.sample(many(150), 1.0, seed=1)
    sol = solve(
        reverse(score), x, "srk", adaptive=True, seed=2, clock="log_sigma", rtol=5e-3, atol=5e-3,
        save=[0.3, score.sde.eps],
    )  # fmt: skip
    for t, state in zip(sol.ts.tolist(), sol.ys, strict=True):
        assert_same_law(state, score.sample(many(5000), t, seed=3), f"at t = {t}")


def test_a_step_over_its_tolerance_is_never_accepted() -> None:
    """Where even the smallest step is too long, the solve stops and says so."""
    with pytest.raises(SolveError, match="exceeds the tolerance at the smallest step") as caught:
        solve(
            REV, X1, "euler", adaptive=True, seed=0, rtol=1e-9, atol=1e-9,
            options={"min_step": 0.02}, save="last",
        )  # fmt: skip
    assert caught.value.trajectory.stats.nfe > 0


def test_steps_are_counted_and_bounded() -> None:
    sol = solve(REV, FEW, "euler", adaptive=True, seed=0, save="last", options={"max_step": 0.02})
    assert sol.stats.steps >= 49
    loose = solve(REV, FEW, "srk", adaptive=True, seed=0, save="last", rtol=0.1, atol=0.1)
    tight = solve(REV, FEW, "srk", adaptive=True, seed=0, save="last", rtol=0.01, atol=0.01)
    assert tight.stats.steps > loose.stats.steps
    assert tight.stats.rejected > 0


def test_times_are_landed_on() -> None:
    sol = solve(REV, FEW, "srk", adaptive=True, seed=0)
    assert len(sol) == 51
    assert torch.allclose(sol.ts, torch.linspace(1, SCORE.sde.eps, 51, dtype=torch.float64))


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_halves_of_a_step_are_kept(row: Solver) -> None:
    """One adaptive step over the whole interval is two fixed steps on the same path."""
    score = gaussian(mild(), 4).double()
    x = score.sample(3, 1.0, seed=0).double()
    rev, noise = reverse(score), BrownianPath(1)
    once = solve(
        rev, x, row.name, adaptive=True, noise=noise, rtol=1e6, atol=1e6, save="last",
        options={"first_step": 1.0},
    )  # fmt: skip
    assert once.stats.steps == 1
    twice, whole = (solve(rev, x, row.name, steps=n, noise=noise).final for n in (2, 1))
    torch.testing.assert_close(once.final, twice, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(once.final, whole, atol=1e-3)


# The strong order, a first step of about the right length, the evaluations of an attempt, and
# where in the step the second one is.
ATTEMPTS = {"euler": (1.0, 0.03, 2, 0.5), "sosra": (1.5, 0.06, 8, 0.6923962376159507)}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_next_step_follows_from_the_order(name: str) -> None:
    """The local error is of order p + ½, so h grows by 0.8 error^(−1 / (p + ½)).

    After a step that was accepted the next one is no shorter.
    """
    order, first, evaluations, place = ATTEMPTS[name]
    score, tol, times = gaussian(mild(), 4).double(), 0.01, []

    def recorded(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return score(x, t)

    x = score.sample(1, 1.0, seed=0).double()
    rev, noise = reverse(score), BrownianPath(5)
    solve(
        rev.with_score(recorded), x, name, adaptive=True, noise=noise, rtol=tol, atol=tol,
        save="last", options={"first_step": first},
    )  # fmt: skip
    whole, halves = (
        solve(rev, x, name, ts=[1.0, 1.0 - first], steps=n, noise=noise).final for n in (1, 2)
    )
    scale = tol + tol * torch.maximum(x.abs(), halves.abs())
    error = float(((halves - whole) / scale).square().mean().sqrt())
    factor = 0.8 * error ** (-1 / (order + 0.5))
    assert 0.2 < factor < 3
    factor = max(factor, 1) if error <= 1 else factor
    start, second = times[evaluations : evaluations + 2]
    assert start == pytest.approx(1.0 - first if error <= 1 else 1.0)
    assert (start - second) / place == pytest.approx(factor * first, rel=1e-6)
