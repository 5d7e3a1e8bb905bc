"""Accuracy for each evaluation of the score
============================================

This example compares each method with a fine solve from the same noise and along the same Brownian
path, after 10, 20 and 40 evaluations of the score. Their number, the NFE, is what a solve costs.

::

    python examples/compare_solvers.py

Expect plots of the error against the number of evaluations, where lower left is better. Solvers
that were made for diffusion models beat the general ones when evaluations are few. The clock, which
says where the steps are, matters as much as the solver.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import diffsde
from diffsde.views import plot_work_precision

FLOW = ("euler", "midpoint", "heun2", "rk4", "dpmpp_2m", "unipc")
SDE = ("euler", "midpoint", "srk", "sde_dpmpp_2m")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[10, 20, 40])
    given = parser.parse_args()
    out, budgets = given.out, given.evaluations
    out.mkdir(parents=True, exist_ok=True)

    model = diffsde.load_pretrained("mnist")
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    rev = diffsde.ReverseSDE(model.sde, model, model.shape)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
    panels = (
        ("flow, even steps in t", flow, FLOW, "t"),
        ("flow, Karras's clock", flow, FLOW, "karras"),
        ("reverse SDE, Karras's clock", rev, SDE, "karras"),
    )
    for axis, (title, problem, methods, clock) in zip(axes, panels, strict=True):
        table = diffsde.work_precision(problem, methods, budgets, n=4, clock=clock)
        plot_work_precision(table, ax=axis)
        axis.set_title(title)
        axis.label_outer()
        print(f"{title}\n{table}\n")
    figure.savefig(out / "compare_solvers.png", dpi=110)


if __name__ == "__main__":
    main()
