r"""The parts of a reverse problem, each measured by a factor that must be 1.

On noised data x = a x₀ + s z, with b the problem's drift and c its diffusion,

    drift       ⟨f − b, score⟩ / (½ (1 + η²) g² ‖score‖²),
    diffusion   c / (η g),
    score       ⟨−z/s, score⟩ / ‖score‖².

The last holds because the true score is the mean of −z/s given x (Vincent, 2011), so it
finds a wrong sign or a wrong factor of a score of any quality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.analysis.check_marginals import Forward
from diffsde.noise.seeds import generator

__all__ = ["EXACT", "Parts", "measured_parts"]

EXACT = 0.01  # by how much an algebraic factor may be off: a generous allowance for rounding


@dataclass(frozen=True)
class Parts:
    """The factors at one time.

    Attributes:
        eta: η at this time.
        drift, diffusion, score: see the module.
        across: share of f − b that is not along the score.
        consistent: whether w = ½ (g² + c²), whatever c is.
        score_error: standard error of `score`.
    """

    eta: float
    drift: float
    across: float
    diffusion: float
    consistent: bool
    score: float
    score_error: float


def measured_parts(forward: Forward, t: Tensor, n: int, seed: int) -> Parts:
    """Take the problem apart on `n` noised samples at time t."""
    problem, (x, z, std) = forward.problem, _noised(forward, t, n, seed)
    sde, eta, moment = problem.sde, float(problem.eta_at(t)), t.to(x)
    score = problem.score_at(x, moment)
    weight, across = _weight(sde.drift(x, moment) - problem.drift(x, moment), score)
    g, c = float(sde.diffusion(t)), float(problem.diffusion(t))
    factor, error = _score_factor(score, z, std)
    return Parts(
        eta,
        weight / (0.5 * (1 + eta**2) * g**2),
        across,
        c / (eta * g) if eta else (math.nan if c == 0 else math.inf),
        abs(weight / (0.5 * (g**2 + c**2)) - 1) < EXACT,
        factor if forward.is_known_at(t) else math.nan,
        error,
    )


def _noised(forward: Forward, t: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """The first n samples under forward noise at time t, the noise z, and s."""
    scale, std = forward.scale_and_std(t)
    numbers = generator(seed, "check")
    z = torch.randn(forward.samples[:n].shape, generator=numbers, device="cpu").to(forward.samples)
    return scale.to(z) * forward.samples[:n] + std.to(z) * z, z, float(std)


def _weight(pull: Tensor, score: Tensor) -> tuple[float, float]:
    """w of f − b = w · score by least squares, and the share of f − b that it leaves."""
    pull, score = _exact(pull), _exact(score)
    weight = float((pull * score).sum()) / float(score.square().sum())
    return weight, float((pull - weight * score).norm() / pull.norm())


def _score_factor(score: Tensor, z: Tensor, std: float) -> tuple[float, float]:
    """⟨−z/s, score⟩ / ‖score‖² and its standard error; NaN where there is no noise."""
    if std == 0:
        return math.nan, 0.0
    z, score = _exact(z), _exact(score)
    each = (-z / std * score).sum(1)
    size = score.square().sum(1)
    factor = float(each.sum() / size.sum())
    error = float((each - factor * size).square().sum().sqrt() / size.sum())
    return factor, error


def _exact(x: Tensor) -> Tensor:
    """In float64, on the host: a device may have none."""
    return x.cpu().double()
