"""A forward SDE of your own
============================

Three functions define an SDE, ``check`` verifies that they agree, and every solver, clock and view
works with it. Here it is the straight line of rectified flow, x(t) = (1 − t) x(0) + t z::

    python examples/own_sde.py

Expect the paths of the reverse SDE and of the flow from noise to two modes, and histograms of
both ends with the exact density of the data.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import diffsde
from diffsde.equations import expand


class StraightSDE(diffsde.SDE):
    """a = 1 − t and s = t, so f = (a′/a) x and g² = (s²)′ − 2 (a′/a) s²."""

    def drift(self, x, t):
        return -x / (1 - expand(t, x))

    def diffusion(self, t):
        return (2 * torch.as_tensor(t) / (1 - t)).sqrt()

    def marginal_prob(self, x0, t):
        return (1 - expand(t, x0)) * x0, expand(t, x0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    (out := parser.parse_args().out).mkdir(parents=True, exist_ok=True)
    sde = StraightSDE(T=0.99, eps=1e-3)  # f is infinite at t = 1
    sde.check()
    score = diffsde.MixtureScore(sde, torch.tensor([[-1.0], [0.7]]), torch.tensor([0.15, 0.3]))
    x1 = sde.prior_sample((4000, 1), seed=0)
    solvers = {"sde_dpmpp_2m": diffsde.ReverseSDE, "dpmpp_2m": diffsde.ProbabilityFlow}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    for axis, (method, make) in zip(axes, solvers.items(), strict=False):
        sol = diffsde.solve(make(sde, score, (1,)), x1, method, steps=60, clock="karras", seed=0)
        diffsde.plot_paths(sol, envelope=None, ax=axis)
        axis.get_legend().remove()
        axis.set_title(make.__name__)
        axes[2].hist(sol.final[:, 0], 60, density=True, orientation="horizontal", histtype="step")
    y = torch.linspace(-1.7, 2, 300)[:, None]
    axes[2].plot(score.log_prob(y, sde.eps).exp(), y, "k", lw=0.8)
    axes[2].legend(("ReverseSDE", "ProbabilityFlow", "exact"), title="density at the end")
    figure.savefig(out / "own_sde.png", dpi=120)


if __name__ == "__main__":
    main()
