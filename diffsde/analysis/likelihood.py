r"""Likelihoods: how probable an image is under the flow.

Along the probability flow dx/dt = v(x, t) the log-density of the moving point obeys the
instantaneous change of variables, d log p_t(x(t)) / dt = −∇·v, so

    log p_ε(x(ε))  =  log p_T(x(T))  +  ∫_ε^T ∇·v(x(t), t) dt,

with the prior as p_T. The point and the integral are solved as one ODE of D + 1 unknowns, the
divergence exactly or with Hutchinson's estimator (see `DensityFlow`).

**Convention of bits/dim.** Images have 256 levels k = 0, …, 255 and are dequantised to
x = (k + u) / 256 with u uniform on [0, 1). Then −log₂ P(k) ≤ E_u[−log₂ p(x)] + 8 D, and

    bits/dim  =  8 − log₂ p(x) / D

is the most that lossless coding costs for each value. x is taken as the state at t = ε: the
density is that of the model whose samples end at ε, and no noise is added to x.

**ε sets a floor.** A density that was blurred with noise of std s(ε) never exceeds
(2π s²)^{−1/2} a value, so no image costs less than 8 + log₂(√(2π) s(ε)) bits/dim. With the
tutorial's SDE this is 4.35 at ε = 1e-3, where its samples end, and 1.02 at ε = 1e-5, where its
likelihoods are taken: use `eps=1e-5` for MNIST, with a model that was trained down to there.
A pixel that is always black costs more than the floor. Dequantised, it is uniform on
[0, 1/256), and even a network that knows this pays 1.19 bits at 1e-5, 0.35 at 1e-6 and 0.11 at
1e-7 with this SDE: the mean of 8 − log₂ of the uniform density blurred by s(ε). A network that
was trained on images k/255 expects exactly k/255 and pays more the smaller ε is, so train on
dequantised images for likelihoods. `bits_by_noise` shows what each noise level adds.

Sources: Song et al., arXiv 2011.13456, section 4.3 and appendix D.2; Grathwohl et al.,
arXiv 1810.01367; Theis et al., arXiv 1511.01844, for the dequantisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.analysis.density_flow import (
    DensityFlow,
    check_flow,
    checked_start,
    random_probes,
    unit_probes,
)
from diffsde.data.images import LEVELS, within_levels
from diffsde.equations.graphs import ordinary_mode
from diffsde.equations.ranges import UNIT, Range, from_unit
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import checked_seed, numbered
from diffsde.system.numbers import truth_value
from diffsde.system.tables import Table, records

__all__ = ["Likelihood", "bits_per_dim", "dequantise", "level_bits", "log_likelihood"]


def bits_per_dim(log_prob: Tensor, dims: int, offset: float = 0.0) -> Tensor:
    """Bits for each value, for log-probabilities in nats.

    Args:
        log_prob: log-probabilities, or log-densities.
        dims: values in a sample.
        offset: bits/dim where `log_prob` is zero: `level_bits` for the density of dequantised
            images, 0 for probabilities.
    """
    return offset - log_prob / (dims * math.log(2))


def level_bits(data_range: Range) -> float:
    """−log₂ of the width of one of 256 levels: 8 for images in [0, 1], and 7 in [−1, 1]."""
    low, high = data_range
    return math.log2(LEVELS) - math.log2(high - low)


@dataclass(frozen=True, repr=False)
class Likelihood(Table):
    """The likelihood of a batch; as a table it has a row for each sample.

    Attributes:
        log_prob: (B,) log p_ε(x) in nats.
        stderr: (B,) standard error of `log_prob` due to Hutchinson's estimator: zero for an
            exact trace, NaN for a single probe, from which it cannot be estimated.
        latents: x(T), of x's shape (B, …): where the flow takes the images.
        nfe: evaluations of the score.
        data_range: the values of black and of white of these images.
    """

    log_prob: Tensor
    stderr: Tensor
    latents: Tensor
    nfe: int
    data_range: Range = UNIT

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,) bits for each value, for images of 256 levels: see the module."""
        return bits_per_dim(self.log_prob, self.latents[0].numel(), level_bits(self.data_range))

    def _records(self) -> list[dict[str, Any]]:
        names = ["log_prob", "stderr", *(["bits_per_dim"] if self.latents.dim() == 4 else [])]
        return records({name: getattr(self, name).tolist() for name in names})

    def _lines(self) -> Sequence[Sequence[str]]:
        rows = self._records()
        heads = {"log_prob": "log p [nats]", "stderr": "±", "bits_per_dim": "bits/dim"}
        shown = list(rows[0]) if rows else list(heads)
        cells = [[f"{k}", *(f"{row[name]:.6g}" for name in shown)] for k, row in enumerate(rows)]
        return [["sample", *(heads[name] for name in shown)], *cells]

    def __str__(self) -> str:
        mean = f"{len(self.log_prob)} samples, log p {float(self.log_prob.mean()):.6g} nats"
        bits = f", {float(self.bits_per_dim.mean()):.4g} bits/dim"
        return f"Likelihood({mean}{bits if self.latents.dim() == 4 else ''}, {self.nfe} NFE)"


