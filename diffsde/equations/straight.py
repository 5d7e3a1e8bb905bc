r"""The straight-line process of flow matching: x(t) = (1 − t) x(0) + t z, z ~ N(0, I).

A path from an image to its noise is a straight line, and its direction z − x(0) is what a
flow-matching network learns the mean of, the velocity v(x, t) = E[z − x(0) | x(t) = x]. As a
diffusion,

    a = 1 − t,    s = t,    σ = t / (1 − t),    f = −x / (1 − t),    g² = 2 t / (1 − t).

At t = 1 nothing of the image is left: a = 0, and f, g and σ are infinite, though the velocity, the
score and the denoiser are not.

Sources: Lipman et al., arXiv 2210.02747, example II with σ_min = 0 and time reversed; Liu, Gong,
Liu, arXiv 2209.03003; as an SDE, Ma et al., arXiv 2401.08740 (SiT), table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.errors import InputError
from diffsde.system.host import on_host

__all__ = ["StraightSDE"]


class StraightSDE(SDE):
    """The process x(t) = (1 − t) x(0) + t z of flow matching and rectified flow.

    Args:
        T, eps: where a solve starts and ends. The noise level t / (1 − t) is infinite at t = 1,
            so by default solves begin at 0.999; with eps = 0.001 the noise level then runs from
            999 down to 0.001, and every solver, clock and η applies.

    T = 1 is for the probability flow of a score that has a velocity, in clock="t" or a map of your
    own, and for a reverse SDE whose η(t) falls to zero there, such as eta=lambda t: (1 − t).sqrt(),
    with which η g = √(2t) (the diffusion of arXiv 2401.08740). All else is refused there.
    """

    def __init__(self, T: float = 0.999, eps: float = 1e-3) -> None:
        super().__init__(T, eps)
        if T > 1:
            raise InputError(f"T = {T}: expected at most 1, where the straight line ends in noise")

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -expand(1 / (1 - exact_time(t, x)), x) * x

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(2 * self.noise_level(t))

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return 1 - on_host(t)

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return on_host(t)

    def marginal_scale_slope(self, t: Tensor | float) -> Tensor:
        return -torch.ones_like(on_host(t))

    def marginal_std_slope(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(on_host(t))

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = expand(t, x0)
        return (1 - t) * x0, t

    def noise_level(self, t: Tensor | float) -> Tensor:
        t = on_host(t)
        return t / (1 - t)

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return 1 / (1 - on_host(t)) ** 2

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        # σ / (1 + σ), written so that an infinite level has a time too
        return 1 / (1 + 1 / on_host(level))
