"""Trajectories with known marginals, made without a solver, for the tests of views."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffsde.solvers.trajectory import Stats, Trajectory

SIGMA, EPS = 25.0, 1e-3


def marginal_std(ts: Tensor) -> Tensor:
    """s(t) of dx = σᵗ dw."""
    return torch.sqrt(torch.expm1(2 * math.log(SIGMA) * ts) / (2 * math.log(SIGMA)))


def images(n: int, channels: int = 1, side: int = 28) -> Tensor:
    """Discs of increasing size with values in [0, 1]: (n, channels, side, side)."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    radii = torch.linspace(0.2, 0.8, n)
    discs = torch.sigmoid(20 * (radii[:, None, None] - (x**2 + y**2).sqrt()))
    return torch.stack([discs * (1 - 0.3 * c) for c in range(channels)], 1)


def noisy(
    x0: Tensor, frames: int = 11, *, seed: int = 0, method: str = "em", flow: bool = False
) -> Trajectory:
    """A path from noise to x0 with the exact marginals x(t) ~ N(x0, s(t)²), t from 1 to ε.

    With `flow` it is the path of the probability flow for that point mass: the noise shrinks.
    """
    ts = torch.linspace(1, EPS, frames, dtype=torch.float64)
    std = marginal_std(ts)
    generator = torch.Generator().manual_seed(seed)
    extra = (frames, *[1] * x0.dim())
    if flow:
        noise = std.float().reshape(extra) * torch.randn(x0.shape, generator=generator)
    else:
        variance = std.flip(0).square()
        gains = torch.diff(variance, prepend=torch.zeros(1)).sqrt().float().reshape(extra)
        steps = gains * torch.randn(frames, *x0.shape, generator=generator)
        noise = steps.cumsum(0).flip(0)
    shape = tuple(x0.shape[1:])
    stats = Stats(nfe=frames - 1, steps=frames - 1, seconds=1.0)
    return Trajectory(
        ts, x0 + noise, method, stats, shape, SIGMA**ts, std, evaluations=torch.arange(frames)
    )
