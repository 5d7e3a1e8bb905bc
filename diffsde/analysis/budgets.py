r"""Work against precision: the accuracy that each method reaches with N score evaluations.

Every method starts from the same states, on the same Brownian path if there is noise, and
has the same budget of N score evaluations, so it takes N / (evaluations of a step) steps. Its
final states x are compared with those of a fine solve, x*:

    strong    √ mean |x − x*|²                     path by path, over samples and coordinates,
    weak      √ mean (Δ mean)² + (Δ std)²          law by law, over coordinates.

The weak error is the Wasserstein distance between Gaussians fitted to each coordinate. For a
flow the strong error is that of the integration; for an SDE it needs the shared path.

The idea is that of `WorkPrecisionSet` in DifferentialEquations.jl (Rackauckas, Nie, 2017).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.analysis.work_table import WorkPrecision, WorkRow
from diffsde.equations.dynamics import dynamics_of
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import BlowUpError, InputError, name_list
from diffsde.noise.brownian_path import BrownianPath
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.registry import Solver
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Trajectory

__all__ = ["MEASURES", "work_precision"]

_FINER = 4  # an SDE's reference takes this many times the steps of any method
# Method and tolerance of a flow's reference. In float32 a tighter one would only add rounding.
_FINE = {torch.float64: ("dopri8", 1e-10)}
_FINE_ELSE = ("dopri5", 1e-5)
_PROBE = 12  # steps that measure the cost of a step if the registry does not state it


def work_precision(
    problem: Any,
    methods: Sequence[str],
    budgets: Sequence[int] = (10, 20, 40, 80),
    *,
    x: Tensor | None = None,
    n: int = 16,
    seed: int = 0,
    clock: str | Sequence[str] = "t",
    ts: Sequence[float] | None = None,
    tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
    reference: Tensor | None = None,
    measure: str = "strong",
    repeats: int = 1,
) -> WorkPrecision:
    """Measure error against work for several methods.

    Args:
        problem: anything that `solve` takes.
        methods: names of solvers for that kind of problem.
        budgets: numbers of score evaluations. A fixed-step method takes as many steps as each
            of them pays for; a budget that pays for none gives no row.
        x: initial states, (B, …); n draws from the prior of a reverse problem if left out.
        n: number of states to draw.
        seed: seed of these draws and of the Brownian path.
        clock: one clock, or several, in each of which every method runs.
        ts: start and end in t, for an equation that does not state them.
        tolerances: rtol and atol of the methods that choose their own steps; these methods
            have no budget.
        reference: (B, …), final states to compare with. If left out, they are solved for: an
            SDE by `srk` with four times as many steps as any method takes, in each clock,
            because a Brownian path belongs to a clock; a flow by `dopri5` to 1e-5, or by
            `dopri8` to 1e-10 if states and score are in float64.
        measure: "strong" or "weak", see the module.
        repeats: number of solves for each row; its time is their median.

    Returns:
        The table, clock by clock and method by method, in the order given.

    Raises:
        InputError: an argument does not fit; `UnknownSolverError` for a method's name.

        table = diffsde.work_precision(flow, ["heun2", "dpmpp_2m"], [10, 20, 40], clock="karras")
        print(table)
        plot_work_precision(table, "flow.png")
    """
    if measure not in MEASURES:
        raise InputError(f"measure = {measure!r}: {name_list(measure, MEASURES)}")
    kind = dynamics_of(problem).kind
    solvers = [find_solver(name, kind) for name in methods]
    clocks = [clock] if isinstance(clock, str) else list(clock)
    _check_numbers(solvers, clocks, budgets, repeats)
    if reference is not None and kind == "sde" and measure == "strong":
        _check_one_clock(clocks)
    x = _states(problem, n, seed) if x is None else x
    rows: list[WorkRow] = []
    for name in clocks:
        bench = _Bench(problem, x, seed, kind == "sde", ts, repeats, name)
        trials = [(s, trial) for s in solvers for trial in _trials(s, bench, budgets, tolerances)]
        exact = reference
        if exact is None:
            most = max((trial.get("steps", 0) for _, trial in trials), default=0)
            exact = bench.reference(most or max(budgets))
        rows += [bench.row(solver, trial, exact, measure) for solver, trial in trials]
    return WorkPrecision(tuple(rows), measure)


def _check_numbers(
    solvers: Sequence[Solver], clocks: Sequence[str], budgets: Sequence[int], repeats: int
) -> None:
    if not (solvers and clocks and budgets and min(budgets) >= 1 and repeats >= 1):
        raise InputError(
            f"{len(solvers)} methods, {len(clocks)} clocks, budgets {list(budgets)}, repeats = "
            f"{repeats}: expected at least one of each, and budgets and repeats ≥ 1"
        )


def _check_one_clock(clocks: Sequence[str]) -> None:
    if len(clocks) > 1:
        raise InputError(
            "one reference for several clocks: a Brownian path belongs to a clock. Leave "
            "reference out, give one clock, or measure='weak'"
        )


def _states(problem: Any, n: int, seed: int) -> Tensor:
    if not isinstance(problem, ReverseProblem):
        raise InputError(
            f"x: a {type(problem).__name__} has no prior to draw from; give initial states"
        )
    return problem.sde.prior_sample((n, *problem.shape), seed=seed)


@dataclass(frozen=True)
class _Bench:
    """The settings that all solves in one clock share."""

    problem: Any
    x: Tensor
    seed: int
    stochastic: bool
    ts: Sequence[float] | None
    repeats: int
    clock: str

    def solve(self, method: str, **how: Any) -> Trajectory:
        noise = {"noise": BrownianPath(self.seed)} if self.stochastic else {}
        given = {"ts": self.ts, "clock": self.clock, "save": "last", **noise, **how}
        return solve(self.problem, self.x, method, **given)

    def reference(self, steps: int) -> Tensor:
        """Final states of a fine solve."""
        if self.stochastic:
            return self.solve("srk", steps=_FINER * steps).final
        parameters = self.problem.parameters() if isinstance(self.problem, nn.Module) else ()
        coarsest = next((p.dtype for p in parameters), self.x.dtype)
        method, tight = _FINE.get(coarsest, _FINE_ELSE)
        return self.solve(method, rtol=tight, atol=tight).final

    def row(self, solver: Solver, trial: dict[str, Any], exact: Tensor, measure: str) -> WorkRow:
        """Solve, time and compare."""
        try:
            sols = [self.solve(solver.name, **trial) for _ in range(self.repeats)]
        except BlowUpError as error:
            # To blow up on a coarse grid is a result as well.
            stats, gap = error.trajectory.stats, math.inf
            seconds = stats.seconds
        else:
            stats, gap = sols[0].stats, MEASURES[measure](sols[0].final, exact)
            seconds = statistics.median(sol.stats.seconds for sol in sols)
        return WorkRow(solver.name, self.clock, stats.steps, stats.nfe, seconds, gap)


def _trials(
    solver: Solver, bench: _Bench, budgets: Sequence[int], tolerances: Sequence[float]
) -> list[dict[str, Any]]:
    """The settings of `solve` for each row of a method."""
    if solver.adaptive:
        return [{"rtol": tolerance, "atol": tolerance} for tolerance in tolerances]
    cost = solver.evaluations
    if cost is not None:
        cost *= dynamics_of(bench.problem).counted.evaluations  # of a network, for each call
    else:
        one = replace(bench, x=bench.x[:1])
        cost = one.solve(solver.name, steps=_PROBE).stats.nfe / _PROBE
    return [{"steps": int(budget / cost)} for budget in budgets if budget >= cost]


def _strong(x: Tensor, exact: Tensor) -> float:
    _check_shapes(x, exact, x.shape)
    return float((x.double() - exact.double()).square().mean().sqrt())


def _weak(x: Tensor, exact: Tensor) -> float:
    _check_shapes(x, exact, (len(exact), *x.shape[1:]))
    x, exact = x.double(), exact.double()
    gaps = (x.mean(0) - exact.mean(0)), (x.std(0) - exact.std(0))
    return float(sum(gap.square() for gap in gaps).mean().sqrt())  # type: ignore[union-attr]


def _check_shapes(x: Tensor, exact: Tensor, wanted: Sequence[int]) -> None:
    if exact.shape != torch.Size(wanted):
        raise InputError(
            f"reference has shape {tuple(exact.shape)}: expected {tuple(wanted)} to compare with "
            f"final states of shape {tuple(x.shape)}"
        )


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {"strong": _strong, "weak": _weak}
