"""The overhead of `solve`: its time over that of the network, for every fixed-step solver.

    OMP_NUM_THREADS=1 python tests/benchmarks/overhead.py

The time of the network, the floor, is the number of evaluations times the median time of one
evaluation of the score at that batch size. Evaluations are timed before and after each solve,
so that any other load on the machine affects both. Whole trajectories are saved. Targets: 1.05
at batch 64, 1.15 at batch 1.

Without --steps, a solve takes 100 steps at batch 1 and 10 at batch 64, where one evaluation
costs forty times as much. Fewer steps make the ratio larger, if anything, because the setup of
a solve is spread over fewer of them. --steps 100 takes 100 steps at either batch size.

With --plain, the same methods are called through their libraries with the libraries' defaults,
and only their time over ours is printed, at batch 64 and few steps. torchsde's Brownian motion
becomes slower with every step, so few steps favour it; log_ode takes one step, because it draws
a Lévy area of 784 × 784 for each image.

With --cpu, CPU time is measured. With one thread, a busy machine then gives the same result as
a quiet one.

With --device, both are timed there, and evaluations several at a time, because the host need not
wait for one before it asks for the next. With --optimize, the network is the fastest that
`diffsde.optimize` finds. With --capture, the time is that of a further chunk of a captured solve,
over the same floor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torchdiffeq
import torchsde
from torch import Tensor

from diffsde import (
    ProbabilityFlow,
    ReverseSDE,
    ScoreModel,
    list_solvers,
    load_pretrained,
    optimize,
    solve,
)
from diffsde.solvers.registry import Solver
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.clock import seconds_on
from diffsde.system.parameters import device_of

TARGET = {64: 1.05, 1: 1.15}
LARGE = 8  # images; above this evaluations are long, and a few of them are enough
STEPS, ROUNDS, EVALUATIONS = {False: 100, True: 10}, {False: 3, True: 1}, {False: 60, True: 4}
PLAIN_STEPS = 5
SLOW = {"log_ode": 1}
FEW, MORE = 3, 6  # chunks of a captured solve: the first is solved, the second captured

Clock = Callable[[], float]


def timed(clock: Clock, work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def evaluation_times(model: ScoreModel, x: Tensor, clock: Clock, n: int) -> list[float]:
    """Seconds of evaluations of the score, at n times spread over the path."""
    moments = torch.linspace(1, model.sde.eps, n, device=x.device)
    with torch.no_grad():
        if x.device.type == "cpu":
            return [timed(clock, lambda t=t: model(x, t)) for t in moments]  # type: ignore[misc]
        return [timed(clock, lambda: [model(x, t) for t in moments]) / n]


def problem(model: ScoreModel, row: Solver) -> ReverseSDE | ProbabilityFlow:
    kind = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    return kind(model.sde, model, model.shape)


def ratio(
    model: ScoreModel, row: Solver, x: Tensor, steps: int, clock: Clock, *, capture: bool
) -> float:
    """Time of one solve over the floor, which is timed before and after it."""
    n = EVALUATIONS[len(x) > LARGE]
    singles = evaluation_times(model, x, clock, n)
    solved = partial(solve, problem(model, row), steps=steps, seed=0, adaptive=False)
    if capture:
        spent, nfe = further_chunk(partial(solved, method=row.name, capture=True), x, clock)
    else:
        started = clock()
        nfe = solved(x, row.name).stats.nfe
        spent = clock() - started
    singles += evaluation_times(model, x, clock, n)
    return spent / (nfe * statistics.median(singles))


def further_chunk(solved: partial[Trajectory], x: Tensor, clock: Clock) -> tuple[float, int]:
    """Seconds of one more chunk like x, and its evaluations."""
    spent = []
    for chunks in (FEW, MORE):
        starts = torch.cat([x] * chunks)
        started = clock()
        nfe = solved(x=starts, chunk=len(x)).stats.nfe
        spent.append(clock() - started)
    return (spent[1] - spent[0]) / (MORE - FEW), nfe


def plain_call(model: ScoreModel, row: Solver, x: Tensor, steps: int) -> Callable[[], object]:
    """The library's own call, with its defaults, on the same grid as `solve`."""
    own = problem(model, row)
    if row.family == "torchsde":
        own.sde_type = torchsde._core.methods.select(row.name, "ito").sde_type
        grid = own.times(steps)
        return lambda: torchsde.sdeint(
            own, x.flatten(1), grid, dt=float(grid[1]), method=row.name
        )  # fmt: skip
    grid = torch.linspace(model.sde.T, model.sde.eps, steps + 1)
    return lambda: torchdiffeq.odeint(own, x, grid, method=row.name)


