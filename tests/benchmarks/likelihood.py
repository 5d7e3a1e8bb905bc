"""Bits/dim of MNIST's test images under a shipped model, and what the number is made of.

    python tests/benchmarks/likelihood.py [--model mnist] [--images 256] [--budget 16]

The convention is that of `diffsde.likelihood`: 256 levels, uniform dequantisation, x taken at
t = ε, one Rademacher probe an image, dopri5 in log σ with rtol = atol = 1e-5.
"""

from __future__ import annotations

import argparse
import time

import torch

import diffsde
from diffsde.latents import round_trip
from diffsde.likelihood import dequantise, error_budget, evaluate_likelihood


def test_images(count: int) -> torch.Tensor:
    """The first test images as floats in [0, 1]."""
    return diffsde.load_images("mnist", train=False).batch(torch.arange(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--chunk", type=int, default=64)
    args = parser.parse_args()
    model = diffsde.load_pretrained(args.model).requires_grad_(False)
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    images = test_images(args.images)
    began = time.perf_counter()
    found = evaluate_likelihood(flow, images, chunk=args.chunk, progress=True)
    seconds = time.perf_counter() - began
    print(f"{args.model}: {found}, {found.nfe} evaluations, {seconds:.0f} s")
    few = dequantise(images[: args.budget], seed=0)
    if args.budget:
        parts = error_budget(flow, few)
        print(", ".join(f"{name} {value:+.4f}" for name, value in parts.items()), "bits/dim")
        for tol in (1e-3, 1e-5):
            trip = round_trip(flow, few, rtol=tol, atol=tol)
            error = float(trip.error.mean())
            print(f"round trip at {tol:g}: rms {error:.2e}, {trip.nfe} evaluations")


if __name__ == "__main__":
    main()
