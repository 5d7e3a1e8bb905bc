r"""Models of azula as scores, and scores as azula's denoisers.

azula itself is needed only to make one of its denoisers: pip install 'diffsde[interchange]'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.ranges import UNIT, Range
from diffsde.equations.reverse import Score
from diffsde.equations.schedule import ScheduleSDE
from diffsde.scores.denoisers import DenoiserScore, check_model
from diffsde.system.packages import optional_package
from diffsde.system.parameters import dtype_of

__all__ = ["from_azula", "to_azula"]


def from_azula(
    denoiser: Any,
    *,
    eps: float = 1e-3,
    shape: Sequence[int] | None = None,
    data_range: Range = UNIT,
) -> DenoiserScore:
    """The score of an azula denoiser; its `sde` is that of the denoiser's own schedule.

        score = from_azula(denoiser)
        rev = ReverseSDE(score.sde, score, shape)

    Args:
        denoiser: an `azula.denoise.Denoiser`.
        eps: where solves end; azula's own time, from 1 down to 0, is kept.
        shape: of one sample; `sample`, `flow` and `reverse` need it.
        data_range: the values of black and of white.
    """
    return _AzulaScore(denoiser, _AzulaSDE(denoiser.schedule, eps), shape, data_range)


class _AzulaSDE(ScheduleSDE):
    """The process of azula's schedule, a function of t that gives a(t) and s(t)."""

    def __init__(self, schedule: Any, eps: float) -> None:
        def level(t: Tensor) -> Tensor:
            alpha, sigma = schedule(t)
            ratio: Tensor = sigma / alpha
            return ratio

        super().__init__(level, lambda t: schedule(t)[0], T=1.0, eps=eps)
        self.__dict__["schedule"] = schedule  # not a part: the denoiser's own, which it moves

    def description(self) -> dict[str, Any]:
        """What the process depends on, beside the data's mean."""
        return {"schedule": self.__dict__["schedule"], **self.config()}


class _AzulaScore(DenoiserScore):
    """The score of a denoiser that takes our own x and t, as azula's do."""

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        dtype = dtype_of(self.denoiser, x.dtype)
        at = torch.as_tensor(t, dtype=dtype, device=x.device)
        return with_graph(self._mean, "denoiser", x.to(dtype), at).to(x.dtype)

    def _mean(self, x: Tensor, t: Tensor) -> Tensor:
        mean: Tensor = self.denoiser(x, t).mean  # type: ignore[assignment]
        return mean


def to_azula(score: Score, sde: SDE) -> Any:
    """A score as an `azula.denoise.Denoiser`, for azula's samplers.

    The denoiser's time runs from 1 to 0 where ours runs evenly from T to ε.

    Raises:
        InputError: azula is not installed, the score cannot be called, or the arguments are
            swapped.
    """
    check_model("score", score, "(x, t)")
    denoise = optional_package("azula.denoise", "interchange")
    noise = optional_package("azula.noise", "interchange")

    def our_time(t: Tensor) -> Tensor:
        return sde.eps + (sde.T - sde.eps) * t

    class Schedule(noise.Schedule):  # type: ignore[name-defined]
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return sde.marginal_scale(our_time(t)), sde.marginal_std(our_time(t))

    class ScoreDenoiser(denoise.Denoiser):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = Schedule()

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            scale, std = (expand(v, x_t) for v in self.schedule(t))
            found = with_graph(score, "score", x_t, our_time(t))
            return denoise.DiracPosterior((x_t + std**2 * found) / scale)

    return ScoreDenoiser()