def show_plain(model: ScoreModel, rows: list[Solver], clock: Clock) -> None:
    x = model.sde.prior_sample((64, *model.shape), seed=0)
    print("\ntime of the library's own call with its defaults over ours; batch 64")
    print(f"{'library':13}{'method':18}{'steps':>6}{'theirs / ours':>15}")
    for row in rows:
        if row.family not in ("torchsde", "torchdiffeq") or row.adaptive:
            continue
        steps = SLOW.get(row.name, PLAIN_STEPS)
        ours = timed(clock, lambda: solve(problem(model, row), x, row.name, steps=steps, seed=0))  # noqa: B023
        with torch.no_grad():
            plain = timed(clock, plain_call(model, row, x, steps))
        print(f"{row.family:13}{row.name:18}{steps:6}{plain / ours:15.2f}", flush=True)


def show_overhead(
    model: ScoreModel,
    rows: list[Solver],
    batch: int,
    steps: int,
    rounds: int,
    clock: Clock,
    *,
    capture: bool,
) -> None:
    x = model.sde.prior_sample((batch, *model.shape), seed=0, device=device_of(model))
    evaluation_times(model, x, clock, 3)
    print(
        f"\nbatch {batch}, {steps} steps, the median of {rounds} round(s), "
        f"{torch.get_num_threads()} thread(s)"
    )
    print(f"{'kind':5}{'method':18}{'time / floor':>13}  target {TARGET.get(batch, '–')}")
    found = []
    for row in rows:
        ratios = [ratio(model, row, x, steps, clock, capture=capture) for _ in range(rounds)]
        found.append(statistics.median(ratios))
        print(f"{row.kind:5}{row.name:18}{found[-1]:13.3f}", flush=True)
    print(f"{'':5}{'the largest':18}{max(found):13.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="steps of each solve; see above")
    parser.add_argument("--rounds", type=int, help="solves of each method; 3 at batch 1, 1 at 64")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--methods", nargs="+", help="only these methods")
    parser.add_argument("--cpu", action="store_true", help="measure CPU time")
    parser.add_argument(
        "--plain", action="store_true", help="only against the libraries' own calls"
    )
    parser.add_argument("--device", default="cpu", help="where to compute")
    parser.add_argument("--optimize", action="store_true", help="time the fastest network")
    parser.add_argument("--capture", action="store_true", help="time a chunk that is replayed")
    given = parser.parse_args()
    device = torch.device(given.device)
    clock = time.process_time if given.cpu else partial(seconds_on, device)
    model = load_pretrained("mnist").to(device)
    rows = [row for row in list_solvers() if row.one_step is not None]
    rows = [row for row in rows if not given.methods or row.name in given.methods]
    rows = [row for row in rows if not (given.capture and row.iterates)]
    if given.plain:
        show_plain(model, rows, clock)
        return
    for batch in given.batch:
        large = batch > LARGE
        steps, rounds = given.steps or STEPS[large], given.rounds or ROUNDS[large]
        timed_model = optimize(model, batch=batch).model if given.optimize else model
        show_overhead(timed_model, rows, batch, steps, rounds, clock, capture=given.capture)


if __name__ == "__main__":
    main()
