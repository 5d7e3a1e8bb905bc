r"""Conventions: how levels become numbers that have a density, and so bits.

A model has a density and images of 256 levels have none, so something must be said about where in
its level a pixel lies. Each convention bounds the same quantity from above, the bits/dim of the
levels themselves, −log₂ P(k) / D:

| name               | the image                                  | its cost                       |
|--------------------|--------------------------------------------|--------------------------------|
| "uniform"          | (k + u) / 256, u uniform on [0, 1)         | 8 − log₂ p(x) / D              |
| "truncated-normal" | a k/255 + s(ε) z, z normal, cut off half a | −log₂ p_ε(x) / D less the      |
|                    | level away                                 | entropy of s(ε) z              |
| "variational"      | k/255 itself                               | `variational_bound`            |

The first is that of most published figures, and needs a model that was trained on such images. The
second adds the noise that the model was trained on at ε, so it needs a model of images k/255; it is
arXiv 2305.03935, section 4.2. The third is arXiv 2107.00630, and the only one whose bits are those
of a lossless code as it stands. The first two solve the probability flow.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsde.analysis.density_flow import checked_start
from diffsde.analysis.likelihood import dequantise, level_bits, log_likelihood
from diffsde.analysis.variational import bound_start, check_levels, variational_bound
from diffsde.data.images import LEVELS
from diffsde.equations.counted import says_of
from diffsde.equations.ranges import from_unit
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError, name_list
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import checked_seed, numbered
from diffsde.solvers.settings import full_settings
from diffsde.system.host import on_host

__all__ = ["CONVENTIONS", "Convention", "conventions_of", "find_convention", "noisy_levels"]


class Convention(NamedTuple):
    """How the bits of images are counted.

    Attributes:
        log_prob: (flow, images k / 255, seed=, first=, **settings) -> (B,) log-densities in nats,
            or log-probabilities, and the evaluations of the score.
        offset: (flow, ε) -> bits/dim of an image whose `log_prob` is zero.
        start: (flow, eps or None) -> ε, at which images are taken.
        settings: (given settings) -> all that a result depends on, or an InputError.
    """

    log_prob: Callable[..., tuple[Tensor, int]]
    offset: Callable[[ProbabilityFlow, float], float]
    start: Callable[[ProbabilityFlow, float | None], float]
    settings: Callable[[Mapping[str, Any]], dict[str, Any]]


def conventions_of(score: Any) -> list[str]:
    """The names of the conventions that suit a score, the usual one first.

    A network that knows the levels k / 255 has almost no density between them.
    """
    if says_of(score, "pixel_levels", 0):
        return ["variational", "truncated-normal"]
    return list(CONVENTIONS)


def find_convention(name: str | None, score: Any) -> str:
    """The name of a convention for this score: that given, or else the usual one.

    It is "variational" for a network that knows the levels k / 255, and "uniform" for others.

    Raises:
        InputError: there is none of this name, or it is "uniform" and the network knows levels.
    """
    suited = conventions_of(score)
    if name is None:
        return suited[0]
    if name not in CONVENTIONS:
        raise InputError(f"convention = {name!r}: {name_list(str(name), list(CONVENTIONS))}")
    if name not in suited:
        raise InputError(
            f'convention = "{name}" with a network that knows the levels k / 255: dequantised '
            "images lie between them, where it has almost no density; expected "
            '"variational", the usual one of such a network, or "truncated-normal"'
        )
    return name


def _uniform(
    flow: ProbabilityFlow, images: Tensor, *, seed: int, first: int, **settings: Any
) -> tuple[Tensor, int]:
    x = dequantise(images, seed=seed, first=first, data_range=flow.data_range)
    found = log_likelihood(flow, x, seed=seed, first=first, **settings)
    return found.log_prob, found.nfe


def _truncated_normal(
    flow: ProbabilityFlow, images: Tensor, *, seed: int, first: int, **settings: Any
) -> tuple[Tensor, int]:
    x = noisy_levels(flow, images, eps=settings.get("eps"), seed=seed, first=first)
    found = log_likelihood(flow, x, seed=seed, first=first, **settings)
    return found.log_prob, found.nfe


def _variational(flow: ProbabilityFlow, images: Tensor, **settings: Any) -> tuple[Tensor, int]:
    found = variational_bound(flow, images, **settings)
    return found.log_prob, found.nfe


def noisy_levels(
    flow: ProbabilityFlow,
    images: Tensor,
    *,
    eps: float | None = None,
    seed: int | None = None,
    first: int = 0,
) -> Tensor:
    """States at ε of images k / 255, of their shape, with noise that stays within their levels.

    Args:
        flow: whose SDE has the noise, and whose data have the range.
        images: (B, C, H, W), levels k / 255 in [0, 1].
        eps: their time; the SDE's own ε if left out.
        seed, first: the noise of image i depends on (seed, first + i) only.

    Raises:
        InputError: a value of the images is no level.
    """
    check_levels(images, flow)
    scale, std, cut = _noise_at(flow, checked_start(flow, eps))
    table = NormalTable(checked_seed(seed), "dequantise")
    samples = numbered(first, len(images))
    normal = table.rows(samples, 0, images.shape[1:], torch.float64)
    below = torch.special.ndtr(on_host(-cut, torch.float64))
    noise = torch.special.ndtri(below + (1 - 2 * below) * torch.special.ndtr(normal))
    return scale * from_unit(images, flow.data_range) + std * noise.to(images)


def _noise_at(flow: ProbabilityFlow, eps: float) -> tuple[float, float, float]:
    """a and s at ε, and half a level in stds of the noise."""
    t = on_host(eps, torch.float64)
    scale, std = float(flow.sde.marginal_scale(t)), float(flow.sde.marginal_std(t))
    low, high = flow.data_range
    return scale, std, scale * (high - low) / (2 * (LEVELS - 1)) / std


def _entropy_bits(flow: ProbabilityFlow, eps: float) -> float:
    """Minus the entropy of the cut noise, in bits: what the bits of its density are too many."""
    _, std, cut = _noise_at(flow, eps)
    inside = math.erf(cut / math.sqrt(2))
    density = math.exp(-0.5 * cut**2) / math.sqrt(2 * math.pi)
    entropy = math.log(math.sqrt(2 * math.pi * math.e) * std * inside) - cut * density / inside
    return -entropy / math.log(2)


def _known(function: Callable[..., Any]) -> dict[str, Any]:
    """The settings of a function of flow and images, with their defaults."""
    ours = {"flow", "x", "images", "seed", "first", "progress"}
    parameters = inspect.signature(function).parameters.items()
    return {name: parameter.default for name, parameter in parameters if name not in ours}


def _checked(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in known:
            raise InputError(f"{name}: {name_list(name, list(known))} for this convention")
    return {**known, **given}


def _of_flows(given: Mapping[str, Any]) -> dict[str, Any]:
    settings = _checked(given, _FLOW_SETTINGS)
    solver = {key: settings[key] for key in ("method", "steps", "clock", "rtol", "atol")}
    return {**settings, **full_settings(kind="ode", **solver), "save": "last"}


def _of_bounds(given: Mapping[str, Any]) -> dict[str, Any]:
    return _checked(given, _BOUND_SETTINGS)


_FLOW_SETTINGS = _known(log_likelihood)
_BOUND_SETTINGS = _known(variational_bound)

CONVENTIONS: dict[str, Convention] = {
    "uniform": Convention(
        _uniform, lambda flow, _eps: level_bits(flow.data_range), checked_start, _of_flows
    ),
    "truncated-normal": Convention(_truncated_normal, _entropy_bits, checked_start, _of_flows),
    "variational": Convention(_variational, lambda _flow, _eps: 0.0, bound_start, _of_bounds),
}
