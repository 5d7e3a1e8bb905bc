"""How near the end of the flow a number of evaluations leads: ours and three libraries'.

    pip install azula diffusers k-diffusion
    OMP_NUM_THREADS=1 python tests/benchmarks/quality.py

The shipped network; from one noise, every solver follows the probability flow from t = 1 to
ε with 10, 20 and 40 evaluations of the score; shown is the rms over pixels of its final
states against a fine solve. The three libraries run on Karras's schedule with the same ends;
ours by name, in the clocks "karras" and "log_sigma".
"""

from __future__ import annotations

import argparse
import math

import torch
from libraries import installed
from torch import Tensor

from diffsde import ProbabilityFlow, ScoreModel, list_solvers, load_pretrained, solve

CLOCKS = ("karras", "log_sigma")


def error(x: Tensor, exact: Tensor) -> float:
    return float((x.double() - exact.double()).square().mean().sqrt())


def ours(model: ScoreModel, x: Tensor, exact: Tensor, budgets: list[int]) -> dict[str, list[float]]:
    """The errors of every fixed-step solver in each clock."""
    flow = ProbabilityFlow(model.sde, model, model.shape)
    found: dict[str, list[float]] = {}
    for row in list_solvers("ode"):
        if row.adaptive or row.evaluations is None or row.evaluations > min(budgets):
            continue
        for clock in CLOCKS:
            found[f"{row.name}, {clock}"] = [
                error(
                    solve(
                        flow, x, row.name, steps=int(n / row.evaluations), clock=clock, save="last"
                    ).final,
                    exact,
                )
                for n in budgets
            ]
    return found


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


def show(title: str, table: dict[str, list[float]], budgets: list[int]) -> list[float]:
    """Print, best first at the middle budget; the best of each column."""
    print(f"\n{title:32}" + "".join(f"{n:>10}" for n in budgets))
    middle = len(budgets) // 2
    for name, errors in sorted(table.items(), key=lambda item: item[1][middle]):
        print(f"{name:32}" + "".join(f"{e:10.4f}" for e in errors))
    best = [
        min(e for e in column if not math.isnan(e)) for column in zip(*table.values(), strict=True)
    ]
    print(f"{'the best':32}" + "".join(f"{e:10.4f}" for e in best))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="images")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40])
    given = parser.parse_args()
    model = load_pretrained("mnist")
    x = model.sde.prior_sample((given.n, *model.shape), seed=0)
    flow = ProbabilityFlow(model.sde, model, model.shape)
    fine = solve(flow, x, "dopri5", rtol=1e-5, atol=1e-5, clock="log_sigma", save="last")
    print(f"rms against a fine solve ({fine.stats.nfe} evaluations), {given.n} images")
    own = show("diffsde", ours(model, x, fine.final, given.budgets), given.budgets)
    table = theirs(model, x, fine.final, given.budgets)
    if table:
        other = show("azula, diffusers, k-diffusion", table, given.budgets)
        ratios = "  ".join(f"{a / b:.2f}" for a, b in zip(own, other, strict=True))
        print(f"\nours over theirs, best against best: {ratios}")


if __name__ == "__main__":
    main()
