r"""Interchange: models of other libraries as ours, and ours as theirs.

What the field calls a denoiser, D(y, σ) = E[x(0) | y], takes an image with noise of std σ,
and is a score of any forward process x = a (x(0) + σ z), with y = x / a and σ = s / a:

    ∇ log p_t(x)  =  ( a D(x / a, s / a) − x ) / s².

| library     | calls a model                       | one line here                          |
|-------------|-------------------------------------|----------------------------------------|
| k-diffusion | `model(y, sigma)` → clean           | `from_denoiser`, `to_denoiser`         |
| EDM         | `net(y, sigma)` → clean             | `from_denoiser`, `to_denoiser`         |
| azula       | `denoiser(x, t)` → posterior        | `from_azula`, `to_azula`               |
| diffusers   | `model(x, step)` → noise, v or clean| `from_diffusers`, `to_diffusers`       |

diffusers counts steps of a discrete schedule ᾱ_k with σ_k² = (1 − ᾱ_k) / ᾱ_k; between two of
them the step is interpolated in log σ. Its models are fed x = √ᾱ (x(0) + σ z).

azula and diffusers are needed only where their own classes are made
(`pip install 'diffsde[interchange]'`), k-diffusion nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.equations.reverse import Score
from diffsde.equations.schedule import ScheduleSDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError, name_list
from diffsde.system.packages import optional_package

__all__ = [
    "DenoiserScore",
    "from_azula",
    "from_denoiser",
    "from_diffusers",
    "to_azula",
    "to_denoiser",
    "to_diffusers",
]

Denoiser = Callable[[Tensor, Tensor], Tensor]

_PREDICTIONS = ("epsilon", "v_prediction", "sample")


class DenoiserScore(nn.Module):
    """A denoiser as a score, called (x, t).

    Args:
        denoiser: called (y, sigma), y of shape (B, …) with noise of std sigma, (B,); returns the
            clean y. A module is called in the dtype of its parameters.
        sde: the forward process whose score it shall be.
    """

    def __init__(self, denoiser: Denoiser, sde: SDE) -> None:
        super().__init__()
        if not callable(denoiser):
            raise InputError(f"denoiser = {denoiser!r}: expected something called (y, sigma)")
        self.denoiser, self.sde = denoiser, sde

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p_t(x), of x's shape (B, …)."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        scale, std = expand(self.sde.marginal_scale(t), x), expand(self.sde.marginal_std(t), x)
        return (scale * self.denoise(x, t) - x) / std**2

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))
        dtype = _dtype_of(self.denoiser, x)
        y = x / expand(self.sde.marginal_scale(t), x)
        return self.denoiser(y.to(dtype), self.sde.noise_level(t).to(dtype)).to(x.dtype)


def from_denoiser(denoiser: Denoiser, sde: SDE) -> DenoiserScore:
    """The score of a denoiser D(y, σ), as k-diffusion and EDM make them; see `DenoiserScore`."""
    return DenoiserScore(denoiser, sde)


def to_denoiser(score: Score, sde: SDE) -> Denoiser:
    """A score as k-diffusion's samplers take it: called (y, sigma), sigma of shape (B,).

    Further keywords, which its samplers pass on, are ignored.
    """

    def denoiser(y: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        t = sde.time_of_noise_level(sigma)
        scale, level = expand(sde.marginal_scale(t), y), expand(sigma, y)
        # (x + s² score) / a with x = a y, s = a σ
        return y + scale * level**2 * score(scale * y, t)

    return denoiser


# -- azula ---------------------------------------------------------------------------------


def from_azula(denoiser: Any, *, eps: float = 1e-3) -> DenoiserScore:
    """The score of an azula denoiser; its `sde` is that of the denoiser's own schedule.

        score = from_azula(denoiser)
        rev = ReverseSDE(score.sde, score, shape)

    Args:
        denoiser: an `azula.denoise.Denoiser`.
        eps: where solves end; azula's own time, from 1 down to 0, is kept.
    """
    schedule = denoiser.schedule

    def level(t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        ratio: Tensor = sigma / alpha
        return ratio

    sde = ScheduleSDE(level, lambda t: schedule(t)[0], T=1.0, eps=eps)
    return _AzulaScore(denoiser, sde)


class _AzulaScore(DenoiserScore):
    """azula's denoisers take our own x and t."""

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        dtype = _dtype_of(self.denoiser, x)
        at = torch.as_tensor(t, dtype=dtype, device=x.device)
        mean: Tensor = self.denoiser(x.to(dtype), at).mean  # type: ignore[assignment]
        return mean.to(x.dtype)


