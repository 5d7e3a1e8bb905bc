r"""Likelihoods: how probable the flow makes an image.

Along the probability flow dx/dt = v(x, t) the log-density of the moving point obeys the
instantaneous change of variables, d log p_t(x(t)) / dt = −∇·v, so

    log p_ε(x(ε))  =  log p_T(x(T))  +  ∫_ε^T ∇·v(x(t), t) dt,

with the prior for p_T. The point and the integral are one ODE of D + 1 unknowns, which
`solve` takes as any other. The divergence is the trace of ∂v/∂x: exactly, by D products
with the Jacobian, or estimated by Hutchinson's

    ∇·v  ≈  zᵀ (∂v/∂x) z,        E z zᵀ = I,

with z of signs (Rademacher) or normal numbers, drawn once for each sample and held fixed
while it is solved, so that the right-hand side stays smooth and the estimate unbiased.

**Convention of bits/dim.** Images have 256 levels k = 0, …, 255 and are dequantised to
x = (k + u) / 256 with u uniform on [0, 1). Then −log₂ P(k) ≤ E_u[−log₂ p(x)] + 8 D, and

    bits/dim  =  8 − log₂ p(x) / D

is what lossless coding costs for each value at most. x is taken as the state at t = ε: the
density is that of the model which ends at ε, and no noise is added to x.

**ε sets a floor.** A density that was blurred with noise of std s(ε) exceeds (2π s²)^{−1/2} a
value nowhere, so no image costs less than 8 + log₂(√(2π) s(ε)) bits/dim. With the tutorial's
SDE this is 4.35 at ε = 1e-3, where its samples end, and 1.02 at ε = 1e-5, where its likelihoods
are taken: `eps=1e-5` for MNIST, of a model that was trained down to there. A pixel that is
always black is worse than the floor: dequantised it is even on [0, 1/256), and even if the
network knows that, it costs 1.19 bits at 1e-5, 0.35 at 1e-6, 0.11 at 1e-7 with this SDE, the
mean of 8 − log₂ of an even density blurred by s(ε). A network that was trained on images k/255
expects k/255 itself, and pays more the smaller ε is: train on dequantised images for
likelihoods. `bits_by_noise` shows what each noise level adds.

Sources: Song et al., arXiv 2011.13456, section 4.3 and appendix D.2; Grathwohl et al.,
arXiv 1810.01367; Theis et al., arXiv 1511.01844, for the dequantisation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffsde.data.images import LEVELS, within_levels
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError, name_list
from diffsde.noise.seeds import NormalTable, checked_seed
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.digest import digest, digest_of_score
from diffsde.system.tensorfile import read_tensors, write_tensors

__all__ = [
    "Likelihood",
    "LikelihoodSummary",
    "dequantise",
    "error_budget",
    "evaluate_likelihood",
    "log_likelihood",
]

_LARGEST_EXACT = 1024  # coordinates: beyond it an exact trace is a mistake, not a wish


def _bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    return math.log2(LEVELS) - log_prob / (dims * math.log(2))


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of a batch.

    Attributes:
        log_prob: (B,) log p_ε(x) in nats.
        stderr: (B,) standard error of `log_prob` that Hutchinson's estimator causes: zero
            for an exact trace, NaN for a single probe, which cannot tell.
        latents: x(T), of x's shape (B, …): where the flow takes the images.
        nfe: evaluations of the score.
    """

    log_prob: Tensor
    stderr: Tensor
    latents: Tensor
    nfe: int

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,) bits for each value, for images in [0, 1] of 256 levels: see the module."""
        return _bits_per_dim(self.log_prob, self.latents[0].numel())


class _DensityFlow:
    """The flow and the integrals of its divergence, as an ODE called (t, y).

    A state y of shape (B, D + P) is a point and P integrals, divided by D so that they are
    of the size that a tolerance for pixels means.

    Args:
        flow: dx/dt.
        probes: (P, B, D).
        exact: the probes are the unit vectors: add their columns into one.
        eps: where t starts.
    """

    def __init__(self, flow: ProbabilityFlow, probes: Tensor, *, exact: bool, eps: float) -> None:
        self.flow, self.probes, self.exact = flow, probes, exact
        self.sde = flow.sde  # its noise level makes the clocks
        self.interval = (eps, flow.sde.T)
        self.dims = probes.shape[-1]

    @property
    def columns(self) -> int:
        return 1 if self.exact else len(self.probes)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = y[:, : self.dims].detach().requires_grad_()
            v = self.flow.drift(x, t)
            traces = [
                (torch.autograd.grad(v, x, z, retain_graph=True)[0] * z).sum(1) for z in self.probes
            ]
        divergence = torch.stack(traces, 1) / self.dims
        if self.exact:
            divergence = divergence.sum(1, keepdim=True)
        return torch.cat([v.detach(), divergence], 1)


def log_likelihood(
    flow: ProbabilityFlow,
    x: Tensor,
    *,
    exact: bool = False,
    probes: int = 1,
    probe: str = "rademacher",
    seed: int | None = None,
    first: int = 0,
    eps: float | None = None,
    method: str = "dopri5",
    steps: int | None = None,
    clock: str = "log_sigma",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    progress: bool = False,
) -> Likelihood:
    """The log-likelihood of images x, taken as states at t = ε.

    Args:
        flow: the probability flow; its score must be differentiable in x.
        x: (B, C, H, W) or (B, D); images of 8 bits should have gone through `dequantise`.
        exact: the exact trace, at D products with the Jacobian for each evaluation.
        probes: how many of Hutchinson's probes each sample has; two or more give `stderr`.
        probe: "rademacher" or "gaussian". Signs have the smaller variance.
        seed: of the probes: those of sample i depend on (seed, first + i) alone.
        first: index of the first sample, where the batch is part of a larger one.
        eps: where t starts; the SDE's own ε if left out. It may be smaller, if the score knows
            what to do there: see the module.
        method, steps, clock, rtol, atol: as `solve` takes them.
        progress: show a progress bar.

    Raises:
        InputError: an argument does not fit.
        SolveError: the flow could not be solved.
    """
    _check_flow(flow)
    start = flow.sde.eps if eps is None else eps
    dims = math.prod(flow.shape)
    directions = _probes(x, dims, exact, probes, probe, checked_seed(seed), first)
    sol = _solved(
        _DensityFlow(flow, directions, exact=exact, eps=start), x, method, steps=steps,
        clock=clock, rtol=rtol, atol=atol, save="last", progress=progress,
    )  # fmt: skip
    latents, integrals = sol.final[:, :dims], dims * sol.final[:, dims:]
    log_prob = flow.sde.prior_logp(latents) + integrals.mean(1)
    stderr = _stderr(integrals, exact=exact)
    return Likelihood(log_prob, stderr, latents.reshape(x.shape), sol.stats.nfe)


def _solved(problem: _DensityFlow, x: Tensor, method: str, **settings: Any) -> Trajectory:
    """The path of points and integrals, from ε to T."""
    y = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), problem.columns)], 1)
    return solve(problem, y, method, **settings)


def _stderr(integrals: Tensor, *, exact: bool) -> Tensor:
    """The standard error of the mean of each row of (B, P)."""
    if exact:
        return torch.zeros_like(integrals[:, 0])
    if integrals.shape[1] == 1:
        return torch.full_like(integrals[:, 0], math.nan)
    return integrals.std(1) / math.sqrt(integrals.shape[1])


def _check_flow(flow: Any) -> None:
    if not isinstance(flow, ProbabilityFlow):
        raise InputError(
            f"flow = {type(flow).__name__}: expected a ProbabilityFlow; the paths of a "
            "ReverseSDE are not invertible and have no likelihood of their own"
        )


def _probes(
    x: Tensor, dims: int, exact: bool, count: int, kind: str, seed: int, first: int
) -> Tensor:
    """(P, B, D): the unit vectors, or random directions of each sample's own."""
    if x[0].numel() != dims:
        raise InputError(f"x has shape {tuple(x.shape)}: expected samples of {dims} values")
    if exact:
        if dims > _LARGEST_EXACT:
            raise InputError(
                f"exact=True with {dims} values a sample: at most {_LARGEST_EXACT}, for each is a "
                "product with the Jacobian; use probes="
            )
        return torch.eye(dims).to(x)[:, None].expand(dims, len(x), dims)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"probes = {count!r}: expected a whole number ≥ 1")
    if kind not in ("rademacher", "gaussian"):
        raise InputError(f"probe = {kind!r}: {name_list(str(kind), ['rademacher', 'gaussian'])}")
    table, samples = NormalTable(seed, "probe"), range(first, first + len(x))
    normal = torch.stack([table.rows(samples, k, (dims,), x.dtype) for k in range(count)])
    return (normal.sign() if kind == "rademacher" else normal).to(x.device)


