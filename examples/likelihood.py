"""How many bits each digit costs: the likelihood of test images under the flow.

    python examples/likelihood.py --out likelihood.png

Half a minute on two cores. Expect sixteen digits from the cheapest to the dearest, thin ones
first, each with its bits/dim: 256 levels, uniform dequantisation, as `diffsde.likelihood` says.
"""

from __future__ import annotations

import argparse

import matplotlib.pyplot as plt
import torch

import diffsde
from diffsde.likelihood import dequantise, log_likelihood


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="likelihood.png")
    args = parser.parse_args()

    model = diffsde.load_pretrained("mnist").requires_grad_(False)
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    images = diffsde.load_images("mnist", train=False).batch(torch.arange(16))
    x = dequantise(images, seed=0)
    found = log_likelihood(flow, x, probes=2, seed=0, eps=1e-5, rtol=1e-3, atol=1e-3)
    bits, stderr = found.bits_per_dim, found.stderr / (28 * 28 * 0.693)

    figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
    for axis, i in zip(axes.flat, bits.argsort(), strict=True):
        axis.imshow(images[i, 0], cmap="gray")
        axis.set_title(f"{bits[i]:.2f} ± {stderr[i]:.2f}", fontsize=9)
        axis.axis("off")
    figure.suptitle(f"bits/dim of test digits, mean {bits.mean():.2f}; {found.nfe} evaluations")
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
