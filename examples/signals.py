"""Signals: noise becomes sine waves
=================================

Nothing depends on images: a sample may be a signal of shape (C, L), and films, plots and the
explorer then draw lines. Here the data are 500 sine waves of 64 values, with a little noise, so
their score is known exactly; a network of your own takes its place.

::

    python examples/signals.py

Expect a film of twelve signals beside their denoised estimates, which know the wave long before one
sees it in the noise, and a strip with the same signals at a few times.
"""

import argparse
import math
from pathlib import Path

import torch

import diffsde


def sine_waves(n: int, length: int = 64) -> torch.Tensor:
    """Waves of random frequency, phase and amplitude: (n, 1, length)."""
    frequency, phase, amplitude = torch.rand(3, n, 1, 1, generator=torch.manual_seed(0))
    turns = (1 + 3 * frequency) * torch.linspace(0, 1, length) + phase
    return (0.5 + 0.5 * amplitude) * torch.sin(2 * math.pi * turns)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    (out := parser.parse_args().out).mkdir(parents=True, exist_ok=True)
    sde = diffsde.VESDE(sigma=25.0)
    score = diffsde.MixtureScore(sde, sine_waves(500), 0.02)
    rev = diffsde.ReverseSDE(sde, score, score.shape)
    x1 = sde.prior_sample((12, *score.shape), seed=0)
    sol = diffsde.solve(
        rev, x1, "euler", steps=150, clock="karras", seed=0, estimates=True, denoise=True
    )
    diffsde.animate(sol, out / "signals.gif")
    diffsde.film_strip(sol, out / "signals_strip.png", denoised=True, n=3)


if __name__ == "__main__":
    main()
