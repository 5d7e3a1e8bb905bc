"""What `solve` costs beside the network: time over the floor, for every fixed-step solver.

    OMP_NUM_THREADS=1 python tests/benchmarks/overhead.py

The floor is the number of evaluations times the median time of one evaluation of the score
at that batch, timed around each solve, so that whatever else the machine does falls on
both. Whole trajectories are saved. Targets: 1.05 at batch 64, 1.15 at batch 1.

With --plain, also the same method called through torchsde with its defaults, in seconds a
step over ours. Its Brownian motion grows slower with every step, so few steps flatter it.

With --cpu, CPU seconds instead of seconds: on a busy machine they are those of a quiet one,
if there is one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchsde
from torch import Tensor

from diffsde import ProbabilityFlow, ReverseSDE, ScoreModel, list_solvers, load_pretrained, solve
from diffsde.solvers import Solver

TARGET = {64: 1.05, 1: 1.15}
PLAIN_STEPS = 5
SLOW = {"log_ode": 1}  # draws a Lévy area of 784 × 784 for each sample and step

Clock = Callable[[], float]


def timed(clock: Clock, work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def evaluation_times(model: ScoreModel, x: Tensor, clock: Clock, count: int) -> list[float]:
    """Seconds of single evaluations of the score, at times spread over the path."""
    moments = torch.linspace(1, model.sde.eps, count)
    with torch.no_grad():
        return [timed(clock, lambda t=t: model(x, t)) for t in moments]  # type: ignore[misc]


def problem(model: ScoreModel, row: Solver) -> ReverseSDE | ProbabilityFlow:
    kind = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    return kind(model.sde, model, model.shape)


def ratio(model: ScoreModel, row: Solver, x: Tensor, steps: int, clock: Clock) -> float:
    """Time of one solve over the floor, which is timed before it and after."""
    count = 10 if len(x) > 1 else 100
    singles = evaluation_times(model, x, clock, count)
    started = clock()
    sol = solve(problem(model, row), x, row.name, steps=steps, seed=0, adaptive=False)
    spent = clock() - started
    singles += evaluation_times(model, x, clock, count)
    return spent / (sol.stats.nfe * statistics.median(singles))


def against_torchsde(model: ScoreModel, row: Solver, x: Tensor, clock: Clock) -> float:
    """Seconds a step of torchsde's own call, over ours."""
    steps = SLOW.get(row.name, PLAIN_STEPS)
    rev = problem(model, row)
    rev.sde_type = torchsde._core.methods.select(row.name, "ito").sde_type
    ours = timed(clock, lambda: solve(rev, x, row.name, steps=steps, seed=0))
    grid = rev.times(steps)
    with torch.no_grad():
        plain = timed(
            clock,
            lambda: torchsde.sdeint(
                rev, x.flatten(1), grid, dt=float(grid[1]), method=row.name
            ),
        )  # fmt: skip
    return plain / ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds instead of seconds")
    parser.add_argument("--plain", action="store_true", help="also torchsde's own call, batch 64")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    model = load_pretrained("mnist")
    rows = [row for row in list_solvers() if row.one_step is not None]
    rows = [row for row in rows if not given.methods or row.name in given.methods]
    for batch in given.batch:
        x = model.sde.prior_sample((batch, *model.shape), seed=0)
        evaluation_times(model, x, clock, 3)
        print(f"\nbatch {batch}, {given.steps} steps, {torch.get_num_threads()} thread(s)")
        print(f"{'kind':5}{'method':18}{'time / floor':>13}  target {TARGET.get(batch, '–')}")
        found = []
        for row in rows:
            found.append(
                statistics.median(
                    ratio(model, row, x, given.steps, clock) for _ in range(given.rounds)
                )
            )
            print(f"{row.kind:5}{row.name:18}{found[-1]:13.3f}", flush=True)
        print(f"{'':5}{'the largest':18}{max(found):13.3f}")
    if given.plain:
        x = model.sde.prior_sample((64, *model.shape), seed=0)
        print("\nseconds a step of torchsde.sdeint with its defaults, over ours, batch 64")
        for row in rows:
            if row.family == "torchsde":
                print(f"{row.name:18}{against_torchsde(model, row, x, clock):8.1f}", flush=True)


if __name__ == "__main__":
    main()
