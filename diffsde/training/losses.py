"""The recipe's loss on images of a data set, in the recipe's precision."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffsde.data.samples import Samples
from diffsde.scores.model import ScoreModel
from diffsde.system.autocast import autocast, has_autocast
from diffsde.system.clock import seconds_on
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image, training_loss
from diffsde.training.recipes import Recipe
from diffsde.training.teacher import Teacher

__all__ = ["fastest_precision", "loss_of_images"]


def loss_of_images(
    model: ScoreModel,
    data: Samples,
    index: Tensor,
    recipe: Recipe,
    numbers: Tensor,
    teacher: Teacher | None = None,
) -> Tensor:
    """The loss on the images with these indices, computed on the model's device.

    Args:
        model: the model in training.
        data: where the images and their labels are.
        index: (B,).
        recipe: the objective, the precision, and whether class labels are given.
        numbers: (B, n) standard normal numbers, as `training_loss` takes them.
        teacher: what the model learns from, if not from the images.
    """
    device = next(model.network.parameters()).device
    labels = data.labels[index].to(device) if recipe.classes and data.labels is not None else None
    # Not accelerate's mixed precision: that is one setting for everything in a process.
    with autocast(device, bfloat16=recipe.precision == "bfloat16"):
        x, target = data.batch(index).to(device), teacher.target(index) if teacher else None
        return training_loss(model, x, recipe, numbers.to(device), labels, target)


def fastest_precision(model: ScoreModel, data: Samples, recipe: Recipe, positions: range) -> str:
    """Time these positions' part of an update in both precisions, and return the faster one.

    It is float32 without a trial on a device for which torch has no autocast.
    """
    place = next(model.network.parameters()).device
    if not has_autocast(place):
        return "float32"
    index = torch.arange(len(positions), device="cpu")
    noise = TrainingNoise(0, "training", numbers_per_image(data.shape, recipe))
    numbers, seconds = noise.draw(0, positions, place), {}
    for precision in ("float32", "bfloat16"):
        tried = replace(recipe, precision=precision)
        times = []
        for _ in range(4):
            started = seconds_on(place)
            loss_of_images(model, data, index, tried, numbers).backward()
            times.append(seconds_on(place) - started)
        seconds[precision] = min(times[1:])
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda precision: seconds[precision])
