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
SDE this is 4.35 at ε = 1e-3, where its samples end, and 1.03 at ε = 1e-5, where its likelihoods
are taken: `eps=1e-5` for MNIST, of a model that was trained down to there.

Sources: Song et al., arXiv 2011.13456, section 4.3 and appendix D.2; Grathwohl et al.,
arXiv 1810.01367; Theis et al., arXiv 1511.01844, for the dequantisation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffsde.digest import digest, digest_of_score
from diffsde.errors import InputError, name_list
from diffsde.integrate import solve
from diffsde.reverse import ProbabilityFlow
from diffsde.seeds import NormalTable, checked_seed
from diffsde.tensorfile import read_tensors, write_tensors

__all__ = [
    "Likelihood",
    "LikelihoodSummary",
    "dequantise",
    "error_budget",
    "evaluate_likelihood",
    "log_likelihood",
]

LEVELS = 256  # of an image of 8 bits
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
    dims = math.prod(flow.shape)
    start = flow.sde.eps if eps is None else eps
    directions = _probes(x, dims, exact, probes, probe, checked_seed(seed), first)
    problem = _DensityFlow(flow, directions, exact=exact, eps=start)
    y = torch.cat([x.reshape(len(x), dims), x.new_zeros(len(x), problem.columns)], 1)
    sol = solve(
        problem, y, method, steps=steps, clock=clock, rtol=rtol, atol=atol, save="last",
        progress=progress,
    )  # fmt: skip
    latents, integrals = sol.final[:, :dims], dims * sol.final[:, dims:]
    log_prob = flow.sde.prior_logp(latents) + integrals.mean(1)
    stderr = _stderr(integrals, exact=exact)
    return Likelihood(log_prob, stderr, latents.reshape(x.shape), sol.stats.nfe)


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
    uniform: Tensor = torch.special.ndtr(normal).to(images)
    shifted: Tensor = (LEVELS - 1) * images + uniform
    return shifted / LEVELS


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
