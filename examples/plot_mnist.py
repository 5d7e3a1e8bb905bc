"""From noise to digits, by the reverse SDE and by the flow
===========================================================

This example is the counterpart of the Julia model zoo's ``diffusion_plot.jl``. It draws five digits
from the same noise by Euler–Maruyama and by the probability flow, and the path of every pixel.

::

    python examples/plot_mnist.py

Expect digits and a film from each, and paths that fill the same band. Those of the SDE are jagged,
and those of the flow are smooth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import diffsde


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    out = parser.parse_args().out

    model = diffsde.load_pretrained("mnist")
    x1 = model.sde.prior_sample((5, *model.shape), seed=0)

    rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    em = diffsde.solve(rev, x1, "euler", steps=500, seed=0, denoise=True)

    flow = diffsde.ProbabilityFlow(model.sde, model, shape=model.shape)
    ode = diffsde.solve(flow, x1, "heun2", steps=100, clock="karras", denoise=True)

    for name, sol in (("em", em), ("ode", ode)):
        diffsde.plot_images(sol.images(), out / f"{name}_images.png")
        diffsde.animate(sol, out / f"{name}.gif")
        diffsde.plot_paths(sol, out / f"{name}_paths.png")


if __name__ == "__main__":
    main()
