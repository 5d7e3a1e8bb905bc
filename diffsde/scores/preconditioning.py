r"""Preconditionings: what a network is given, and what its output means.

A network F is any `torch.nn.Module` called as `F(input, label)`, with images and one number
for each. A preconditioning turns it into a denoiser and a score, both linear in the noisy
image x and in F (Karras et al., arXiv 2206.00364, eq. 7, written for any process
x(t) = a x(0) + s z, whose noise level is σ = s / a):

    D(x, t)      =  d_skip x + d_out F(c_in x, c_label),
    ∇ log p_t(x) =  s_skip x + s_out F(c_in x, c_label).

The two are equivalent, score = (a D − x) / s², but each has its own coefficients: computing
one from the other would lose digits where s is small or large.

With r² = σ² + σ_data²:

| name       | F predicts               | D                                        | label   |
|------------|--------------------------|------------------------------------------|---------|
| "score"    | the score itself         | (x + s² F) / a                           | t       |
| "noise"    | the noise z              | x / a − σ F                              | ¼ ln σ  |
| "denoised" | the clean image          | F                                        | ¼ ln σ  |
| "velocity" | v of arXiv 2202.00512    | (σ_data²/r²) x / a − (σ σ_data/r) F      | ¼ ln σ  |
| "edm"      | F of arXiv 2206.00364    | (σ_data²/r²) x / a + (σ σ_data/r) F      | ¼ ln σ  |
| "flow"     | z − x(0)                 | (x − s F) / (a + s)                      | τ       |

"score" gives the network x itself. "flow" gives it the point x / (a + s) of the straight line
(1 − τ) x(0) + τ z with the same noise level, whose time is τ = s / (a + s); for `StraightSDE` these
are x and t. All others give it x / (a r), which has unit variance. For data of unit
variance (σ_data = 1), "velocity" is the v of Salimans & Ho. It is the negative of "edm".
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from diffsde.equations.forward import SDE
from diffsde.equations.straight import StraightSDE
from diffsde.errors import InputError, name_list

__all__ = [
    "EDM",
    "PRECONDITIONINGS",
    "Coefficients",
    "CoupledFlowPrediction",
    "DenoisedPrediction",
    "FlowPrediction",
    "NoisePrediction",
    "Preconditioning",
    "ScorePrediction",
    "VelocityPrediction",
    "make_preconditioning",
]


class Coefficients(NamedTuple):
    """The linear maps from (x, F) to the denoised image and to the score; each of t's shape."""

    input: Tensor
    label: Tensor
    denoised_skip: Tensor
    denoised_out: Tensor
    score_skip: Tensor
    score_out: Tensor


@dataclass(frozen=True)
class Preconditioning:
    """Base of the preconditionings.

    Attributes:
        sigma_data: σ_data, the root mean square of the data, by which inputs are scaled.
        flow_only: whether the score belongs to a probability flow and to no reverse SDE.
    """

    sigma_data: float = 0.5
    flow_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma_data) and self.sigma_data > 0):
            raise InputError(f"sigma_data = {self.sigma_data}: expected a positive number")

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        """The coefficients at times t of any shape."""
        raise NotImplementedError

    def predicts_velocity(self, sde: SDE) -> bool:
        """Whether the network's output is the drift of this process's probability flow."""
        return False

    def config(self) -> dict[str, float]:
        """The arguments from which this object can be rebuilt."""
        return asdict(self)

    def _levels(self, sde: SDE, t: Tensor) -> _Levels:
        scale, std = sde.marginal_scale(t), sde.marginal_std(t)
        sigma = std / scale
        total = torch.sqrt(sigma**2 + self.sigma_data**2)
        return _Levels(scale, std, sigma, total, 1 / (scale * total), sigma.log() / 4)


class _Levels(NamedTuple):
    scale: Tensor  # a
    std: Tensor  # s
    sigma: Tensor  # s / a
    total: Tensor  # r
    input: Tensor
    label: Tensor


