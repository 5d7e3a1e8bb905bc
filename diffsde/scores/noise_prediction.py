r"""Networks of DDPM, which predict the noise at a step of a discrete schedule, as scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from diffsde.equations.ranges import Range, checked_range
from diffsde.scores.diffusers import from_diffusers
from diffsde.scores.model import ScoreModel

__all__ = ["from_noise_prediction"]


def from_noise_prediction(
    model: Callable[[Tensor, Tensor], Tensor],
    alphas_cumprod: Any,
    *,
    shape: Sequence[int] | None = None,
    data_range: Range = (-1.0, 1.0),
) -> ScoreModel:
    """The score of a network that predicts the noise at a step of DDPM, with its process.

        alphas = torch.cumprod(1 - betas, 0)
        model = from_noise_prediction(network, alphas, shape=(3, 32, 32))
        sol = model.sample(16, seed=0)

    Args:
        model: called (x, k), with x = √ᾱ_k x(0) + √(1 − ᾱ_k) z of shape (B, *shape) and the step k,
            (B,), from 0; returns E[z | x]. Between two steps k is fractional. If the network looks
            k up in a table, round it: `lambda x, k: network(x, k.round().long())`.
        alphas_cumprod: ᾱ_k, (steps,), between 0 and 1 and falling.
        shape: of one sample; `sample`, `flow` and `reverse` need it.
        data_range: the values of black and of white; (−1, 1), in which DDPM has its images, if
            left out.

    Returns:
        A score whose process, a `VPSDE`, spans the noise levels of the schedule exactly.

    Raises:
        InputError: an argument does not fit; ᾱ reaches 0 or does not fall.
    """
    config = SimpleNamespace(prediction_type="epsilon")
    schedule = SimpleNamespace(alphas_cumprod=alphas_cumprod, config=config)
    score = from_diffusers(model, schedule, shape=shape)
    score.data_range = checked_range(data_range)
    return score
