"""What a recipe leaves to the data: how many samples are held out, their scale, a batch's size."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

from diffsde.data.images import ImageData
from diffsde.data.samples import Samples
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.training.recipes import WARM_UP, Recipe

__all__ = ["as_before", "held_out_of", "settled", "tell"]

_FEW = 1000  # fewer samples are made do with, and the user is told how
_USUAL = 2000  # updates, below which little is learned
_ONCE_HELD_OUT = 1000  # the default of older versions, a number


def settled(
    recipe: Recipe, data: Samples, parts: int = 1, start_from: ScoreModel | None = None
) -> Recipe:
    """The recipe with what it leaves open filled in; one that leaves nothing open is unchanged.

    Args:
        recipe: how to train.
        data: what to learn.
        parts: into how many parts a batch is divided.
        start_from: the model that the run starts from, whose scale is used.

    Raises:
        InputError: the recipe does not fit the data.
    """
    _check_kind(recipe, data)
    if recipe.classes:
        data.check_classes(recipe.classes)
    held_out = held_out_of(recipe.held_out, len(data))
    rest = len(data) - held_out
    if rest < parts:
        fewer = f", fewer than the {parts} parts of a batch" if parts > 1 else ""
        raise InputError(
            f"{len(data)} samples, {held_out} of them held out, leave {max(rest, 0)} to learn "
            f"from{fewer}: choose a smaller held_out, such as held_out = {Recipe.held_out:g}"
        )
    if rest < recipe.batch_size and rest >= _FEW:
        raise InputError(
            f"batch_size = {recipe.batch_size}, but there are {rest} samples to learn from, and "
            f"{held_out} held out: choose a smaller batch_size"
        )
    size = min(recipe.batch_size, rest - rest % parts)
    sigma_data = recipe.sigma_data or _scale(data, start_from)
    return replace(recipe, held_out=held_out, batch_size=size, sigma_data=sigma_data)


def tell(recipe: Recipe, found: Recipe, count: int) -> None:
    """Say, for a small set, what was set aside of it and what is left.

    Args:
        recipe: what was asked for.
        found: the same, settled.
        count: how many samples there are.
    """
    cut = found.batch_size < recipe.batch_size
    if not cut and (count >= _FEW or recipe.held_out == found.held_out):
        return
    rest = count - int(found.held_out)
    updates = found.epochs * (rest // found.batch_size)
    words = [
        f"{count} samples: {found.held_out:g} are set aside to choose among the averages "
        f"(held_out = {recipe.held_out:g}), and {rest} are learned from",
        f"in batches of {found.batch_size}",
    ]
    if cut:
        words[1] += f" (batch_size = {recipe.batch_size} is more)"
    if updates < _USUAL:
        enough = math.ceil(_USUAL / (rest // found.batch_size))
        words.append(
            f"epochs = {found.epochs} makes {updates} update{'s' * (updates > 1)}, and the "
            f"learning rate rises for the first {WARM_UP}: choose more epochs, such as epochs = "
            f"{enough}"
        )
    warnings.warn("; ".join(words), stacklevel=3)


def as_before(given: Recipe, saved: Recipe) -> Recipe:
    """The given recipe, with what it leaves open as in the saved one of a run to resume."""
    found = given
    if given.precision == "auto":
        found = replace(found, precision=saved.precision)
    if not given.sigma_data:
        found = replace(found, sigma_data=saved.sigma_data)
    if given.held_out == Recipe.held_out and saved.held_out == _ONCE_HELD_OUT:
        found = replace(found, held_out=saved.held_out)
    return found


def held_out_of(share: float, count: int) -> int:
    """How many of so many samples a recipe's `held_out` sets aside: a share, or from 1 a number."""
    return math.ceil(share * count) if share < 1 else int(share)


def _scale(data: Samples, start_from: ScoreModel | None) -> float:
    if start_from is not None:
        return start_from.preconditioning.sigma_data
    scale = float(f"{data.rms():.6g}")
    if not scale:
        raise InputError(f"{data.name}: all numbers are zero, so there is nothing to learn")
    return scale


def _check_kind(recipe: Recipe, data: Samples) -> None:
    if recipe.dequantise and not isinstance(data, ImageData):
        raise InputError(
            f"dequantise = True with {data.name}: expected 8-bit images, whose levels it blurs"
        )
    if recipe.mirror and len(data.shape) != 3:
        raise InputError(
            f"mirror = True with {data.name}, of shape {data.shape}: expected images, which have "
            "a left and a right"
        )
