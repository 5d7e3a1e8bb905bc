"""From one digit to another: along the arc between their latents, and back through the flow.

    python examples/interpolate.py --out interpolate.png

Half a minute on two cores. Expect three rows of nine digits, the test images at the ends; the
round trip's error is printed: what encoding and decoding lose.
"""

from __future__ import annotations

import argparse

import torch

import diffsde
from diffsde.latents import interpolate, round_trip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="interpolate.png")
    args = parser.parse_args()

    model = diffsde.load_pretrained("mnist")
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    digits = diffsde.load_images("mnist", train=False).batch(torch.tensor([0, 4, 11, 2, 18, 30]))

    for tolerance in (1e-2, 1e-3):
        trip = round_trip(flow, digits, rtol=tolerance, atol=tolerance)
        print(f"tolerance {tolerance:g}: rms {trip.error.mean():.1e}, {trip.nfe} evaluations")

    strip = interpolate(flow, digits[:3], digits[3:], frames=9, rtol=1e-3, atol=1e-3)
    rows = strip.ys.transpose(0, 1).flatten(0, 1)  # (pairs · frames, C, H, W)
    diffsde.plot_images(rows.clamp(0, 1), args.out, columns=9)


if __name__ == "__main__":
    main()
