"""Half a digit given, the other half drawn
===========================================

The score of images whose upper half is known is again a score, so every solver takes it, and no
training is needed.

::

    python examples/inpaint.py

Expect three rows, each with a test digit, its known half (the other half is grey), and seven ways
to complete it. If the known half fits several digits, the completions are different digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import diffsde
from diffsde.scores import inpainting

GREY = 0.45


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    out = parser.parse_args().out

    model = diffsde.load_pretrained("mnist").requires_grad_(False)
    digits = diffsde.load_images("mnist", train=False).batch(torch.tensor([3, 15, 18]))
    known = torch.zeros(model.shape)
    known[:, :14] = 1
    x1 = model.sde.prior_sample((7, *model.shape), seed=0)

    rows = []
    for digit in digits:
        score = inpainting(model, model.sde, digit[None], known, noise=0.05, iterations=2)
        rev = diffsde.ReverseSDE(model.sde, score, model.shape)
        sol = diffsde.solve(
            rev, x1, "sde_dpmpp_2m", steps=30, clock="karras", seed=0, denoise=True, save="last"
        )
        rows += [digit, digit * known + GREY * (1 - known), *sol.images()]
    diffsde.plot_images(torch.stack(rows), out / "inpaint.png", columns=9)


if __name__ == "__main__":
    main()
