r"""What a number of bits/dim is made of: its sources of error, and its parts by noise level.

With y = x / a and σ = s / a the flow is dy/d ln σ = y − D(y, σ), where D is the denoiser, so

    bits/dim  =  8 + log₂(√(2π) s(ε))  +  ‖x(T) − m‖² / (2 D s(T)² ln 2)
                 +  ∫ tr(∂D/∂y) / D  d log₂ σ :

the floor, the cost of the latents, and what the image reveals of itself as the noise falls.

Source: for the bound of the denoising column, Kingma et al., arXiv 2107.00630, equation 17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffsde.analysis.conventions import CONVENTIONS, conventions_of
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.density_flow import DensityFlow, check_flow, checked_start, random_probes
from diffsde.analysis.likelihood import level_bits, log_likelihood
from diffsde.analysis.variational import denoising_error, log_level_range
from diffsde.equations.graphs import ordinary, ordinary_mode
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError
from diffsde.noise.seeds import generator
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.request import DEFAULT_STEPS
from diffsde.system.parameters import finest_dtype
from diffsde.system.tables import Table

__all__ = ["BitsByNoise", "bits_by_noise", "error_budget"]


def error_budget(
    flow: ProbabilityFlow,
    x: Tensor,
    *,
    images: Tensor | None = None,
    seed: int = 0,
    probes: int = 8,
    **settings: Any,
) -> dict[str, float]:
    """How much the mean bits/dim of a batch depends on things that it should not depend on.

    Args:
        flow, x: as `log_likelihood` takes them; about ten images are enough.
        images: the 8-bit images k / 255 behind x, if the conventions are to be compared, too.
        seed, probes: seed and number of the estimator's probes; at least two probes.
        settings: for `log_likelihood`: eps, rtol, atol, method, clock, steps.

    Returns:
        In bits/dim: "tolerance", the change when rtol and atol are a hundred times smaller,
        or fixed steps half as long, in float64 where the device has that; "epsilon", the change
        when t starts at 2ε; "probe", the standard error for one image with a single probe;
        "images", the standard error of the mean over this batch. With `images` also the bits/dim
        themselves by each of the `CONVENTIONS`, under its name.
    """
    if settings.get("grad"):
        raise InputError("grad: a budget is made of numbers; differentiate log_likelihood instead")
    if find_solver(settings.get("method", "dopri5"), "ode").adaptive:
        settings = {"rtol": 1e-5, "atol": 1e-5, **settings}
        tight = {"rtol": 0.01 * settings["rtol"], "atol": 0.01 * settings["atol"]}
    else:
        settings = {"steps": DEFAULT_STEPS, **settings}
        tight = {"steps": 2 * settings["steps"]}
    fixed = {"eps": flow.sde.eps, **settings, "seed": seed, "probes": probes}
    checked_start(flow, 2 * fixed["eps"])
    usual = log_likelihood(flow, x, **fixed)
    bits = usual.bits_per_dim
    finer = log_likelihood(flow, x.to(finest_dtype(x.device)), **{**fixed, **tight}).bits_per_dim
    later = log_likelihood(flow, x, **{**fixed, "eps": 2 * fixed["eps"]}).bits_per_dim
    per_image = x[0].numel() * math.log(2)
    return {
        "tolerance": float((bits - finer).mean()),
        "epsilon": float((later - bits).mean()),
        "probe": float(usual.stderr.square().mean().sqrt()) * math.sqrt(probes) / per_image,
        "images": float(bits.std()) / math.sqrt(len(x)),
        **({} if images is None else _bits_by_convention(flow, images, seed, fixed)),
    }


def _bits_by_convention(
    flow: ProbabilityFlow, images: Tensor, seed: int, settings: dict[str, Any]
) -> dict[str, float]:
    """The mean bits/dim of the images by each convention that suits the score.

    Each takes those of the settings that it knows.
    """
    found = {}
    for name in conventions_of(flow.score):
        taken = CONVENTIONS[name].settings({})
        own = {key: value for key, value in settings.items() if key in taken}
        found[name] = evaluate_likelihood(flow, images, convention=name, seed=seed, **own).mean
    return found


@dataclass(frozen=True, repr=False)
class BitsByNoise(Table):
    """The mean bits/dim of a batch as a sum over noise levels.

    Attributes:
        floor: the cost of an image without information, at ε.
        latents: the cost of the latents.
        levels: (K + 1,) noise levels σ, rising.
        bits: (K,) the integral of the trace between each level and the next.
        denoising: (K,) the same integral with ‖D(x(0) + σz, σ) − x(0)‖² / σ² in place of the
            trace. The exact score has the smallest such error, and with it both columns have
            the same mean over images of the model's own. Where they differ the network is
            wrong, and more training at these levels would help.
    """

    floor: float
    latents: float
    levels: Tensor
    bits: Tensor
    denoising: Tensor

    @property
    def total(self) -> float:
        """Mean bits/dim."""
        return self.floor + self.latents + float(self.bits.sum())

    def _records(self) -> list[dict[str, Any]]:
        ends = pairwise(self.levels.tolist())
        parts = zip(ends, self.bits.tolist(), self.denoising.tolist(), strict=True)
        return [
            {"low": low, "high": high, "bits": bits, "denoising": denoising}
            for (low, high), bits, denoising in parts
        ]

    def _lines(self) -> Sequence[Sequence[str]]:
        rest = {"floor of ε": self.floor, "latents": self.latents, "total": self.total}
        return [
            ("noise level σ", "bits/dim", "denoising"),
            *(
                (f"{row['low']:.3g} to {row['high']:.3g}", *_three(row["bits"], row["denoising"]))
                for row in self._records()
            ),
            *((name, *_three(value), "") for name, value in rest.items()),
        ]


def _three(*values: float) -> tuple[str, ...]:
    """The values with three decimals."""
    return tuple(f"{value:.3f}" for value in values)


@ordinary_mode()
def bits_by_noise(
    flow: ProbabilityFlow,
    x: Tensor,
    *,
    intervals: int = 12,
    seed: int = 0,
    eps: float | None = None,
    rtol: float = 1e-3,
    atol: float = 1e-3,
) -> BitsByNoise:
    """Split the bits of a batch by noise level, with one probe for each image.

    Args:
        flow, x, eps, rtol, atol: as `log_likelihood` takes them; about ten images are enough.
        intervals: number of equal intervals of ln σ.
        seed: seed of the probes and of the noise for the denoising column.
    """
    check_flow(flow)
    x = ordinary(x).detach()
    sde, dims = flow.sde, math.prod(flow.shape)
    start = checked_start(flow, eps)
    levels, times = _levels_and_times(flow, start, intervals)
    probes = random_probes(x, dims, 1, "rademacher", seed, 0)
    sol = DensityFlow(flow, probes, exact=False, eps=start).solve(
        x, "dopri5", clock="log_sigma", rtol=rtol, atol=atol, save=times
    )
    integrals = sol.ys[:, :, dims].cpu().double().mean(1)
    trace = sde.marginal_std(times).log().diff() - integrals.diff()
    peak = math.log(math.sqrt(2 * math.pi))  # −log of the standard normal density at its mean
    latents = -float(sde.prior_logp(sol.final[:, :dims]).mean()) / dims
    return BitsByNoise(
        floor=level_bits(flow.data_range)
        + (peak + float(sde.marginal_std(times[0]).log())) / math.log(2),
        latents=(latents - peak - math.log(sde.prior_std)) / math.log(2),
        levels=levels,
        bits=trace / math.log(2),
        denoising=_denoising_bits(flow, x, levels, seed),
    )


def _levels_and_times(flow: ProbabilityFlow, start: float, intervals: int) -> tuple[Tensor, Tensor]:
    """Noise levels between t = `start` and T that are even in ln σ, and their times."""
    sde, ends = flow.sde, log_level_range(flow, start)
    levels = torch.linspace(*ends, intervals + 1, device="cpu").double().exp()
    times = sde.time_of_noise_level(levels)
    times[0], times[-1] = start, sde.T
    return levels, times


def _denoising_bits(flow: ProbabilityFlow, x: Tensor, levels: Tensor, seed: int) -> Tensor:
    """(K,): the denoiser's squared error over σ², at one random level for each image."""
    numbers = generator(seed, "bits")
    found = []
    for low, high in pairwise(levels.log().tolist()):
        share = torch.rand(len(x), generator=numbers, dtype=torch.float64, device="cpu")
        sigma = (low + (high - low) * share).exp()
        z = torch.randn(x.shape, generator=numbers, device="cpu").to(x)
        error = denoising_error(flow, x, z, sigma).cpu().double() / x[0].numel()
        found.append(error.mean() * (high - low) / math.log(2))
    return torch.stack(found)
