"""The error at the end of the flow by evaluations: our solvers and those of three libraries.

    pip install azula diffusers k-diffusion
    OMP_NUM_THREADS=1 python tests/benchmarks/quality.py

With the shipped network and the same noise, every solver follows the probability flow from
t = 1 to ε with 10, 20 and 40 evaluations of the score. The tables show the rms difference of
its final pixels from a fine solve. The three libraries run on Karras's schedule between the
same noise levels, our solvers in the clocks "karras" and "log_sigma". The last lines name the
best of each side for each number of evaluations.
"""

from __future__ import annotations

import argparse
import math

import torch
from libraries import installed
from torch import Tensor

from diffsde import (
    ProbabilityFlow,
    ScoreModel,
    SolveError,
    list_solvers,
    load_pretrained,
    solve,
)

CLOCKS = ("karras", "log_sigma")


def error(x: Tensor, exact: Tensor) -> float:
    return float((x.double() - exact.double()).square().mean().sqrt())


def ours(model: ScoreModel, x: Tensor, exact: Tensor, budgets: list[int]) -> dict[str, list[float]]:
    """The errors of every fixed-step solver in each clock; infinite if it blows up.

    Those that extend a polynomial also with a last step of order 1.
    """
    flow = ProbabilityFlow(model.sde, model, model.shape)

    def reached(name: str, steps: int, clock: str, options: dict[str, int]) -> float:
        how = {"steps": steps, "clock": clock, "save": "last", "options": options}
        try:
            return error(solve(flow, x, name, **how).final, exact)
        except SolveError:
            return math.inf

    rows = [row for row in list_solvers("ode") if not row.adaptive and row.evaluations is not None]
    return {
        f"{row.name}, {clock}" + ", last 1" * bool(options): [
            reached(row.name, int(n / row.evaluations), clock, options) for n in budgets
        ]
        for row in rows
        if row.evaluations is not None and row.evaluations <= min(budgets)
        for clock in CLOCKS
        for options in ([{}, {"last_order": 1}] if "last_order" in row.options else [{}])
    }


def theirs(
    model: ScoreModel, x: Tensor, exact: Tensor, budgets: list[int]
) -> dict[str, list[float]]:
    """The errors of the libraries' deterministic samplers."""
    found = {}
    for name, sampler in installed().items():
        if sampler.ours is not None and sampler.ours[0] == "sde":
            continue
        with torch.no_grad():
            found[name] = [error(sampler.run(model, x, n // sampler.cost), exact) for n in budgets]
    return found


def show(title: str, table: dict[str, list[float]], budgets: list[int]) -> list[str]:
    """Print the table, best at the middle budget first; return the best of each column."""
    print(f"\n{title:32}" + "".join(f"{n:>10}" for n in budgets))
    middle = len(budgets) // 2
    for name, errors in sorted(table.items(), key=lambda item: item[1][middle]):
        print(f"{name:32}" + "".join(f"{e:10.5f}" for e in errors))
    sound = {name: [math.inf if math.isnan(e) else e for e in row] for name, row in table.items()}
    return [min(sound, key=lambda name: sound[name][k]) for k in range(len(budgets))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="images")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40])
    given = parser.parse_args()
    model = load_pretrained("mnist")
    x = model.sde.prior_sample((given.n, *model.shape), seed=0)
    flow = ProbabilityFlow(model.sde, model, model.shape)
    fine = solve(flow, x, "dopri5", rtol=1e-5, atol=1e-5, clock="log_sigma", save="last")
    print(f"rms against a fine solve ({fine.stats.nfe} evaluations), {given.n} images", flush=True)
    own = ours(model, x, fine.final, given.budgets)
    own_best = show("diffsde", own, given.budgets)
    table = theirs(model, x, fine.final, given.budgets)
    if not table:
        return
    their_best = show("azula, diffusers, k-diffusion", table, given.budgets)
    heads = f"{'the best of ours':34}{'the best of theirs':36}{'ours / theirs':>13}"
    print(f"\n{'evaluations':>11}  {heads}")
    for k, n in enumerate(given.budgets):
        a, b = own[own_best[k]][k], table[their_best[k]][k]
        mine, other = f"{a:.5f} {own_best[k]}", f"{b:.5f} {their_best[k]}"
        print(f"{n:>11}  {mine:34}{other:36}{a / b:13.2f}")


if __name__ == "__main__":
    main()
