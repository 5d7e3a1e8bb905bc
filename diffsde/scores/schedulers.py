r"""What a scheduler of diffusers says of a network: its process, and what its output means.

| schedulers                   | process                  | the network is told | returns         |
|------------------------------|--------------------------|---------------------|-----------------|
| DDPM, DDIM, PNDM, Euler,     | x = √ᾱ (x(0) + σ z) with | the step k          | z, v or x(0)    |
| Heun, DPM-Solver, UniPC, …   | σ_k² = (1 − ᾱ_k) / ᾱ_k   |                     |                 |
| EDMEuler, EDMDPMSolver       | x = x(0) + σ z           | ¼ ln σ              | F of EDM, or −F |
| ScoreSdeVe, KarrasVe         | x = x(0) + σ z           | σ                   | the score       |
| FlowMatchEuler, …Heun        | x = (1 − t) x(0) + t z   | 1000 t              | z − x(0)        |

ScoreSdeVe and KarrasVe have data in [0, 1], the others in [−1, 1]. The noise level of the last row
is σ = t / (1 − t); flow matching begins at t = 0.999 here, since σ is infinite at t = 1.

Only the noise levels, the first and the last of them, are taken from a schedule. The steps of the
scheduler, its clipping and its thresholding are a matter of solving. Between two steps of a
discrete schedule, the step is interpolated in log σ.

`KarrasVe` scales between its pipeline's [−1, 1] and the network's [0, 1] at every call, so its
noise levels are halved here. diffusers itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.equations.ranges import UNIT, Range
from diffsde.equations.schedule import ScheduleSDE
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError, name_list
from diffsde.scores.preconditioning import (
    EDM,
    Coefficients,
    DenoisedPrediction,
    NoisePrediction,
    Preconditioning,
    ScorePrediction,
    VelocityPrediction,
)
from diffsde.system.numbers import real_number, whole_number

__all__ = ["Meaning", "levels_of", "meaning_of", "prediction_of", "step_of"]

_SYMMETRIC: Range = (-1.0, 1.0)
_PREDICTIONS: dict[str, type[Preconditioning]] = {
    "epsilon": NoisePrediction,
    "v_prediction": VelocityPrediction,
    "sample": DenoisedPrediction,
}


class Meaning(NamedTuple):
    """The process on which a network was trained, what its output means, and the data's range."""

    sde: SDE
    preconditioning: Preconditioning
    data_range: Range


def meaning_of(scheduler: Any) -> Meaning:
    """What a scheduler says of the network that it belongs to.

    Args:
        scheduler: an object of diffusers, or any with `alphas_cumprod` and with
            `config.prediction_type`.

    Raises:
        InputError: it is none of these, or its noise levels are not those of a process.
    """
    for base in type(scheduler).__mro__:
        if base.__name__ in _MEANINGS:
            return _MEANINGS[base.__name__](scheduler.config)
    if getattr(getattr(scheduler, "config", None), "prediction_type", None) == "flow_prediction":
        return _flow(scheduler.config)  # whatever discrete schedule it has beside
    return _discrete(scheduler)


# -- discrete schedules ----------------------------------------------------------------------


@dataclass(frozen=True)
class _StepLabel(Preconditioning):
    """A preconditioning by which the network is told the step of a discrete schedule.

    Attributes:
        base: what the network is given, and what its output means.
        levels: σ_k of each step k.
    """

    base: Preconditioning = field(default_factory=partial(NoisePrediction, 1.0))
    levels: tuple[float, ...] = ()

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        level = sde.noise_level(t)
        label = step_of(level, torch.tensor(self.levels, dtype=torch.float64, device=t.device))
        return self.base.coefficients(sde, t)._replace(label=label.to(t.dtype))


def _discrete(scheduler: Any) -> Meaning:
    levels, prediction = levels_of(scheduler), prediction_of(scheduler)
    # Data of unit variance: then the network is given √ᾱ (x(0) + σ z), whatever the process.
    base = _PREDICTIONS[prediction](1.0)
    eps, end = VPSDE().time_of_noise_level(levels[[0, -1]]).tolist()
    return Meaning(VPSDE(T=end, eps=eps), _StepLabel(1.0, base, tuple(levels.tolist())), _SYMMETRIC)