def to_azula(score: Score, sde: SDE) -> Any:
    """A score as an `azula.denoise.Denoiser`, for its samplers.

    Its time runs from 1 to 0 where ours runs evenly from T to ε.
    """
    denoise = optional_package("azula.denoise", "interchange")
    noise = optional_package("azula.noise", "interchange")

    def ours(t: Tensor) -> Tensor:
        return sde.eps + (sde.T - sde.eps) * t

    class Schedule(noise.Schedule):  # type: ignore[name-defined]
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return sde.marginal_scale(ours(t)), sde.marginal_std(ours(t))

    class Ours(denoise.Denoiser):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = Schedule()

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            scale, std = (expand(v, x_t) for v in self.schedule(t))
            return denoise.DiracPosterior((x_t + std**2 * score(x_t, ours(t))) / scale)

    return Ours()


# -- diffusers -------------------------------------------------------------------------------


def from_diffusers(model: Any, scheduler: Any, sde: SDE | None = None) -> DenoiserScore:
    """The score of a diffusers model and scheduler, in continuous time.

    Args:
        model: called (sample, timestep), such as a `UNet2DModel`; its answer, or the `sample`
            of its answer, is what the scheduler's `prediction_type` says.
        scheduler: of any kind with `alphas_cumprod`, such as `DDPMScheduler`.
        sde: the forward process to solve; `VPSDE()` if left out, whose β are DDPM's. Any will
            do, since only the noise level counts.
    """
    levels = _levels_of(scheduler)
    prediction = _prediction_of(scheduler)

    class Inner(nn.Module):
        """D(y, σ) from the model's answer at the step whose noise level is σ."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
            steps = _interpolated(levels.log().to(sigma), sigma.log())
            level = expand(sigma, y)
            root = torch.sqrt(1 + level**2)  # 1 / √ᾱ
            answer = model(y / root, steps)
            out: Tensor = getattr(answer, "sample", answer)
            if prediction == "sample":
                return out
            if prediction == "epsilon":
                return y - level * out
            return y / root**2 - level / root * out

    return DenoiserScore(Inner(), VPSDE() if sde is None else sde)


def to_diffusers(score: Score, sde: SDE, scheduler: Any) -> Callable[..., Any]:
    """A score as a model for a diffusers scheduler: called (sample, timestep).

    The answer's `sample` is what `scheduler.step` takes, by its `prediction_type`.

    Args:
        score, sde: the model; the SDE must reach the scheduler's noise levels.
        scheduler: of any kind with `alphas_cumprod`.
    """
    levels = _levels_of(scheduler)
    prediction = _prediction_of(scheduler)
    denoise = to_denoiser(score, sde)

    def model(sample: Tensor, timestep: Any, **_: Any) -> SimpleNamespace:
        step = torch.as_tensor(timestep, device=sample.device).long().expand(len(sample))
        sigma = levels.to(sample)[step]
        level = expand(sigma, sample)
        root = torch.sqrt(1 + level**2)
        y = root * sample
        clean = denoise(y, sigma)
        noise = (y - clean) / level
        answers = {
            "sample": clean,
            "epsilon": noise,
            "v_prediction": (noise - level * clean) / root,
        }
        return SimpleNamespace(sample=answers[prediction])

    return model


def _levels_of(scheduler: Any) -> Tensor:
    """σ_k of each step of a schedule, (steps,)."""
    if not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"scheduler = {type(scheduler).__name__}: expected one with alphas_cumprod, such as "
            "DDPMScheduler.from_config(scheduler.config)"
        )
    alphas = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)
    return ((1 - alphas) / alphas).sqrt()


def _prediction_of(scheduler: Any) -> str:
    prediction = str(scheduler.config.prediction_type)
    if prediction not in _PREDICTIONS:
        raise InputError(f"prediction_type {prediction!r}: {name_list(prediction, _PREDICTIONS)}")
    return prediction


def _interpolated(grid: Tensor, value: Tensor) -> Tensor:
    """The place of each value on a rising grid, (B,): 2.5 is half way from the third to the next.

    Values beyond the grid are given its ends.
    """
    after = torch.searchsorted(grid, value.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid[after - 1], grid[after]
    return after - 1 + ((value - low) / (high - low)).clamp(0, 1)


def _dtype_of(model: Any, x: Tensor) -> torch.dtype:
    """In which a model is called: that of its parameters; x's, if it has none."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.dtype for p in parameters), x.dtype)
