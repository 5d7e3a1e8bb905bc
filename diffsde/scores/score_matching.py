r"""Denoising score matching: the loss by which a network learns the score.

With the weight λ(t) = s(t)² (arXiv 2011.13456, eq. 7),

    loss  =  E ‖ s(t) score(a(t) x(0) + s(t) z, t) + z ‖²,    z ~ N(0, I),

summed over pixels, with t uniform.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.scores.model import ScoreModel
from diffsde.system.wrapped import unwrapped

__all__ = ["SMALLEST_TIME", "score_matching_loss"]

SMALLEST_TIME = 1e-5  # in training, as in the tutorial: the loss is degenerate at t = 0


def score_matching_loss(
    model: ScoreModel, x: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Denoising score-matching loss of a batch x of shape (B, C, H, W): a scalar.

    Times are uniform on [1e-5, T]. The squared error is summed over pixels and averaged over
    the batch, so the expected loss of a network that returns zero is C·H·W (784 on 28 × 28).
    Source: arXiv 2011.13456, eq. 7 with λ = s².
    """
    # It is drawn on the CPU, so that a seed means the same on every device.
    sde = unwrapped(model).sde
    share = torch.rand(len(x), generator=generator, dtype=x.dtype).to(x.device)
    t = SMALLEST_TIME + (sde.T - SMALLEST_TIME) * share
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    mean, std = sde.marginal_prob(x, t)
    error = std * model(mean + std * z, t) + z
    loss: Tensor = error.square().flatten(1).sum(1).mean()
    return loss
