"""A forward SDE of one's own: the straight line of rectified flow, x(t) = (1 − t) x(0) + t z.

    python examples/own_sde.py --out own_sde.png

Seconds. Three functions make an SDE, `check` compares them with each other, and every solver and
clock works with it. Expect paths of the reverse SDE and of the flow from noise to two modes, the
histogram of both at the end, and the exact density.
"""

from __future__ import annotations

import argparse

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import diffsde
from diffsde.sde import expand


class StraightSDE(diffsde.SDE):
    """a(t) = 1 − t and s(t) = t; from f = (a′/a) x and g² = (s²)′ − 2 (a′/a) s²."""

    def __init__(self, T: float = 0.99, eps: float = 1e-3) -> None:
        super().__init__(T, eps)  # at t = 1 nothing of x(0) is left, and f is infinite

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -x / (1 - expand(t, x))

    def diffusion(self, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t)
        return torch.sqrt(2 * t / (1 - t))

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return (1 - expand(t, x0)) * x0, expand(t, x0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="own_sde.png")
    args = parser.parse_args()

    sde = StraightSDE()
    sde.check()
    score = diffsde.MixtureScore(sde, torch.tensor([[-1.0], [0.7]]), torch.tensor([0.15, 0.3]))
    x1 = sde.prior_sample((500, 1), seed=0)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for axis, make in zip(axes, (diffsde.ReverseSDE, diffsde.ProbabilityFlow), strict=False):
        problem = make(sde, score, (1,))
        method = "sde_dpmpp_2m" if problem.stochastic else "dpmpp_2m"
        sol = diffsde.solve(problem, x1, method, steps=60, clock="karras")
        axis.plot(sol.ts, sol.ys[:, :60, 0], lw=0.5, alpha=0.5, color="C0")
        axis.set(title=make.__name__, xlabel="t", xlim=(sde.T, 0))
        axes[2].hist(sol.final[:, 0], 60, density=True, orientation="horizontal", alpha=0.5)
    y = torch.linspace(-1.7, 2, 300)[:, None]
    axes[2].plot(score.log_prob(y, sde.eps).exp(), y[:, 0], "k", lw=1)
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
