"""Half a digit given, the other half drawn: the score conditioned on what is known.

    python examples/inpaint.py --out inpaint.png

Half a minute on two cores. Expect three rows: a test digit, what is known of it (the upper
half, with a little noise), and seven ways to complete it.
"""

from __future__ import annotations

import argparse

import torch

import diffsde
from diffsde.guidance import inpainting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="inpaint.png")
    args = parser.parse_args()

    model = diffsde.load_pretrained("mnist").requires_grad_(False)
    digits = diffsde.load_images("mnist", train=False).batch(torch.tensor([3, 15, 18]))
    mask = torch.zeros(model.shape)
    mask[:, :14] = 1

    rows = []
    for digit in digits:
        score = inpainting(model, model.sde, digit[None], mask, noise=0.05, iterations=2)
        rev = diffsde.ReverseSDE(model.sde, score, model.shape)
        x1 = model.sde.prior_sample((7, *model.shape), seed=0)
        sol = diffsde.solve(rev, x1, "sde_dpmpp_2m", steps=30, clock="karras", seed=0, save="last")
        rows += [digit, digit * mask, *sol.final.clamp(0, 1)]
    diffsde.plot_images(torch.stack(rows), args.out, columns=9)


if __name__ == "__main__":
    main()