def dequantise(images: Tensor, *, seed: int | None = None, first: int = 0) -> Tensor:
    """Images k / 255 in [0, 1] as (k + u) / 256, u uniform on [0, 1): of the same shape.

    The u of image i depends on (seed, first + i) alone.
    """
    if float(images.min()) < 0 or float(images.max()) > 1:
        raise InputError(
            f"images from {float(images.min()):g} to {float(images.max()):g}: expected [0, 1]"
        )
    samples = range(first, first + len(images))
    normal = NormalTable(checked_seed(seed), "dequantise").rows(
        samples, 0, images.shape[1:], torch.float64
    )
    return within_levels(images, torch.special.ndtr(normal).to(images))


# -- a whole data set --------------------------------------------------------------------


@dataclass(frozen=True)
class LikelihoodSummary:
    """The likelihood of a data set, or of as much of it as is done.

    Attributes:
        log_prob: (N,) log-likelihoods in nats.
        dims: values in an image.
        nfe: evaluations of the score, over all chunks.
    """

    log_prob: Tensor
    dims: int
    nfe: int

    @property
    def bits_per_dim(self) -> Tensor:
        """(N,) bits for each value."""
        return _bits_per_dim(self.log_prob, self.dims)

    @property
    def mean(self) -> float:
        """Mean bits/dim."""
        return float(self.bits_per_dim.mean())

    @property
    def stderr(self) -> float:
        """Standard error of `mean`: of the draw of images, of u and of the probes together."""
        return float(self.bits_per_dim.std()) / math.sqrt(len(self.log_prob))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.stderr:.4f} bits/dim ({len(self.log_prob)} images)"


