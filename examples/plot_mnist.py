"""Sample digits by the reverse SDE and by the flow, and look at their paths.

The counterpart of the Julia model zoo's `diffusion_plot.jl`. Run it in any folder:

    python plot_mnist.py

It writes images, films and path plots of both, in about a minute on two cores. Expect digits in
the images, and paths that fill the same band in both plots.
"""

from __future__ import annotations

import diffsde


def main() -> None:
    model = diffsde.load_pretrained("mnist")
    x1 = model.sde.prior_sample((5, *model.shape), seed=0)

    rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    em = diffsde.solve(rev, x1, "euler", steps=500, seed=0, denoise=True, progress=True)

    flow = diffsde.ProbabilityFlow(model.sde, model, shape=model.shape)
    ode = diffsde.solve(flow, x1, "heun2", steps=250, denoise=True, progress=True)

    for name, sol in (("em", em), ("ode", ode)):
        diffsde.plot_images(sol.images(), f"{name}_images.png")
        diffsde.animate(sol, f"{name}.gif")
        diffsde.plot_paths(sol, f"{name}_paths.png")


if __name__ == "__main__":
    main()
