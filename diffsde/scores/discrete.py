r"""Discrete schedules: a network that is told the number k of a step, in continuous time.

DDPM counts steps k with ᾱ_k, and its network is given x = √ᾱ_k (x(0) + σ_k z), whose noise level
is σ_k² = (1 − ᾱ_k) / ᾱ_k. Any process has these noise levels at some times, so only they count.
Between two steps, the step is interpolated in log σ, so the network is told a fractional one.

Source: Ho, Jain, Abbeel, arXiv 2006.11239; for zero terminal SNR, Lin et al., arXiv 2305.08891.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.preconditioning import (
    Coefficients,
    DenoisedPrediction,
    NoisePrediction,
    Preconditioning,
    VelocityPrediction,
)
from diffsde.system.host import on_host
from diffsde.system.parameters import finest_dtype

__all__ = ["PREDICTIONS", "StepLabel", "discrete_process", "levels_of_alphas", "step_of"]

PREDICTIONS: dict[str, type[Preconditioning]] = {
    "epsilon": NoisePrediction,
    "v_prediction": VelocityPrediction,
    "sample": DenoisedPrediction,
}
"""What the network of a discrete schedule may return, in the words of diffusers."""


@dataclass(frozen=True)
class StepLabel(Preconditioning):
    """A preconditioning by which the network is told the step of a discrete schedule.

    Attributes:
        base: what the network is given, and what its output means.
        levels: σ_k of each step k.
    """

    base: Preconditioning = field(default_factory=partial(NoisePrediction, 1.0))
    levels: tuple[float, ...] = ()

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        level = sde.noise_level(t)
        finest = finest_dtype(t.device)
        label = step_of(level, on_host(self.levels, finest).to(t.device))
        return self.base.coefficients(sde, t)._replace(label=label.to(t.dtype))


def discrete_process(alphas: Any, prediction: str) -> tuple[SDE, StepLabel]:
    """The process that spans the noise levels of a schedule, and what its network's output means.

    Args:
        alphas: ᾱ_k, (steps,), falling.
        prediction: a key of `PREDICTIONS`.

    Raises:
        InputError: the schedule is that of no process, see `levels_of_alphas`.
    """
    alphas = _numbers(alphas)
    if prediction != "epsilon" and alphas.dim() == 1 and len(alphas) > 2 and float(alphas[-1]) == 0:
        warnings.warn(
            f"alphas_cumprod reaches 0 at step {len(alphas) - 1}, where the noise level is "
            f"infinite: solves begin at step {len(alphas) - 2}, the last with a finite one",
            stacklevel=4,
        )
        alphas = alphas[:-1]
    levels = levels_of_alphas(alphas)
    # Data of unit variance: then the network is given √ᾱ (x(0) + σ z), whatever the process.
    base = PREDICTIONS[prediction](1.0)
    eps, end = VPSDE().time_of_noise_level(levels[[0, -1]]).tolist()
    return VPSDE(T=end, eps=eps), StepLabel(1.0, base, tuple(levels.tolist()))


def levels_of_alphas(alphas: Any) -> Tensor:
    """σ_k of each ᾱ_k, (steps,), float64, rising.

    Raises:
        InputError: σ is zero, infinite or falls somewhere, or there are fewer than two steps.
    """
    alphas = _numbers(alphas)
    if alphas.dim() != 1 or len(alphas) < 2:
        raise InputError(f"alphas_cumprod of shape {tuple(alphas.shape)}: expected (steps,), ≥ 2")
    if float(alphas[-1]) == 0 and bool((alphas[:-1] > 0).all()):
        raise InputError(
            f"alphas_cumprod reaches 0 at step {len(alphas) - 1} (rescale_betas_zero_snr), where "
            "nothing of the data is left and the noise level is infinite, and a network that "
            "predicts the noise says nothing of the data there: leave that step out, "
            "alphas_cumprod[:-1]"
        )
    if not bool(((alphas > 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
        raise InputError(
            f"alphas_cumprod from {float(alphas[0]):g} to {float(alphas[-1]):g}: expected numbers "
            "between 0 and 1 that fall from step to step"
        )
    return ((1 - alphas) / alphas).sqrt()


def _numbers(alphas: Any) -> Tensor:
    try:
        return on_host(alphas, torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"alphas_cumprod = {alphas!r:.60}: expected numbers (steps,)") from error


def step_of(level: Tensor, levels: Tensor) -> Tensor:
    """The fractional step of each noise level, of level's shape, in the dtype of `levels`.

    2.5 is half way between levels[2] and levels[3], in the logarithm. Noise levels beyond the
    first or the last step get that step.
    """
    value, grid = level.to(levels).log(), levels.log()
    after = torch.searchsorted(grid, value.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid.take(after - 1), grid.take(after)  # by [after] the host would read a number
    return after - 1 + ((value - low) / (high - low)).clamp(0, 1)