def evaluate_likelihood(
    flow: ProbabilityFlow,
    images: Tensor,
    *,
    path: str | os.PathLike[str] | None = None,
    chunk: int = 64,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> LikelihoodSummary:
    """The likelihood of a data set in bits/dim, dequantised, in chunks.

    Args:
        flow: see `log_likelihood`.
        images: (N, C, H, W) in [0, 1], as 8 bits make them.
        path: a file that is written after every chunk and taken up again, if it is there.
        chunk: images at a time. An adaptive solver's steps depend on it within tolerance.
        seed: of the dequantisation and the probes.
        progress: show a progress bar with the mean so far.
        settings: for `log_likelihood`, such as probes, rtol, method.

    Raises:
        InputError: `path` holds results of other images, another model or other settings.
    """
    _check_flow(flow)
    if not len(images):
        raise InputError("images: expected at least one")
    description = {
        "images": digest([images]),
        "score": digest_of_score(flow.score),
        "sde": {"name": type(flow.sde).__name__, **flow.sde.config()},
        "chunk": chunk, "seed": seed, **settings,
    }  # fmt: skip
    done, nfe = _results_so_far(path, description)
    with tqdm(total=len(images), initial=len(done), unit="image", disable=not progress) as bar:
        while len(done) < len(images):
            part = images[len(done) : len(done) + chunk]
            x = dequantise(part, seed=seed, first=len(done))
            found = log_likelihood(flow, x, seed=seed, first=len(done), **settings)
            done, nfe = torch.cat([done, found.log_prob.double().cpu()]), nfe + found.nfe
            if path is not None:
                tensors = {"log_prob": done, "nfe": torch.tensor(nfe)}
                write_tensors(path, tensors, {"likelihood": description})
            bar.update(len(part))
            bar.set_postfix_str(f"{_bits_per_dim(done, part[0].numel()).mean():.4f} bits/dim")
    return LikelihoodSummary(done, images[0].numel(), nfe)


def _results_so_far(
    path: str | os.PathLike[str] | None, description: Mapping[str, Any]
) -> tuple[Tensor, int]:
    if path is None or not Path(path).exists():
        return torch.zeros(0, dtype=torch.float64), 0
    tensors, found = read_tensors(path)
    before = found.get("likelihood", {})
    different = [k for k in sorted({*before, *description}) if before.get(k) != description.get(k)]
    if different:
        raise InputError(
            f"{path} holds likelihoods with other {', '.join(different)}: give another path, or "
            "remove the file to begin anew"
        )
    return tensors["log_prob"], int(tensors["nfe"])


# -- what the number is made of ------------------------------------------------------------


def error_budget(
    flow: ProbabilityFlow, x: Tensor, *, seed: int = 0, probes: int = 8, **settings: Any
) -> dict[str, float]:
    """How far the mean bits/dim of a batch depends on what a likelihood should not depend on.

    Args:
        flow, x: as `log_likelihood` takes them; some ten images tell.
        seed, probes: of the estimator; at least two probes.
        settings: for `log_likelihood`: eps, rtol, atol, method, clock, steps.

    Returns:
        In bits/dim: "tolerance", the change when rtol and atol are a hundred times smaller,
        in float64; "epsilon", the change when t starts at 2ε; "probe", the standard error that
        a single probe leaves on one image; "images", that of the mean over this batch.
    """
    settings = {"rtol": 1e-5, "atol": 1e-5, **settings}
    fixed = {"eps": flow.sde.eps, **settings, "seed": seed, "probes": probes}
    tight = {"rtol": 0.01 * settings["rtol"], "atol": 0.01 * settings["atol"]}
    usual = log_likelihood(flow, x, **fixed)
    bits = usual.bits_per_dim
    finer = log_likelihood(flow, x.double(), **{**fixed, **tight}).bits_per_dim
    later = log_likelihood(flow, x, **{**fixed, "eps": 2 * fixed["eps"]}).bits_per_dim
    per_image = x[0].numel() * math.log(2)
    return {
        "tolerance": float((bits - finer).mean()),
        "epsilon": float((later - bits).mean()),
        "probe": float(usual.stderr.square().mean().sqrt()) * math.sqrt(probes) / per_image,
        "images": float(bits.std()) / math.sqrt(len(x)),
    }


@dataclass(frozen=True)
class BitsByNoise:
    """Where the bits are: the mean bits/dim of a batch as a sum over noise levels.

    With y = x / a and σ = s / a the flow is dy/d ln σ = y − D(y, σ), so that

        bits/dim  =  8 + log₂(√(2π) s(ε))  +  ‖x(T) − m‖² / (2 D s(T)² ln 2)
                     +  ∫ tr(∂D/∂y) / D  d log₂ σ,

    the floor, the latents, and what the image reveals of itself as the noise falls. Printed,
    it is a table.

    Attributes:
        floor: what an image of no information costs at ε.
        latents: what the latents cost.
        levels: (K + 1,) noise levels σ, rising.
        bits: (K,) of the integral between each level and the next.
        denoising: (K,) the same with ‖D(x(0) + σz, σ) − x(0)‖² / σ² in place of the trace.
            The exact score has the least of it, and then the two have one mean, over images
            of the model's own: where they differ the network is wrong, and training at these
            levels would pay.
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

    def __str__(self) -> str:
        lines = [f"{'noise level σ':>20}  bits/dim  denoising"]
        for k, (bits, denoising) in enumerate(zip(self.bits, self.denoising, strict=True)):
            ends = f"{float(self.levels[k]):.3g} to {float(self.levels[k + 1]):.3g}"
            lines.append(f"{ends:>20}  {float(bits):8.3f}  {float(denoising):9.3f}")
        rest = {"floor of ε": self.floor, "latents": self.latents, "total": self.total}
        return "\n".join(lines + [f"{name:>20}  {value:8.3f}" for name, value in rest.items()])


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
    """Where the bits of a batch are, by noise level, with one probe for each image.

    Source of the second column: the bound of Kingma et al., arXiv 2107.00630, eq. 17.

    Args:
        flow, x, eps, rtol, atol: as `log_likelihood` takes them; some ten images tell.
        intervals: of ln σ, even.
        seed: of the probes and of the noise that is taken away again.
    """
    _check_flow(flow)
    sde, dims = flow.sde, math.prod(flow.shape)
    start = sde.eps if eps is None else eps
    ends = sde.noise_level(torch.tensor([start, sde.T], dtype=torch.float64)).log()
    levels = torch.linspace(float(ends[0]), float(ends[1]), intervals + 1).double().exp()
    times = sde.time_of_noise_level(levels)
    times[0], times[-1] = start, sde.T
    problem = _DensityFlow(
        flow, _probes(x, dims, False, 1, "rademacher", seed, 0), exact=False, eps=start
    )
    sol = _solved(problem, x, "dopri5", clock="log_sigma", rtol=rtol, atol=atol, save=times)
    integrals = sol.ys[:, :, dims].double().mean(1).cpu()
    trace = sde.marginal_std(times).log().diff() - integrals.diff()
    quiet = math.log(math.sqrt(2 * math.pi))
    latents = -float(sde.prior_logp(sol.final[:, :dims]).mean()) / dims
    return BitsByNoise(
        floor=8 + (quiet + float(sde.marginal_std(times[0]).log())) / math.log(2),
        latents=(latents - quiet - math.log(sde.prior_std)) / math.log(2),
        levels=levels,
        bits=trace / math.log(2),
        denoising=_denoising_bits(flow, x, levels, seed),
    )


def _denoising_bits(flow: ProbabilityFlow, x: Tensor, levels: Tensor, seed: int) -> Tensor:
    """(K,): the squared error of the denoiser over σ², at one random level for each image."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for low, high in pairwise(levels.log().tolist()):
        share = torch.rand(len(x), generator=generator, dtype=torch.float64)
        sigma = (low + (high - low) * share).exp()
        z = torch.randn(x.shape, generator=generator).to(x)
        t = flow.sde.time_of_noise_level(sigma).to(x)
        mean, std = flow.sde.marginal_prob(x, t)
        with torch.no_grad():
            error = flow.denoise(mean + std * z, t) - x
        squares = error.flatten(1).square().mean(1).double().cpu() / sigma**2
        found.append(squares.mean() * (high - low) / math.log(2))
    return torch.stack(found)
