"""Do adaptive steps pay for an SDE? Errors against evaluations, with fixed steps beside them.

    python tests/benchmarks/adaptive_sde.py --model mnist
    python tests/benchmarks/adaptive_sde.py --model mixture

Each row is a solve of the same samples along the same Brownian path. The error is that of the
median sample's end, since a few lie where the clusters part, against fixed steps of srk, eight
times as many as any row has; the evaluations are those of the sample that takes the most. "Gotta
go fast" (arXiv 2105.14080) is the pair of Euler and Heun with a relative tolerance of 0.01 to 0.1
and an absolute one of a grey level; here it is `heun`, whose error is that of halving a step.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import diffsde
from diffsde import BrownianPath, MixtureScore, ReverseSDE, Trajectory, solve

GREY = 1 / 256
FIXED = (20, 50, 100, 200)  # evaluations
TOLERANCES = (0.1, 0.05, 0.02, 0.01)
METHODS = {"heun": 2, "srk": 2, "sosra": 3, "sra3": 3, "shark": 2}


def problem(name: str, n: int) -> tuple[ReverseSDE, Tensor]:
    """The reverse SDE of a model, or of clusters in 32 dimensions, and states to begin with."""
    if name != "mixture":
        model = diffsde.load_pretrained(name)
        return model.reverse(), model.sde.prior_sample((n, *model.shape), seed=0)
    means = torch.stack([torch.full((32,), 0.5), torch.full((32,), -0.4)])
    score = MixtureScore(diffsde.VESDE(), means, [0.2, 0.3], [0.7, 0.3]).double()
    return ReverseSDE(score.sde, score, (32,)), score.sample(n, 1.0, seed=0).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mixture")
    parser.add_argument("--n", type=int, default=16)
    options = parser.parse_args()
    rev, x = problem(options.model, options.n)
    for clock in ("t", "log_sigma", "karras"):

        def run(method: str, **how: object) -> Trajectory:
            given = {"noise": BrownianPath(0), "clock": clock, "save": "last", **how}  # noqa: B023
            return solve(rev, x, method, **given)

        exact = run("srk", steps=8 * max(FIXED)).final
        print(f"\nclock {clock}\nmethod  steps            evaluations  error")
        for method, cost in METHODS.items():
            rows = [(f"{n // cost} fixed", run(method, steps=n // cost)) for n in FIXED]
            rows += [
                (f"rtol {tol:g}", run(method, adaptive=True, rtol=tol, atol=GREY))
                for tol in TOLERANCES
            ]
            for what, sol in rows:
                gaps = (sol.final - exact).flatten(1).square().mean(1).sqrt()
                error = float(gaps.median())
                print(f"{method:7} {what:16} {sol.stats.nfe:11}  {error:.2g}")


if __name__ == "__main__":
    main()
