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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsde.analysis.references import Reference, refined
from diffsde.analysis.work_table import WorkPrecision, WorkRow
from diffsde.equations.dynamics import Dynamics, dynamics_of
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import BlowUpError, InputError, name_list
from diffsde.noise.brownian_path import BrownianPath
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.options import divided_options, options_in_words
from diffsde.solvers.registry import Solver
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.launch import divided
from diffsde.system.numbers import listed, sizes, whole_number
from diffsde.system.parameters import device_of, finest_dtype

__all__ = ["MEASURES", "work_precision"]

# The method of a reference, and its coarsest and finest steps; see `references`.
_FINE = {"ode": "dopri8", "sde": "srk"}
_FLOW_STEPS, _MOST_FLOW_STEPS = 8, 512
_FINER, _MOST_FINER = 4, 64  # times the steps of any method
_Measure = Callable[[Tensor, Tensor], float]
_PROBE = 12  # steps that measure the cost of a step where the registry does not state it


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
    denoise: bool = False,
    options: Mapping[str, Any] | None = None,
) -> WorkPrecision:
    """Measure error against work for several methods.

    The processes of one launch (`torchrun`, `accelerate launch`) divide the solves among
    themselves, and each returns the whole table, so each of them must call this.

    Args:
        problem: anything that `solve` takes.
        methods: names of solvers for that kind of problem.
        budgets: numbers of score evaluations. A fixed-step method takes as many steps as each
            of them pays for; a budget that pays for none gives no row, and two that pay for the
            same give one.
        x: initial states, (B, …); n draws from the prior of a reverse problem if left out.
        n: number of states to draw.
        seed: seed of these draws and of the Brownian path.
        clock: one clock, or several, in each of which every method runs.
        ts: start and end in t, for an equation that does not state them.
        tolerances: rtol and atol of the methods that choose their own steps; these methods
            have no budget.
        reference: (B, …), final states to compare with. If left out, they are solved for: a
            flow by steps of `dopri8`, even in log σ, and an SDE by `srk` in each clock, because
            a Brownian path belongs to a clock; both in float64 where the score takes it, with
            ever finer steps until the change by halving them is a tenth of the smallest error.
            Each row says how large that change was.
        measure: "strong" or "weak", see the module.
        repeats: number of solves for each row; its time is their median.
        denoise: compare the clean images that every solve, the reference too, ends with by one
            more evaluation. The budgets pay for it.
        options: settings of methods, such as {"last_order": 1}. Each goes to the methods that
            have it, and one must.

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
    clocks = [clock] if isinstance(clock, str) else listed(clock, "clock", "one or several")
    budgets = sizes(budgets, "budgets", "numbers of evaluations, each ≥ 1")
    _check_numbers(solvers, clocks, budgets, repeats)
    own_options = divided_options(options, [(solver, solver.adaptive) for solver in solvers])
    if reference is not None and kind == "sde" and measure == "strong":
        _check_one_clock(clocks)
    x = _states(problem, n, seed) if x is None else x
    benches = [
        _Bench(problem, x, seed, kind == "sde", ts, repeats, name, denoise) for name in clocks
    ]
    tasks = [
        (k, solver, {**trial, "options": own})
        for k, bench in enumerate(benches)
        for solver, own in zip(solvers, own_options, strict=True)
        for trial in _trials(solver, own, bench, budgets, tolerances)
    ]
    done = divided(tasks, lambda task: benches[task[0]].run(*task[1:]))
    pairs = list(zip(tasks, done, strict=True))
    runs = [[run for (k, *_), run in pairs if k == own] for own in range(len(benches))]
    exact = _references(benches, runs, reference, MEASURES[measure])
    rows = (
        run.row(name, one, MEASURES[measure])
        for name, part, one in zip(clocks, runs, exact, strict=True)
        for run in part
    )
    return WorkPrecision(tuple(rows), measure)


def _references(
    benches: Sequence[_Bench],
    runs: Sequence[list[_Run]],
    given: Tensor | None,
    measure: _Measure,
) -> list[Reference]:
    """What the runs in each clock are compared with."""
    if given is not None:
        return [Reference(given.cpu(), math.nan)] * len(benches)
    if benches[0].stochastic:  # a Brownian path belongs to a clock
        pairs = list(zip(benches, runs, strict=True))
        return divided(pairs, lambda pair: pair[0].reference(pair[1], measure))
    whole = [run for part in runs for run in part]
    return divided([benches[0]], lambda bench: bench.reference(whole, measure)) * len(benches)


def _check_numbers(
    solvers: Sequence[Solver], clocks: Sequence[str], budgets: Sequence[int], repeats: int
) -> None:
    if not (solvers and clocks and budgets):
        raise InputError(
            f"{len(solvers)} methods, {len(clocks)} clocks, budgets {list(budgets)}: expected at "
            "least one of each"
        )
    whole_number(repeats, "repeats")


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
    place = device_of(problem)
    return problem.sde.prior_sample((n, *problem.shape), seed=seed, device=place)


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
    denoise: bool

    def solve(self, method: str, **how: Any) -> Trajectory:
        noise = {"noise": BrownianPath(self.seed)} if self.stochastic else {}
        kept = {"save": "last", "denoise": self.denoise}
        given = {"ts": self.ts, "clock": self.clock, **kept, **noise, **how}
        return solve(self.problem, self.x, method, **given)

    def reference(self, runs: Sequence[_Run], measure: _Measure) -> Reference:
        """Final states of a fine solve, for these runs."""
        dynamics = dynamics_of(self.problem)
        fine = replace(self, x=self.x.double()) if _takes_double(dynamics, self.x) else self
        first, most = _FLOW_STEPS, _MOST_FLOW_STEPS
        if self.stochastic:
            steps = max((run.planned for run in runs), default=1)
            first, most = _FINER * steps, _MOST_FINER * steps
        elif dynamics.process is not None:
            fine = replace(fine, clock="log_sigma")

        def solve_with(steps: int) -> Tensor:
            how = {} if self.stochastic else {"adaptive": False}
            return fine.solve(_FINE[dynamics.kind], steps=steps, **how).final.cpu()

        finals = [run.final for run in runs if run.final is not None]
        return refined(solve_with, first, most, finals, measure)

    def run(self, solver: Solver, trial: dict[str, Any]) -> _Run:
        """Solve and time; to blow up on a coarse grid is a result as well."""
        planned, words = trial.get("steps", 1), options_in_words(trial["options"])
        try:
            sols = [self.solve(solver.name, **trial) for _ in range(self.repeats)]
        except BlowUpError as error:
            stats = error.trajectory.stats
            return _Run(solver.name, words, None, stats, stats.seconds, planned)
        seconds = statistics.median(sol.stats.seconds for sol in sols)
        return _Run(solver.name, words, sols[0].final.cpu(), sols[0].stats, seconds, planned)


class _Run(NamedTuple):
    """What one solve came to, of so many steps as planned; `final` is None if it blew up."""

    method: str
    options: str
    final: Tensor | None
    stats: Stats
    seconds: float
    planned: int

    def row(self, clock: str, exact: Reference, measure: _Measure) -> WorkRow:
        gap = math.inf if self.final is None else measure(self.final, exact.states)
        stats = self.stats
        return WorkRow(
            self.method, clock, stats.steps, stats.nfe, self.seconds, gap, exact.error, self.options
        )


def _takes_double(dynamics: Dynamics, x: Tensor) -> bool:
    """Whether the drift takes states in float64: some networks and some devices do not."""
    if finest_dtype(x.device) != torch.float64:
        return False
    if dynamics.interval is None or x.dtype == torch.float64:
        return x.dtype == torch.float64
    start = x[:1].double()
    t = torch.tensor(dynamics.interval[0], dtype=start.dtype, device=x.device)
    try:
        with torch.no_grad():
            dynamics.drift(start.flatten(1) if dynamics.flat else start, t)
    except RuntimeError:  # torch's word for two dtypes that do not go together
        return False
    return True


def _trials(
    solver: Solver,
    options: Mapping[str, Any],
    bench: _Bench,
    budgets: Sequence[int],
    tolerances: Sequence[float],
) -> list[dict[str, Any]]:
    """The settings of `solve` for each row of a method."""
    if solver.adaptive:
        return [{"rtol": tolerance, "atol": tolerance} for tolerance in tolerances]
    cost = solver.evaluations
    if cost is not None and not options:  # some of which change it
        cost *= dynamics_of(bench.problem).counted.evaluations  # of a network, for each call
    else:
        one = replace(bench, x=bench.x[:1], denoise=False)
        cost = one.solve(solver.name, steps=_PROBE, options=options).stats.nfe / _PROBE
    # The last denoising evaluation is one of the score, and costs what a call of it costs.
    last = dynamics_of(bench.problem).counted.evaluations if bench.denoise else 0
    counts = [int((budget - last) / cost) for budget in budgets]
    return [{"steps": count} for count in dict.fromkeys(counts) if count > 0]


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


MEASURES: dict[str, _Measure] = {"strong": _strong, "weak": _weak}