@dataclass(frozen=True)
class ScorePrediction(Preconditioning):
    """The network returns the score, and is called with x and t themselves, as in the tutorial."""

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        scale, std = sde.marginal_scale(t), sde.marginal_std(t)
        one = torch.ones_like(scale)
        return Coefficients(one, t, 1 / scale, std**2 / scale, 0 * one, one)


@dataclass(frozen=True)
class NoisePrediction(Preconditioning):
    """The network returns the noise z (Ho et al., arXiv 2006.11239, eq. 12)."""

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        n = self._levels(sde, t)
        return Coefficients(
            n.input, n.label, 1 / n.scale, -n.sigma, torch.zeros_like(n.std), -1 / n.std
        )


@dataclass(frozen=True)
class DenoisedPrediction(Preconditioning):
    """The network returns the clean image."""

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        n = self._levels(sde, t)
        one = torch.ones_like(n.std)
        return Coefficients(n.input, n.label, 0 * one, one, -1 / n.std**2, n.scale / n.std**2)


@dataclass(frozen=True)
class EDM(Preconditioning):
    """The network's target has unit variance at every noise level (arXiv 2206.00364, table 1)."""

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        n = self._levels(sde, t)
        return Coefficients(
            n.input,
            n.label,
            self.sigma_data**2 / n.total**2 / n.scale,
            n.sigma * self.sigma_data / n.total,
            -1 / (n.total * n.scale) ** 2,
            self.sigma_data / (n.total * n.std),
        )


@dataclass(frozen=True)
class VelocityPrediction(EDM):
    """The network returns v = α z − σ x(0) (Salimans & Ho, arXiv 2202.00512, appendix D)."""

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        edm = super().coefficients(sde, t)
        return edm._replace(denoised_out=-edm.denoised_out, score_out=-edm.score_out)


@dataclass(frozen=True)
class FlowPrediction(Preconditioning):
    """The network returns the velocity of straight lines, E[z − x(0)] (arXiv 2210.02747).

    Nothing is divided by a, so every coefficient is finite where a is zero, at t = 1 of a
    `StraightSDE`. σ_data plays no part.

    Attributes:
        steps: the label that the network is given at τ = 1; 1000 for networks of diffusers.
    """

    steps: float = 1.0

    def coefficients(self, sde: SDE, t: Tensor) -> Coefficients:
        scale, std = sde.marginal_scale(t), sde.marginal_std(t)
        unit = 1 / (scale + std)
        return Coefficients(
            unit, self.steps * std * unit, unit, -std * unit, -unit / std, -scale * unit / std
        )

    def predicts_velocity(self, sde: SDE) -> bool:
        return isinstance(sde, StraightSDE)


@dataclass(frozen=True)
class CoupledFlowPrediction(FlowPrediction):
    """The same of a network that was trained on coupled pairs (x(0), z); see `training.coupling`.

    Its velocity makes the flow, whose samples have the law of the data. But noise that depends on
    the image makes another law of x(t), of which this is no score, so there is no reverse SDE.
    """

    flow_only: ClassVar[bool] = True


PRECONDITIONINGS: dict[str, type[Preconditioning]] = {
    "score": ScorePrediction,
    "noise": NoisePrediction,
    "denoised": DenoisedPrediction,
    "velocity": VelocityPrediction,
    "edm": EDM,
    "flow": FlowPrediction,
    "coupled-flow": CoupledFlowPrediction,
}


def make_preconditioning(
    preconditioning: str | Preconditioning, sigma_data: float | None = None
) -> Preconditioning:
    """A preconditioning by name; one that is already built is returned unchanged."""
    if isinstance(preconditioning, Preconditioning):
        return preconditioning
    if preconditioning not in PRECONDITIONINGS:
        raise InputError(
            f"no preconditioning {preconditioning!r}: "
            f"{name_list(str(preconditioning), PRECONDITIONINGS)}"
        )
    cls = PRECONDITIONINGS[preconditioning]
    return cls() if sigma_data is None else cls(sigma_data)
