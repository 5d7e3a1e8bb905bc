"""How many bits each digit costs
=================================

The probability flow gives the likelihood of an image by the change of variables along its path. The
formula contains a divergence, which is estimated, so each figure has a standard error.

::

    python examples/likelihood.py

Expect sixteen test digits from the most probable to the least, thin ones first, each with its
bits for each pixel (bits/dim), for 256 levels with uniform dequantisation.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import diffsde
from diffsde.analysis import dequantise, log_likelihood


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    model = diffsde.load_pretrained("mnist").requires_grad_(False)
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    images = diffsde.load_images("mnist", train=False).batch(torch.arange(16))
    x = dequantise(images, seed=0)
    found = log_likelihood(flow, x, probes=2, seed=0, eps=1e-5, rtol=1e-3, atol=1e-3)
    bits, stderr = found.bits_per_dim, found.stderr / (images[0].numel() * math.log(2))

    figure, axes = plt.subplots(2, 8, figsize=(10, 3.2), layout="constrained")
    for axis, i in zip(axes.flat, bits.argsort(), strict=True):
        diffsde.plot_images(images[i : i + 1], ax=axis)
        axis.set_title(f"{bits[i]:.2f} ± {stderr[i]:.2f}", fontsize=9)
    figure.suptitle(f"bits/dim of test digits: {bits.mean():.2f} on average")
    figure.savefig(out / "likelihood.png", dpi=120)


if __name__ == "__main__":
    main()
