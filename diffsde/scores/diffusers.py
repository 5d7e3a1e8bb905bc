r"""Models of diffusers as scores, and scores as models for the schedulers of diffusers.

`schedulers` tells what a scheduler says of a network, and `pipeline_network` calls the network.
diffusers itself is not needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.equations.reverse import Score
from diffsde.scores.denoisers import to_denoiser
from diffsde.scores.model import ScoreModel
from diffsde.scores.pipeline_network import PipelineNetwork
from diffsde.scores.schedulers import levels_of, meaning_of, prediction_of

__all__ = ["from_diffusers", "to_diffusers"]


def from_diffusers(
    model: Any, scheduler: Any, sde: SDE | None = None, *, shape: Sequence[int] | None = None
) -> ScoreModel:
    """The score of a network and a scheduler of diffusers, in continuous time.

        model = from_diffusers(pipeline.unet, pipeline.scheduler)
        sol = model.sample(16, seed=0)

    Args:
        model: a `UNet2DModel`, with or without classes, a `DiTTransformer2DModel`, or anything
            called (sample, timestep) that returns a tensor or an object with `sample`. A
            learned variance is left out.
        scheduler: says how the network was trained: one with `alphas_cumprod`, such as
            `DDPMScheduler`, or one of EDM, of the score SDE or of Karras's VE process
            (`diffsde.scores.schedulers`).
        sde: the forward process to solve, by default the one that the scheduler tells of. Any
            SDE will do whose noise levels the network knows, since only these count.
        shape: of one sample, where the network does not say it. Without one the score can be
            called and solved for, but has no `sample`, `flow` and `reverse`.

    Raises:
        InputError: the network or the scheduler is of another kind.
    """
    network, meaning = PipelineNetwork(model), meaning_of(scheduler)
    shape = network.shape if shape is None else shape
    process = meaning.sde if sde is None else sde
    score = ScoreModel(network, process, shape or (1,), meaning.preconditioning, meaning.data_range)
    if shape is None:  # the score can be called, but `sample` and its like need to know
        score.shape = None  # type: ignore[assignment]
    return score


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
    levels = levels_of(scheduler)
    prediction = prediction_of(scheduler)

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