def levels_of(scheduler: Any) -> Tensor:
    """σ_k of each step of a discrete schedule, (steps,), float64, rising.

    Raises:
        InputError: the scheduler has no such schedule, or one in which σ is zero, infinite or
            falls.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise InputError(
            f"scheduler = {type(scheduler).__name__}: expected one with alphas_cumprod, such as "
            f"DDPMScheduler.from_config(scheduler.config), or one of {', '.join(_MEANINGS)}"
        )
    alphas = torch.as_tensor(alphas, dtype=torch.float64).detach().cpu()
    if alphas.dim() != 1 or len(alphas) < 2:
        raise InputError(f"alphas_cumprod of shape {tuple(alphas.shape)}: expected (steps,), ≥ 2")
    if float(alphas[-1]) == 0 and bool((alphas[:-1] > 0).all()):
        raise InputError(
            f"alphas_cumprod reaches 0 at step {len(alphas) - 1} (rescale_betas_zero_snr), where "
            "nothing of the data is left and the noise level is infinite: leave that step out, "
            "SimpleNamespace(alphas_cumprod=scheduler.alphas_cumprod[:-1], config=scheduler.config)"
            " in place of the scheduler"
        )
    if not bool(((alphas > 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
        raise InputError(
            f"alphas_cumprod from {float(alphas[0]):g} to {float(alphas[-1]):g}: expected numbers "
            "between 0 and 1 that fall from step to step"
        )
    return ((1 - alphas) / alphas).sqrt()


def prediction_of(scheduler: Any) -> str:
    """What the network of a discrete schedule returns: "epsilon", "v_prediction" or "sample".

    Raises:
        InputError: something else, or it is not told the step.
    """
    config = getattr(scheduler, "config", None)
    prediction = str(getattr(config, "prediction_type", "epsilon"))
    if prediction not in _PREDICTIONS:
        raise InputError(f"prediction_type {prediction!r}: {name_list(prediction, _PREDICTIONS)}")
    told = getattr(config, "timestep_type", "discrete")
    if told != "discrete":
        raise InputError(f"timestep_type {told!r}: expected 'discrete', the number of a step")
    return prediction


def step_of(level: Tensor, levels: Tensor) -> Tensor:
    """The fractional step of each noise level, of level's shape, float64.

    2.5 is half way between levels[2] and levels[3], in the logarithm. Noise levels beyond the
    first or the last step get that step.
    """
    value, grid = level.to(levels).log(), levels.log()
    after = torch.searchsorted(grid, value.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid[after - 1], grid[after]
    return after - 1 + ((value - low) / (high - low)).clamp(0, 1)


# -- continuous ones -------------------------------------------------------------------------


def _between(config: Any, factor: float = 1.0) -> EDMSDE:
    """The process x = x(0) + σ z between the noise levels of a config."""
    low, high = (
        factor * real_number(getattr(config, name, None), name, "a positive number")
        for name in ("sigma_min", "sigma_max")
    )
    if not 0 < low < high:
        raise InputError(f"sigma_min = {low:g}, sigma_max = {high:g}: expected 0 < low < high")
    return EDMSDE(T=high, eps=low)


def _edm(config: Any) -> Meaning:
    kinds: dict[str, type[Preconditioning]] = {"epsilon": EDM, "v_prediction": VelocityPrediction}
    prediction = str(getattr(config, "prediction_type", "epsilon"))
    if prediction not in kinds:
        raise InputError(f"prediction_type {prediction!r}: {name_list(prediction, kinds)}")
    data = real_number(getattr(config, "sigma_data", 0.5), "sigma_data", "a positive number")
    return Meaning(_between(config), kinds[prediction](data), _SYMMETRIC)


def _score_sde(config: Any) -> Meaning:
    return Meaning(_between(config), ScorePrediction(), UNIT)


def _karras(config: Any) -> Meaning:
    return Meaning(_between(config, 0.5), ScorePrediction(), UNIT)


# -- straight paths --------------------------------------------------------------------------


@dataclass(frozen=True)
class _StraightVelocity(Preconditioning):
    """The network returns E[z − x(0)], given x = (1 − t) x(0) + t z and a multiple of t.

    Attributes:
        steps: how large a label is at t = 1.
    """

    steps: float = 1000.0

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        scale, std = sde.marginal_scale(t), sde.marginal_std(t)
        rest = 1 / (1 + std / scale)  # 1 − t of the straight path with this noise level
        return Coefficients(
            rest / scale,
            self.steps * (1 - rest),
            rest / scale,
            rest - 1,
            -rest / (scale * std),
            -rest / std,
        )


def _straight_level(t: Tensor) -> Tensor:
    return t / (1 - t)


def _straight_scale(t: Tensor) -> Tensor:
    return 1 - t


def _flow(config: Any) -> Meaning:
    if getattr(config, "invert_sigmas", False):
        raise InputError("invert_sigmas = True: expected a flow from noise at t = 1 to data at 0")
    steps = whole_number(getattr(config, "num_train_timesteps", 1000), "num_train_timesteps")
    sde = ScheduleSDE(_straight_level, _straight_scale, T=0.999, eps=1e-3)
    return Meaning(sde, _StraightVelocity(1.0, float(steps)), _SYMMETRIC)


_MEANINGS: dict[str, Callable[[Any], Meaning]] = {
    "ScoreSdeVeScheduler": _score_sde,
    "KarrasVeScheduler": _karras,
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": _edm,
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _flow,
}
