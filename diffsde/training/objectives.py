r"""Objectives: what training minimises.

Every objective is a weighted error of the denoiser D at random times,

    loss  =  E  w(σ) ‖ D(a x(0) + s z, t) − x(0) ‖²,     σ = s / a,

summed over pixels. Objectives differ in how t is drawn and in w (`OBJECTIVES`):

| name         | t                                | w(σ)             | source, arXiv         |
|--------------|----------------------------------|------------------|-----------------------|
| "uniform"    | uniform on [smallest_time, T]    | 1/σ²             | 2011.13456, eq. 7     |
| "lognormal"  | ln σ ~ N(level_mean, level_std²) | 1/σ² + 1/σ_data² | 2206.00364, table 1   |
| "likelihood" | ln σ uniform over its range      | 1/σ²             | 2101.09258, sec. 4.3  |
| "flow"       | uniform on [smallest_time, T]    | (1 + 1/σ)²       | 2210.02747, eq. 9     |
| "flow-logit-normal" | as "lognormal"            | (1 + 1/σ)²       | 2403.03206, sec. 3.1  |

The first, with smallest_time = 1e-5, is `score_matching_loss`. The third is the bound on the
log-likelihood, λ(t) = g(t)², with importance sampling: since dσ²/dt = g²/a² for every linear
forward process, ln σ is uniform at its times. A network that returns zero scores the number of
pixels in the first and the third, and about that in the second.

The last two are conditional flow matching, E ‖v − (z − x(0))‖². For since z = (x − a x(0)) / s, an
error of the denoiser is one of the velocity times 1 + 1/σ. On a `StraightSDE`, ln σ is the logit of
t, so a log-normal σ is a logit-normal t, with mean 0 and std 1 in arXiv 2403.03206. If the recipe
says so, noise and images are coupled first (`coupling`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffsde.data.images import within_levels
from diffsde.equations.forward import SDE, expand
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.training.coupling import COUPLINGS

if TYPE_CHECKING:
    from diffsde.training.recipes import Recipe

__all__ = ["OBJECTIVES", "Objective", "Target", "numbers_per_image", "training_loss"]

# (x(t), t) -> the image that the denoiser should return.
Target = Callable[[Tensor, Tensor], Tensor]


def _uniform_times(recipe: Recipe, sde: SDE, normal: Tensor) -> Tensor:
    first = recipe.smallest_time
    return first + (sde.T - first) * torch.special.ndtr(normal)


def _lognormal_times(recipe: Recipe, sde: SDE, normal: Tensor) -> Tensor:
    log_level = recipe.level_mean + recipe.level_std * normal
    ends = sde.log_level_range(recipe.smallest_time)
    return sde.time_of_noise_level(log_level.clamp(*ends).exp())


def _loguniform_times(recipe: Recipe, sde: SDE, normal: Tensor) -> Tensor:
    low, high = sde.log_level_range(recipe.smallest_time)
    return sde.time_of_noise_level((low + (high - low) * torch.special.ndtr(normal)).exp())


def _noise_weight(_recipe: Recipe, sigma: Tensor) -> Tensor:
    return 1 / sigma**2


def _edm_weight(recipe: Recipe, sigma: Tensor) -> Tensor:
    if not recipe.sigma_data:
        raise InputError("sigma_data = 0: a loss needs the data's scale; `train` measures it")
    return 1 / sigma**2 + 1 / recipe.sigma_data**2


def _flow_weight(_recipe: Recipe, sigma: Tensor) -> Tensor:
    return (1 + 1 / sigma) ** 2


class Objective(NamedTuple):
    """How times are drawn, and how errors are weighted.

    Attributes:
        times: (recipe, sde, normal) -> t, both of shape (B,): turns standard normal numbers
            into times with the objective's law.
        weight: (recipe, σ) -> w(σ), both of shape (B,).
    """

    times: Callable[[Recipe, SDE, Tensor], Tensor]
    weight: Callable[[Recipe, Tensor], Tensor]


OBJECTIVES: dict[str, Objective] = {
    "uniform": Objective(_uniform_times, _noise_weight),
    "lognormal": Objective(_lognormal_times, _edm_weight),
    "likelihood": Objective(_loguniform_times, _noise_weight),
    "flow": Objective(_uniform_times, _flow_weight),
    "flow-logit-normal": Objective(_lognormal_times, _flow_weight),
}


def numbers_per_image(shape: tuple[int, ...], recipe: Recipe) -> int:
    """How many normal numbers the recipe's loss needs for an image of that shape."""
    return 2 + math.prod(shape) * (2 if recipe.dequantise else 1) + recipe.mirror


def training_loss(
    model: ScoreModel,
    x: Tensor,
    recipe: Recipe,
    numbers: Tensor,
    class_label: Tensor | None = None,
    target: Target | None = None,
) -> Tensor:
    """The recipe's objective on a batch: a scalar, in pixels.

    Args:
        model: the model in training.
        x: images, (B, C, H, W).
        recipe: names the objective and its constants.
        numbers: (B, n) standard normal numbers, n = `numbers_per_image`. For each image the
            first chooses its time, the second decides whether its label is dropped, and the
            next C·H·W are its noise z. If the recipe dequantises, as many more place each pixel
            within its level; if it mirrors, the last one decides whether to mirror the image.
        class_label: (B,); a share of them, the recipe's class_dropout, is dropped.
        target: what the denoiser learns instead of x, with the same mean given x(t).

    Raises:
        InputError: `numbers` has another shape.
    """
    n = numbers_per_image(tuple(x.shape[1:]), recipe)
    if numbers.shape != (len(x), n):
        raise InputError(
            f"numbers of shape {tuple(numbers.shape)} for images {tuple(x.shape)}: expected "
            f"({len(x)}, {n})"
        )
    objective = OBJECTIVES[recipe.objective]
    t = objective.times(recipe, model.sde, numbers[:, 0])
    pixels = numbers[:, 2 : n - recipe.mirror].split(x[0].numel(), 1)
    z, *places = (part.reshape(x.shape) for part in pixels)
    x = _augmented(x, recipe, numbers[:, -1], places)
    z = COUPLINGS[recipe.coupling](x, z)
    if class_label is not None:
        dropped = torch.special.ndtr(numbers[:, 1]) < recipe.class_dropout
        class_label = class_label.masked_fill(dropped, -1)
    mean, std = model.sde.marginal_prob(x, t)
    noisy = mean + std * z
    wanted = x if target is None else target(noisy, t)
    error = model.denoise(noisy, t, class_label) - wanted
    weight = expand(objective.weight(recipe, model.sde.noise_level(t)), x)
    weighted: Tensor = weight * error.square()
    return weighted.flatten(1).sum(1).mean()


def _augmented(x: Tensor, recipe: Recipe, side: Tensor, places: list[Tensor]) -> Tensor:
    """Mirror the images where `side` is positive, and dequantise, if the recipe says so."""
    if recipe.mirror:
        x = torch.where(expand(side, x) > 0, x.flip(-1), x)
    if recipe.dequantise:
        x = within_levels(x, torch.special.ndtr(places[0]))
    return x
