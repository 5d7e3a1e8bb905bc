"""Draw the pictures of the README and the first page with the weights that ship.

    python docs/make_pictures.py

Run it again when the weights change. The gallery of examples is drawn whenever the site is built.
"""

from __future__ import annotations

from pathlib import Path

import torch

import diffsde

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    model = diffsde.load_pretrained("mnist")
    rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    flow = diffsde.ProbabilityFlow(model.sde, model, shape=model.shape)

    x1 = model.sde.prior_sample((6, *model.shape), seed=6)
    em = diffsde.solve(rev, x1, "euler", steps=500, seed=6, denoise=True)
    ode = diffsde.solve(flow, x1, "heun2", steps=100, clock="karras", denoise=True)
    # A hundred frames: the noise of each takes 16 kB, and the README should load quickly.
    diffsde.animate(em, PICTURES / "em.gif", fps=12.5, duration=8, zoom=4)
    diffsde.plot_paths([em, ode], PICTURES / "paths.png", envelope="both", scale="asinh")

    x1 = model.sde.prior_sample((64, *model.shape), seed=0)
    best = diffsde.solve(
        rev, x1, "sde_dpmpp_2m", steps=19, clock="karras", seed=0, denoise=True, save="last"
    )
    diffsde.plot_images(best.images(), PICTURES / "digits.png", columns=8)

    clothes = diffsde.load_pretrained("fashion-mnist")
    label = torch.arange(30) % 10  # a column for each class
    rev = diffsde.ReverseSDE(
        clothes.sde, diffsde.classifier_free(clothes, label, 1.0), shape=clothes.shape
    )
    x1 = clothes.sde.prior_sample((30, *clothes.shape), seed=0)
    best = diffsde.solve(
        rev, x1, "sde_dpmpp_2m", steps=19, clock="karras", seed=0, denoise=True, save="last"
    )
    diffsde.plot_images(best.images(), PICTURES / "fashion.png", columns=10)


if __name__ == "__main__":
    main()
