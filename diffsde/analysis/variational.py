r"""A bound on the bits of images of 256 levels: the code that a diffusion model is.

A sender adds noise to an image until it is nearly the prior's, and a receiver takes the noise away
again. What they must tell each other is no more than three terms (Kingma et al., arXiv 2107.00630,
equations 11 and 15 to 17), with y = x / a and σ = s / a:

    −log P(k)  ≤  KL(q(x(T) | k) ‖ prior)                       prior
               +  ∫ ‖x_k − D(y, σ)‖² / σ²  d ln σ               diffusion, from ε to T
               +  E[−log P(k | x(ε))]                           decoder

Here x_k is the image and k its levels. The decoder takes no network: each pixel of x(ε) is a level
under normal noise, P(k | y) ∝ exp(−(y − x_k)² / 2σ(ε)²), so it costs nothing once the noise is well
below the distance of two levels, which is 1/255 for images in [0, 1].

This is the discrete image's own cost. Nothing is dequantised, no ODE is solved and no trace is
estimated; an image takes `draws` evaluations of the score, at noise levels that are spread evenly
in ln σ and shifted at random, so that the mean is the integral, whatever their number. The exact
denoiser of the data makes the bound the entropy of the data, up to what the prior is wrong. In
principle, codes that give bits back reach it, so these are bits of lossless compression.

The score must be known down to ε, and of images k / 255: train with `dequantise=False` and a small
`smallest_time`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.analysis.density_flow import check_flow, checked_start
from diffsde.analysis.likelihood import bits_per_dim
from diffsde.data.images import LEVELS
from diffsde.equations.forward import expand
from diffsde.equations.graphs import ordinary, ordinary_mode
from diffsde.equations.ranges import from_unit
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import checked_seed, numbered
from diffsde.system.host import on_host
from diffsde.system.numbers import whole_number
from diffsde.system.tables import Table, records

__all__ = [
    "VariationalBound",
    "bound_start",
    "check_levels",
    "denoising_error",
    "log_level_range",
    "variational_bound",
]


@dataclass(frozen=True, repr=False)
class VariationalBound(Table):
    """What each image of a batch costs, in nats, by the three terms of the module.

    Attributes:
        prior, diffusion, decoder: (B,) each; `diffusion` is an unbiased estimate.
        dims: values in an image.
        nfe: evaluations of the score.
    """

    prior: Tensor
    diffusion: Tensor
    decoder: Tensor
    dims: int
    nfe: int

    @property
    def log_prob(self) -> Tensor:
        """(B,) the bound on log P(k), in nats."""
        return -(self.prior + self.diffusion + self.decoder)

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,) bits for each value."""
        return bits_per_dim(self.log_prob, self.dims)

    def _records(self) -> list[dict[str, Any]]:
        names = ("prior", "diffusion", "decoder", "bits_per_dim")
        return records({name: getattr(self, name).tolist() for name in names})

    def _lines(self) -> Sequence[Sequence[str]]:
        heads = ["image", "prior [nats]", "diffusion", "decoder", "bits/dim"]
        rows = ([f"{k}", *map("{:.6g}".format, r.values())] for k, r in enumerate(self._records()))
        return [heads, *rows]

    def __str__(self) -> str:
        mean = float(self.bits_per_dim.mean())
        return f"VariationalBound({len(self.prior)} images, {mean:.4g} bits/dim, {self.nfe} NFE)"


@ordinary_mode()
def variational_bound(
    flow: ProbabilityFlow,
    images: Tensor,
    *,
    draws: int = 16,
    seed: int | None = None,
    first: int = 0,
    eps: float | None = None,
) -> VariationalBound:
    """The bound for 8-bit images.

    Args:
        flow: the probability flow, whose score and SDE are the model.
        images: (B, C, H, W), levels k / 255 in [0, 1], whatever the range of the flow's data is.
        draws: evaluations of the score for each image.
        seed: seed of noise and noise levels; those of image i depend on (seed, first + i) only.
        first: index of the first image, if the batch is part of a larger one.
        eps: the time of x(ε). If left out, the noise there is an eighth of the distance of two
            levels, with which the decoder costs some 0.0002 bits/dim.

    Raises:
        InputError: an argument does not fit, or a value of the images is no level.
    """
    check_flow(flow)
    start, draws = bound_start(flow, eps), whole_number(draws, "draws")
    level = check_levels(images, flow)
    x = from_unit(ordinary(images).detach(), flow.data_range)
    samples = numbered(first, len(x))
    table, dims = NormalTable(checked_seed(seed), "bits"), math.prod(flow.shape)
    low, high = log_level_range(flow, start)

    def noise(node: int) -> Tensor:
        return table.rows(samples, node, x.shape[1:], x.dtype, x.device)

    diffusion = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for draw in range(draws):
        where = table.rows(samples, 2 * draw, (1,), torch.float64)[:, 0]
        share = (draw + torch.special.ndtr(where)) / draws
        sigma = (low + (high - low) * share).exp()
        diffusion += denoising_error(flow, x, noise(2 * draw + 1), sigma)
    diffusion *= (high - low) / draws
    distance = (flow.data_range[1] - flow.data_range[0]) / (LEVELS - 1) / math.exp(low)
    decoder = _decoder(level, noise(2 * draws), distance)
    return VariationalBound(_prior(flow, x), diffusion, decoder, dims, draws)


