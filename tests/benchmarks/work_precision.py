"""Work against precision on the shipped network, for the main solvers of the flow and the SDE.

    OMP_NUM_THREADS=1 python tests/benchmarks/work_precision.py

Prints two tables with a row for each method and number of evaluations of the score. Errors are
measured against a fine solve, for the SDE on the same Brownian path in the same clock (strong).
Everything is seeded; two runs print the same, except for the seconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from diffsde import ProbabilityFlow, ReverseSDE, load_pretrained, work_precision

FLOW = ["euler", "midpoint", "heun2", "heun_edm", "ddim", "dpmpp_2m", "dpmpp_3m", "unipc"]
SDE = ["euler", "srk", "midpoint", "sosra", "ddim", "sde_dpmpp_2m", "sde_dpmpp_3m"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=4, help="images")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--clock", default="karras")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write flow.csv and sde.csv into this folder")
    given = parser.parse_args()
    model = load_pretrained("mnist")
    problems = {"flow": (ProbabilityFlow, FLOW), "sde": (ReverseSDE, SDE)}
    for name, (kind, methods) in problems.items():
        print(
            f"\n{name}, clock {given.clock}, {given.n} images, seed {given.seed}, evaluations "
            f"{given.budgets}; rms error of the final pixels against a fine solve",
            flush=True,
        )
        started = time.perf_counter()
        problem = kind(model.sde, model, model.shape)
        table = work_precision(
            problem, methods, given.budgets, n=given.n, seed=given.seed, clock=given.clock
        )
        print(table)
        print(f"({time.perf_counter() - started:.0f} s)")
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            table.save(given.out / f"{name}.csv")


if __name__ == "__main__":
    main()
