"""Bits/dim of MNIST's test images under a shipped model, and the parts of this number.

    python tests/benchmarks/likelihood.py [--model mnist] [--images 256] [--eps 1e-5] [--budget 16]

The convention is that of `diffsde.analysis.likelihood`: 256 levels, uniform dequantisation,
x taken at t = ε, one Rademacher probe for each image, dopri5 in log σ; for a network that knows
levels, it is the levels with noise that stays within them. ε = 1e-5 is the tutorial's for
likelihoods: at 1e-3, where samples end, the noise alone costs 4.35 bits/dim. With --budget N, the
bits by noise level, the sources of error and the bits/dim by each convention are measured on N
images as well.
"""

from __future__ import annotations

import argparse
import time

import torch

import diffsde
from diffsde.analysis import noisy_levels
from diffsde.analysis.bits import bits_by_noise, error_budget
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.latents import round_trip
from diffsde.analysis.likelihood import dequantise


def test_images(n: int) -> torch.Tensor:
    """The first n test images as floats in [0, 1]."""
    return diffsde.load_images("mnist", train=False).batch(torch.arange(n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--eps", type=float, default=1e-5)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    model = diffsde.load_pretrained(args.model).requires_grad_(False)
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    images = test_images(args.images)
    began = time.perf_counter()
    settings = {"eps": args.eps, "rtol": args.tolerance, "atol": args.tolerance}
    convention = "truncated-normal" if model.pixel_levels else "uniform"
    found = evaluate_likelihood(
        flow, images, convention=convention, chunk=args.chunk, progress=True, **settings
    )
    seconds = time.perf_counter() - began
    print(f"{args.model}: {found}, {found.nfe} evaluations, {seconds:.0f} s")
    if args.budget:
        few = images[: args.budget]
        few = (
            noisy_levels(flow, few, eps=args.eps, seed=0)
            if model.pixel_levels
            else dequantise(few, seed=0)
        )
        parts = error_budget(flow, few, images=images[: args.budget], **settings)
        print(bits_by_noise(flow, few, **settings))
        print(", ".join(f"{name} {value:+.4f}" for name, value in parts.items()), "bits/dim")
        for tol in (1e-3, 1e-5):
            trip = round_trip(flow, few, rtol=tol, atol=tol)
            error = float(trip.error.mean())
            print(f"round trip at {tol:g}: rms {error:.2e}, {trip.nfe} evaluations")


if __name__ == "__main__":
    main()
