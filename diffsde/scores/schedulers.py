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
scheduler, its clipping and its thresholding are a matter of solving.

`KarrasVe` scales between its pipeline's [−1, 1] and the network's [0, 1] at every call, so its
noise levels are halved here. diffusers itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.equations.ranges import UNIT, Range
from diffsde.equations.straight import StraightSDE
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.errors import InputError, name_list
from diffsde.scores.discrete import PREDICTIONS, discrete_process, levels_of_alphas
from diffsde.scores.preconditioning import (
    EDM,
    FlowPrediction,
    Preconditioning,
    ScorePrediction,
    VelocityPrediction,
)
from diffsde.system.numbers import real_number, whole_number

__all__ = ["Meaning", "levels_of", "meaning_of", "prediction_of"]

_SYMMETRIC: Range = (-1.0, 1.0)


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


def _discrete(scheduler: Any) -> Meaning:
    alphas, prediction = _alphas_of(scheduler), prediction_of(scheduler)
    return Meaning(*discrete_process(alphas, prediction), _SYMMETRIC)


def levels_of(scheduler: Any) -> Tensor:
    """σ_k of each step of a discrete schedule, (steps,), float64, rising.

    Raises:
        InputError: the scheduler has no such schedule, or one in which σ is zero, infinite or
            falls.
    """
    return levels_of_alphas(_alphas_of(scheduler))


def _alphas_of(scheduler: Any) -> Any:
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise InputError(
            f"scheduler = {type(scheduler).__name__}: expected one with alphas_cumprod, such as "
            f"DDPMScheduler.from_config(scheduler.config), or one of {', '.join(_MEANINGS)}"
        )
    return alphas


def prediction_of(scheduler: Any) -> str:
    """What the network of a discrete schedule returns: "epsilon", "v_prediction" or "sample".

    Raises:
        InputError: something else, or it is not told the step.
    """
    config = getattr(scheduler, "config", None)
    prediction = str(getattr(config, "prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise InputError(f"prediction_type {prediction!r}: {name_list(prediction, PREDICTIONS)}")
    told = getattr(config, "timestep_type", "discrete")
    if told != "discrete":
        raise InputError(f"timestep_type {told!r}: expected 'discrete', the number of a step")
    return prediction


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


def _flow(config: Any) -> Meaning:
    if getattr(config, "invert_sigmas", False):
        raise InputError("invert_sigmas = True: expected a flow from noise at t = 1 to data at 0")
    steps = whole_number(getattr(config, "num_train_timesteps", 1000), "num_train_timesteps")
    return Meaning(StraightSDE(), FlowPrediction(1.0, float(steps)), _SYMMETRIC)


_MEANINGS: dict[str, Callable[[Any], Meaning]] = {
    "ScoreSdeVeScheduler": _score_sde,
    "KarrasVeScheduler": _karras,
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": _edm,
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _flow,
}