@ordinary_mode()
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
    rtol: float | None = None,
    atol: float | None = None,
    grad: bool = False,
    progress: bool = False,
) -> Likelihood:
    """The log-likelihood of images x, taken as states at t = ε.

    Args:
        flow: the probability flow; its score must be differentiable in x.
        x: (B, C, H, W) or (B, D), in the range of the score's data; pass 8-bit images through
            `dequantise` first.
        exact: compute the exact trace, with D products with the Jacobian for each evaluation.
        probes: number of Hutchinson's probes for each sample; two or more give `stderr`.
        probe: "rademacher" or "gaussian". Rademacher signs have the smaller variance.
        seed: seed of the probes; those of sample i depend on (seed, first + i) only.
        first: index of the first sample, if the batch is part of a larger one.
        eps: where t starts; the SDE's own ε if left out. It may be smaller than that, if the
            score is known down to there: see the module.
        method, steps, clock, rtol, atol: as `solve` takes them; tolerances of 1e-5.
        grad: keep the graph, so that the result can be differentiated in x and in the score's
            parameters, by back-propagation through the solve. The score must be twice
            differentiable, and the memory grows with its evaluations. If False, the result has
            no graph.
        progress: show a progress bar.

    Raises:
        InputError: an argument does not fit.
        SolveError: the flow could not be solved.
    """
    check_flow(flow)
    _check_grad(grad, flow, x)
    start = checked_start(flow, eps)
    if truth_value(exact, "exact") and (probes, probe) != (1, "rademacher"):
        words = f"exact=True, probes = {probes}, probe = {probe!r}"
        raise InputError(f"{words}: an exact trace needs no probes, so leave them out")
    dims, seed = math.prod(flow.shape), checked_seed(seed)
    directions = (
        unit_probes(x, dims) if exact else random_probes(x, dims, probes, probe, seed, first)
    )
    settings = {"clock": clock, "rtol": rtol, "atol": atol, "grad": grad, "progress": progress}
    with torch.set_grad_enabled(grad):
        sol = DensityFlow(flow, directions, exact=exact, eps=start).solve(
            x, method, steps=steps, save="last", **settings
        )
        latents, integrals = sol.final[:, :dims], dims * sol.final[:, dims:]
        log_prob = flow.sde.prior_logp(latents) + integrals.mean(1)
        stderr = _stderr(integrals, exact=exact)
    latents = latents.reshape(x.shape)
    return Likelihood(log_prob, stderr, latents, sol.stats.nfe, flow.data_range)


def _check_grad(grad: bool, flow: ProbabilityFlow, x: Tensor) -> None:
    if not isinstance(grad, bool):
        raise InputError(
            f"grad = {grad!r}: expected True or False; a likelihood is differentiated through its "
            "solve only"
        )
    if grad and not (x.requires_grad or any(p.requires_grad for p in flow.parameters())):
        raise InputError(
            "grad=True: neither x nor any parameter of the score requires grad, so there is "
            "nothing to differentiate in: call x.requires_grad_() first"
        )


def _stderr(integrals: Tensor, *, exact: bool) -> Tensor:
    """The standard error of the mean of each row of (B, P)."""
    if exact:
        return torch.zeros_like(integrals[:, 0])
    if integrals.shape[1] == 1:
        return torch.full_like(integrals[:, 0], math.nan)
    return integrals.std(1) / math.sqrt(integrals.shape[1])


def dequantise(
    images: Tensor, *, seed: int | None = None, first: int = 0, data_range: Range = UNIT
) -> Tensor:
    """Turn images k / 255 in [0, 1] into (k + u) / 256 of the same shape, u uniform on [0, 1).

    The u of image i depends on (seed, first + i) only.

    Args:
        images: (B, C, H, W), in 256 levels.
        seed, first: of the u.
        data_range: where the result is wanted, such as `flow.data_range`; [0, 1] if left out.

    Raises:
        InputError: a value is outside [0, 1].
    """
    if float(images.min()) < 0 or float(images.max()) > 1:
        raise InputError(
            f"images from {float(images.min()):g} to {float(images.max()):g}: expected [0, 1]"
        )
    samples = numbered(first, len(images))
    table = NormalTable(checked_seed(seed), "dequantise")
    normal = table.rows(samples, 0, images.shape[1:], torch.float32, images.device)
    return from_unit(within_levels(images, torch.special.ndtr(normal).to(images)), data_range)
