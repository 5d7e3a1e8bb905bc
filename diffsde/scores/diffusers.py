r"""Models of diffusers as scores, and scores as models for the schedulers of diffusers.

diffusers counts the steps k of a discrete schedule ᾱ_k with σ_k² = (1 − ᾱ_k) / ᾱ_k. Between
two of them, the step is interpolated in log σ. The models take x = √ᾱ (x(0) + σ z). diffusers
itself is not needed here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.reverse import Score
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError, name_list
from diffsde.scores.denoisers import DenoiserScore, to_denoiser

__all__ = ["from_diffusers", "to_diffusers"]

_PREDICTIONS = ("epsilon", "v_prediction", "sample")


def from_diffusers(model: Any, scheduler: Any, sde: SDE | None = None) -> DenoiserScore:
    """The score of a diffusers model and scheduler, in continuous time.

    Args:
        model: called (sample, timestep), such as a `UNet2DModel`. The scheduler's
            `prediction_type` says what it returns, as a tensor or as the `sample` of an object.
        scheduler: of any kind with `alphas_cumprod`, such as `DDPMScheduler`.
        sde: the forward process to solve; `VPSDE()` if left out, whose β are DDPM's. Any SDE
            will do, since only the noise level counts.
    """
    denoiser = _DiscreteDenoiser(model, _levels_of(scheduler), _prediction_of(scheduler))
    return DenoiserScore(denoiser, VPSDE() if sde is None else sde)


class _DiscreteDenoiser(nn.Module):
    """D(y, σ) from a model's output at the step whose noise level is σ."""

    def __init__(self, model: Any, levels: Tensor, prediction: str) -> None:
        super().__init__()
        self.model, self.levels, self.prediction = model, levels, prediction

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        steps = _interpolated(self.levels.log().to(sigma), sigma.log())
        level = expand(sigma, y)
        root = torch.sqrt(1 + level**2)  # 1 / √ᾱ
        output = with_graph(self._output, "model", y / root, steps)
        return self._clean(y, level, root, output)

    def _output(self, x: Tensor, steps: Tensor) -> Tensor:
        output = self.model(x, steps)
        found: Tensor = getattr(output, "sample", output)
        return found

    def _clean(self, y: Tensor, level: Tensor, root: Tensor, output: Tensor) -> Tensor:
        if self.prediction == "sample":
            return output
        if self.prediction == "epsilon":
            return y - level * output
        return y / root**2 - level / root * output


def to_diffusers(score: Score, sde: SDE, scheduler: Any) -> Callable[..., Any]:
    """A score as a model for a diffusers scheduler: called (sample, timestep).

    It returns an object whose `sample` is what `scheduler.step` takes, by its
    `prediction_type`.

    Args:
        score: ∇ log p_t, called (x, t).
        sde: its forward process, which must reach the scheduler's noise levels.
        scheduler: of any kind with `alphas_cumprod`.
    """
    denoise = to_denoiser(score, sde)
    levels = _levels_of(scheduler)
    prediction = _prediction_of(scheduler)

    def model(sample: Tensor, timestep: Any, **_: Any) -> SimpleNamespace:
        step = torch.as_tensor(timestep, device=sample.device).long().expand(len(sample))
        sigma = levels.to(sample)[step]
        level = expand(sigma, sample)
        root = torch.sqrt(1 + level**2)
        y = root * sample
        clean = denoise(y, sigma)
        noise = (y - clean) / level
        outputs = {
            "sample": clean,
            "epsilon": noise,
            "v_prediction": (noise - level * clean) / root,
        }
        return SimpleNamespace(sample=outputs[prediction])

    return model


def _levels_of(scheduler: Any) -> Tensor:
    """σ_k of each step of a schedule, (steps,)."""
    if not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"scheduler = {type(scheduler).__name__}: expected one with alphas_cumprod, such as "
            "DDPMScheduler.from_config(scheduler.config)"
        )
    alphas = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)
    return ((1 - alphas) / alphas).sqrt()


def _prediction_of(scheduler: Any) -> str:
    prediction = str(scheduler.config.prediction_type)
    if prediction not in _PREDICTIONS:
        raise InputError(f"prediction_type {prediction!r}: {name_list(prediction, _PREDICTIONS)}")
    return prediction


def _interpolated(grid: Tensor, value: Tensor) -> Tensor:
    """The fractional index of each value in a rising grid, (B,).

    2.5 is half way between grid[2] and grid[3]. Values beyond the grid get the index of its end.
    """
    after = torch.searchsorted(grid, value.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid[after - 1], grid[after]
    return after - 1 + ((value - low) / (high - low)).clamp(0, 1)
