r"""The SDE of any schedule, made of a noise level σ(t) and a scale a(t).

Papers often state a process by its marginal x(t) = a(t) (x(0) + σ(t) z) alone. Drift and
diffusion follow from it: f(x, t) = (a′/a) x and g² = 2 a² σ σ′.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.equations.graphs import leaf, ordinary_mode
from diffsde.errors import InputError
from diffsde.system.host import on_host

__all__ = ["InterpolantSDE", "ScheduleSDE"]


class ScheduleSDE(SDE):
    """The SDE with x(t) = a(t) (x(0) + σ(t) z), for any σ and a: dx = (a′/a) x dt + a √(2σσ′) dw.

    Automatic differentiation gives σ′ and a′. A checkpoint cannot hold such an SDE, but it can
    hold a subclass that fixes σ and a and is added to `SDES`.
    Source: arXiv 2206.00364, appendix B (its s(t) is our a(t)).

    Args:
        sigma: the noise level σ(t) > 0, which rises; an elementwise function of a tensor.
        scale: a(t) > 0, an elementwise function of a tensor; 1 if left out.
        T, eps: where a solve starts and ends.

        sigma, scale = lambda t: torch.tan(t * pi / 2), lambda t: torch.cos(t * pi / 2)
        cosine = ScheduleSDE(sigma, scale, T=0.99)  # a DDPM cosine schedule in continuous time
    """

    def __init__(
        self,
        sigma: Callable[[Tensor], Tensor],
        scale: Callable[[Tensor], Tensor] = torch.ones_like,
        T: float = 1.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(T, eps)
        self.sigma, self.scale = sigma, scale
        self._check_schedule()

    def _check_schedule(self) -> None:
        t = torch.linspace(self.eps, self.T, 101, dtype=torch.float64, device="cpu")
        levels, scales = self.noise_level(t), self.marginal_scale(t)
        if not bool((levels[0] > 0) & (levels.diff() > 0).all() & (scales > 0).all()):
            raise InputError(
                f"sigma and scale: σ runs from {float(levels[0]):g} to {float(levels[-1]):g}, the "
                f"smallest a is {float(scales.min()):g}: expected σ(t) > 0 that rises and "
                f"a(t) > 0 on [{self.eps:g}, {self.T:g}]"
            )

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        scale, slope = _with_slope(self.scale, exact_time(t, x))
        return expand(slope / scale, x) * x

    def diffusion(self, t: Tensor | float) -> Tensor:
        level, slope = _with_slope(self.sigma, t)
        return self.marginal_scale(t) * torch.sqrt(2 * level * slope)

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return self.scale(on_host(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return self.marginal_scale(t) * self.noise_level(t)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = expand(t, x0)
        return self.marginal_scale(t) * x0, self.marginal_std(t)

    def noise_level(self, t: Tensor | float) -> Tensor:
        return self.sigma(on_host(t))

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return _with_slope(self.sigma, t)[1]


class InterpolantSDE(ScheduleSDE):
    """The SDE with x(t) = a(t) x(0) + s(t) z, where a may fall to zero at T.

    Automatic differentiation gives s′ and a′, from which f = (a′/a) x and g² = 2 s (s′ − s a′/a).
    Source: Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797 (stochastic interpolants).

    Args:
        scale: a(t), which is positive before T; an elementwise function of a tensor.
        std: s(t), another one. s/a must rise.
        T, eps: where a solve starts and ends. At a T where a is zero, only the probability flow of
            a velocity can be solved; see `StraightSDE`.
    """

    def __init__(
        self,
        scale: Callable[[Tensor], Tensor],
        std: Callable[[Tensor], Tensor],
        T: float = 0.999,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(lambda t: std(t) / scale(t), scale, T, eps)
        self.std = std

    def _check_schedule(self) -> None:
        last = self.T
        self.T = last - 1e-6 * (last - self.eps)  # at T itself a may be zero
        super()._check_schedule()
        self.T = last

    def diffusion(self, t: Tensor | float) -> Tensor:
        t = on_host(t)
        (scale, fall), (std, rise) = _with_slope(self.scale, t), _with_slope(self.std, t)
        return torch.sqrt(2 * std * (scale * rise - fall * std) / scale)

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return self.std(on_host(t))

    def marginal_scale_slope(self, t: Tensor | float) -> Tensor:
        return _with_slope(self.scale, t)[1]

    def marginal_std_slope(self, t: Tensor | float) -> Tensor:
        return _with_slope(self.std, t)[1]


@ordinary_mode()
def _with_slope(fn: Callable[[Tensor], Tensor], t: Tensor | float) -> tuple[Tensor, Tensor]:
    """fn(t) and fn′(t), both of t's shape, for an elementwise fn."""
    with torch.enable_grad():
        t = leaf(on_host(t))
        value = fn(t) + 0 * t  # gives a constant a derivative too
        (slope,) = torch.autograd.grad(value.sum(), t)
    return value.detach(), slope
