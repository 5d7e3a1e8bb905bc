"""From one digit to another, through the noise
===============================================

The probability flow runs in both directions. It takes two test digits to their latents, which are
the noise that leads to them, and the points of the arc between these latents back to images.

::

    python examples/interpolate.py

Expect three rows of nine digits with a test digit at both ends, and a film of the same with more
points. A digit keeps its identity for a while and then changes it suddenly, because images between
two modes of the data are improbable. The script prints the error of encoding and decoding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import diffsde
from diffsde.analysis import interpolate, round_trip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    out = parser.parse_args().out

    model = diffsde.load_pretrained("mnist")
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    digits = diffsde.load_images("mnist", train=False).batch(torch.tensor([0, 4, 11, 2, 18, 30]))

    for tolerance in (1e-2, 1e-3):
        trip = round_trip(flow, digits, rtol=tolerance, atol=tolerance)
        print(f"tolerance {tolerance:g}: rms {trip.error.mean():.1e}, {trip.nfe} evaluations")

    strip = interpolate(flow, digits[:3], digits[3:], frames=33, rtol=1e-3, atol=1e-3)
    rows = strip.ys[::4].transpose(0, 1).flatten(0, 1)  # (pairs · 9, C, H, W)
    diffsde.plot_images(rows.clamp(0, 1), out / "interpolate.png", columns=9)
    diffsde.animate(
        strip, out / "interpolate.gif", title=False, shading="data", duration=3, ping_pong=True
    )


if __name__ == "__main__":
    main()
