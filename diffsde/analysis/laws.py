r"""Weak errors: how far the law of samples is from a law that is known exactly.

A mixture of Gaussians, and so its marginal p_t, is known along every direction θ: θ·x is a mixture
of Gaussians on a line. Over a number of random directions, the means of

    moments        √( (Δ mean)² + (Δ std)² ),
    ks             the largest difference of the distribution functions (Kolmogorov, Smirnov),
    wasserstein    ∫ |difference of the quantiles|, whose mean is the sliced Wasserstein distance

are all 0 for the law itself and about 1 / √n for n samples of it, so they are to be read beside
those of exact samples.

Source: Bonneel et al., J. Math. Imaging Vis. 51 (2015), 22–45 (sliced Wasserstein distance).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.noise.seeds import generator
from diffsde.scores.exact import MixtureScore
from diffsde.system.host import on_host

__all__ = ["LawErrors", "law_errors"]

_DIRECTIONS = 64
_GRID = 4001  # points at which a distribution function is inverted
_FAR = 8.0  # standard deviations beyond which nothing lies


class LawErrors(NamedTuple):
    """Distances of a law, in units of the data but for `ks`, which is a probability."""

    moments: float
    ks: float
    wasserstein: float


def law_errors(x: Tensor, score: MixtureScore, t: float) -> LawErrors:
    """How far the law of samples x, (n, …), is from the marginal p_t of a mixture.

    Raises:
        InputError: the samples have another shape than those of the mixture.
    """
    if tuple(x.shape[1:]) != score.shape:
        raise InputError(f"x has shape {tuple(x.shape)}: expected (n, {score.shape})")
    x = x.flatten(1).cpu().double()
    theta = torch.randn(
        x.shape[1], _DIRECTIONS, generator=generator(0, "check"), device="cpu"
    ).double()
    theta = theta / theta.norm(dim=0)
    lines = [_on_a_line(*pair, score, t) for pair in zip((x @ theta).T, theta.T, strict=True)]
    return LawErrors(*on_host(lines, torch.float64).mean(0).tolist())


def _on_a_line(y: Tensor, theta: Tensor, score: MixtureScore, t: float) -> LawErrors:
    """The errors of samples y, (n,), along one direction."""
    time = on_host(t, torch.float64)
    scale, noise = score.sde.marginal_scale(time), score.sde.marginal_std(time)
    # Wherever the score is, and in whichever precision, it is judged on the host in float64.
    law = (numbers.cpu().double() for numbers in (score.log_weights, score.means, score.stds))
    log_weights, centres, widths = law
    weights, means = log_weights.exp(), scale * (centres.flatten(1) @ theta)
    stds = ((scale * widths) ** 2 + noise**2).sqrt()
    mean = (weights * means).sum()
    std = ((weights * (stds**2 + means**2)).sum() - mean**2).sqrt()
    moments = ((y.mean() - mean) ** 2 + (y.std() - std) ** 2).sqrt()

    def below(points: Tensor) -> Tensor:
        """The distribution function."""
        return torch.special.ndtr((points[:, None] - means) / stds) @ weights

    y, n = y.sort().values, len(y)
    steps = torch.arange(n + 1, dtype=torch.float64, device="cpu") / n
    exact = below(y)
    ks = torch.maximum((steps[1:] - exact).max(), (exact - steps[:-1]).max())
    low, high = float((means - _FAR * stds).min()), float((means + _FAR * stds).max())
    grid = torch.linspace(low, high, _GRID, dtype=torch.float64, device="cpu")
    quantiles = _interpolated((steps[1:] + steps[:-1]) / 2, below(grid), grid)
    return LawErrors(float(moments), float(ks), float((y - quantiles).abs().mean()))


def _interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The piecewise linear function through (x, y), x rising, at some places."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + share * (y[right] - y[right - 1])