def bound_start(flow: ProbabilityFlow, eps: float | None) -> float:
    """The time of x(ε) in a bound, for an argument eps of `variational_bound`.

    Raises:
        InputError: it is not between 0 and T.
    """
    if eps is not None:
        return checked_start(flow, eps)
    level = (flow.data_range[1] - flow.data_range[0]) / (LEVELS - 1)
    return float(flow.sde.time_of_noise_level(on_host(level / 8, torch.float64)))


def check_levels(images: Tensor, flow: ProbabilityFlow) -> Tensor:
    """The levels k of images k / 255, as numbers of the images' dtype.

    Raises:
        InputError: the images have another shape than the flow's, or hold other values.
    """
    if tuple(images.shape[1:]) != tuple(flow.shape):
        raise InputError(
            f"images of shape {tuple(images.shape)}: expected (B, *{tuple(flow.shape)})"
        )
    level = (LEVELS - 1) * images
    whole = level.round()
    worst = float((level - whole).abs().max()) if images.numel() else 0.0
    if not (worst < 0.01 and float(whole.min()) >= 0 and float(whole.max()) < LEVELS):
        raise InputError(
            f"images from {float(images.min()):g} to {float(images.max()):g}, up to {worst:.2g} "
            f"levels from a level: expected k / {LEVELS - 1} with whole numbers k from 0 to "
            f"{LEVELS - 1}, without noise"
        )
    return whole


def log_level_range(flow: ProbabilityFlow, start: float) -> tuple[float, float]:
    """ln σ at t = `start` and at T.

    Raises:
        InputError: it is infinite at T.
    """
    sde = flow.sde
    if sde.endless:
        raise InputError(
            f"{type(sde).__name__} with T = {sde.T:g}: the noise level is infinite at T, and so is "
            "the range of ln σ over which bits are summed; give it a smaller T, such as 0.999"
        )
    return sde.log_level_range(start)


def denoising_error(flow: ProbabilityFlow, x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(B,): ‖x − D‖² / σ² of the denoiser, at one noise level σ, on the host, for each image."""
    t = flow.sde.time_of_noise_level(sigma).to(x)
    mean, std = flow.sde.marginal_prob(x, t)
    with torch.no_grad():
        denoised = flow.denoise(mean + std * noise, t)
    return ((denoised - x) / expand(sigma.to(x), x)).square().flatten(1).sum(1)


def _prior(flow: ProbabilityFlow, x: Tensor) -> Tensor:
    """(B,): KL of two normal laws, that of x(T) for this image and the prior."""
    sde = flow.sde
    end = torch.full((len(x),), sde.T, dtype=x.dtype, device=x.device)
    mean, std = sde.marginal_prob(x, end)
    ratio = (std / sde.prior_std).square().flatten()
    away = ((mean - sde.prior_mean(x)) / sde.prior_std).square().flatten(1).sum(1)
    return 0.5 * (away + math.prod(flow.shape) * (ratio - 1 - ratio.log()))


def _decoder(level: Tensor, noise: Tensor, distance: float) -> Tensor:
    """(B,): −log P(k | x(ε)) for a state at ε that lies `noise` stds from its level.

    Args:
        distance: from one level to the next, in stds.
    """
    total = torch.full_like(noise, -math.inf)
    for other in range(LEVELS):
        total = torch.logaddexp(total, -0.5 * ((level - other) * distance + noise).square())
    return (total + 0.5 * noise.square()).flatten(1).sum(1)
