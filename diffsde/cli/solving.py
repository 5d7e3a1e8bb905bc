r"""Several solves from one noise; what stops one of them does not lose the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import diffsde
from diffsde.cli.picking import Plan
from diffsde.cli.report import Report
from diffsde.errors import SolveError
from diffsde.scores.usual import STEPS

__all__ = ["Run", "Solved", "solve_all"]


class Run(NamedTuple):
    """A plan and the path that came of it, whole or in part."""

    plan: Plan
    sol: diffsde.Trajectory

    @property
    def name(self) -> str:
        return self.plan.name

    def facts(self) -> dict[str, Any]:
        """What `--json` says of it."""
        return {
            "method": self.sol.method,
            "kind": self.plan.solver.kind,
            "stats": asdict(self.sol.stats),
        }


class Solved(NamedTuple):
    """The runs, and what stopped the last one early, to be raised once they are written."""

    runs: list[Run]
    stopped: BaseException | None

    @property
    def sols(self) -> list[diffsde.Trajectory]:
        return [run.sol for run in self.runs]

    def tell(self, report: Report, n: int) -> None:
        """Say what each solve cost, and how far the last of n images came if it was stopped."""
        for run in self.runs:
            nfe = run.sol.stats.nfe
            report.say(f"{run.name}: {nfe} evaluations of the score for each image")
        if self.stopped is not None and self.runs:
            words = _how_far(self.runs[-1], n)
            report.say(words, stopped=words)


def solve_all(
    plans: Sequence[Plan],
    n: int,
    *,
    seed: int,
    steps: int | None,
    whole: bool,
    progress: bool,
    **settings: Any,
) -> Solved:
    """Solve each plan from the same noise, until one is stopped by Ctrl-C or by its numbers.

    Several processes divide the samples among themselves, and each has all paths in the end; of
    a solve that is stopped, it has those of its own samples.

    Args:
        plans: what to solve, and by what.
        n: the number of samples.
        seed: of all noise.
        steps: of each, or the usual number; an adaptive solver needs none.
        whole: keep the whole path, not only its end.
        progress: show a progress bar for each, with its name.
        settings: what `solve` takes beside.
    """
    runs: list[Run] = []
    for plan in plans:
        bar: Any = plan.name if progress else False
        try:
            sol = _solved(
                plan,
                n,
                seed,
                steps=STEPS if steps is None and not plan.adaptive else steps,
                save=_kept(plan, steps) if whole else "last",
                progress=bar,
                options=plan.options,
                **{**plan.tolerances, **settings},
            )
        except (KeyboardInterrupt, SolveError) as error:
            part = getattr(error, "trajectory", None)
            if part is not None and part.stats.steps:
                runs.append(Run(plan, part.cpu()))
            return Solved(runs, error)
        runs.append(Run(plan, sol))
    return Solved(runs, None)


def _solved(plan: Plan, n: int, seed: int, **settings: Any) -> diffsde.Trajectory:
    """The paths of all samples, on the CPU, of which each process solves some in a row."""
    from diffsde.equations.rows import only_part
    from diffsde.solvers.chunks import joined
    from diffsde.system.launch import from_each, process_count, process_number
    from diffsde.system.parameters import device_of

    problem, number, count = plan.problem, process_number(), process_count()
    first, end = n * number // count, n * (number + 1) // count
    own = None
    if first < end:
        x = problem.sde.prior_sample(
            (end - first, *problem.shape), seed=seed, first=first, device=device_of(problem)
        )
        with only_part(first, end, n):
            sol = diffsde.solve(problem, x, plan.solver.name, seed=seed, first=first, **settings)
        own = sol.cpu()
    parts = [part for part in from_each(own) if part is not None]
    return parts[0] if len(parts) == 1 else joined(parts)


def _kept(plan: Plan, steps: int | None) -> str | int:
    """Which states of the path to keep: a hundred, where the steps are the solver's own."""
    return 100 if plan.adaptive and steps is None else "all"


def _how_far(run: Run, n: int) -> str:
    sol = run.sol
    if sol.ys.shape[1] < n:
        return f"{run.name} was stopped: {sol.ys.shape[1]} of {n} images are finished"
    return f"{run.name} was stopped at t = {float(sol.ts[-1]):.3g}: this is the path so far"
