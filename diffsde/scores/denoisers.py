r"""Denoisers as scores, and scores as denoisers.

A denoiser D(y, σ) = E[x(0) | y] takes an image y with noise of std σ. It gives the score of
any forward process x = a (x(0) + σ z), with y = x / a and σ = s / a:

    ∇ log p_t(x)  =  ( a D(x / a, s / a) − x ) / s².

| library     | how it calls a model                 | functions here                    |
|-------------|--------------------------------------|-----------------------------------|
| k-diffusion | `model(y, sigma)` → clean            | `from_denoiser`, `to_denoiser`    |
| EDM         | `net(y, sigma)` → clean              | `from_denoiser`, `to_denoiser`    |
| azula       | `denoiser(x, t)` → posterior         | `from_azula`, `to_azula`          |
| diffusers   | `model(x, step)` → noise, v or clean | `from_diffusers`, `to_diffusers`  |

The last two have files of their own, `azula` and `diffusers`. None of these libraries is
needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.ranges import UNIT, Range, checked_range
from diffsde.equations.reverse import Score
from diffsde.errors import InputError, how_to_load
from diffsde.scores.drawing import Drawing
from diffsde.scores.model import checked_shape
from diffsde.system.one_line import class_of, one_line
from diffsde.system.parameters import dtype_of

__all__ = ["Denoiser", "DenoiserScore", "check_model", "from_denoiser", "to_denoiser"]

Denoiser = Callable[[Tensor, Tensor], Tensor]


class DenoiserScore(Drawing):
    """The score of a denoiser, called (x, t).

    Args:
        denoiser: called (y, sigma), y of shape (B, …) with noise of std sigma, (B,); returns the
            clean y. A module is called in the dtype of its parameters.
        sde: the forward process of the score.
        shape: of one sample; None if it is not known, and then nothing can be drawn.
        data_range: the values of black and of white.

    Raises:
        InputError: the denoiser cannot be called, or is an SDE: the arguments are swapped.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sde: SDE,
        shape: Sequence[int] | None = None,
        data_range: Range = UNIT,
    ) -> None:
        super().__init__()
        check_model("denoiser", denoiser, "(y, sigma)")
        self.denoiser, self.sde = denoiser, sde
        self.shape = None if shape is None else checked_shape(shape)
        self.data_range = checked_range(data_range)

    def __repr__(self) -> str:
        return f"DenoiserScore({class_of(self.denoiser)}, {one_line(self.sde)})"

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p_t(x), of x's shape (B, …)."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        scale, std = expand(self.sde.marginal_scale(t), x), expand(self.sde.marginal_std(t), x)
        return (scale * self.denoise(x, t) - x) / std**2

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))
        dtype = dtype_of(self.denoiser, x.dtype)
        y = x / expand(self.sde.marginal_scale(t), x)
        level = self.sde.noise_level(t).to(dtype)
        return with_graph(self.denoiser, "denoiser", y.to(dtype), level).to(x.dtype)


def from_denoiser(
    denoiser: Denoiser,
    sde: SDE,
    *,
    shape: Sequence[int] | None = None,
    data_range: Range = UNIT,
) -> DenoiserScore:
    """The score of a denoiser D(y, σ), as in k-diffusion and EDM; see `DenoiserScore`.

    score = from_denoiser(denoiser, EDMSDE(), shape=(3, 32, 32), data_range=(-1, 1))
    sol = score.sample(16, seed=0)
    """
    return DenoiserScore(denoiser, sde, shape, data_range)


def to_denoiser(score: Score, sde: SDE) -> Denoiser:
    """A score as the samplers of k-diffusion take it: called (y, sigma), sigma of shape (B,).

    Further keywords, which these samplers pass on, are ignored.

    Raises:
        InputError: the score cannot be called, or is an SDE: the arguments are swapped.
    """
    check_model("score", score, "(x, t)")
    return _ScoreDenoiser(score, sde)


@dataclass(frozen=True)
class _ScoreDenoiser:
    score: Score
    sde: SDE

    def __call__(self, y: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        sde = self.sde
        t = sde.time_of_noise_level(sigma)
        scale, level = expand(sde.marginal_scale(t), y), expand(sigma, y)
        # (x + s² score) / a with x = a y, s = a σ
        return y + scale * level**2 * with_graph(self.score, "score", scale * y, t)


def check_model(name: str, model: object, call: str) -> None:
    """Check that an argument followed by an SDE can be called and is not itself the SDE.

    Raises:
        InputError: it cannot be called, or the two arguments are swapped.
    """
    # An SDE is a torch module and so can be called: without this check, the mistake would
    # show only in a solve.
    if isinstance(model, SDE):
        raise InputError(
            f"{name} = {model!r}, which is an SDE: expected the {name} first and the SDE second, "
            f"({name}, sde)"
        )
    if not callable(model):
        raise InputError(
            f"{name} = {model!r}: expected something called {call}{how_to_load(model)}"
        )
