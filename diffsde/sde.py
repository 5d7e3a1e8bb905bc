r"""Forward SDEs: from data to noise.

A forward process is the Itô equation

    dx = f(x, t) dt + g(t) dw,        t ∈ [0, T],

whose drift f is linear in x, so that x(t) given x(0) is Gaussian:

    x(t) | x(0)  ~  N( a(t) x(0), s(t)² I ).

`drift` is f, `diffusion` is g, `marginal_prob` gives a(t) x(0) and s(t), and the
prior is the law that x(T) tends to, N(0, s(T)² I). Everything else in this
package is written against these four, never against one particular equation.

The variance-exploding equation of the MNIST tutorial is

    dx = σᵗ dw,        a(t) = 1,        s(t)² = (σ²ᵗ − 1) / (2 ln σ).

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations", arXiv 2011.13456, section 3 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.seeds import NormalTable, checked_seed

__all__ = ["SDE", "SDES", "VESDE", "expand"]

_BISECTIONS = 60  # halve [0, T] down to the spacing of float64


def expand(t: Tensor | float, x: Tensor) -> Tensor:
    """Give t, a scalar or of shape (B,), the axes it needs to broadcast against x of shape (B, …)."""
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    return t.reshape(-1, *[1] * (x.dim() - 1)) if t.dim() else t


class SDE(nn.Module):
    """A forward process dx = f(x, t) dt + g(t) dw: the base of all of them.

    A subclass writes `drift`, `diffusion` and `marginal_prob`. Through `f` and
    `g` it is an object that `torchsde.sdeint` takes as it is.

    Attributes:
        T: the end of time, where the prior holds.
        eps: the smallest time ε at which a score is asked for; reverse solves end there.
    """

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, T: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__()
        if not 0 < eps < T:
            raise InputError(
                f"eps = {eps} and T = {T}: expected 0 < eps < T, because the marginal's std "
                "is zero at t = 0 and no score exists there; the tutorial takes eps = 1e-3"
            )
        self.T = T
        self.eps = eps

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        """f(x, t), of x's shape (B, …); t is a scalar or of shape (B,)."""
        raise NotImplementedError

    def diffusion(self, t: Tensor | float) -> Tensor:
        """g(t), of t's shape."""
        raise NotImplementedError

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean a(t) x0, of x0's shape, and std s(t) of x(t) given x(0) = x0.

        The std has the axes it needs to broadcast against x0: () for a scalar t,
        (B, 1, …) for t of shape (B,).
        """
        raise NotImplementedError

    def marginal_std(self, t: Tensor | float) -> Tensor:
        """s(t), of t's shape."""
        t = torch.as_tensor(t)
        return self.marginal_prob(torch.zeros_like(t), t)[1]

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        """a(t), the factor of x(0) in the mean of x(t), of t's shape."""
        t = torch.as_tensor(t)
        return self.marginal_prob(torch.ones_like(t), t)[0]

    def noise_level(self, t: Tensor | float) -> Tensor:
        """s(t) / a(t), the noise on x(t) / a(t), of t's shape: the σ of Karras et al."""
        return self.marginal_std(t) / self.marginal_scale(t)

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        """The t in [0, T] with `noise_level(t)` = level, of level's shape.

        Found by bisection in float64, since the noise level rises with t; a subclass with a
        closed form overrides this.
        """
        level = torch.as_tensor(level)
        low = torch.zeros_like(level, dtype=torch.float64)
        high = torch.full_like(low, self.T)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = self.noise_level(middle) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (0.5 * (low + high)).to(level.dtype)

    @property
    def prior_std(self) -> float:
        """s(T), the standard deviation of the prior."""
        return float(self.marginal_std(torch.tensor(self.T, dtype=torch.float64)))

    def prior_sample(
        self,
        shape: Sequence[int],
        *,
        seed: int | None = None,
        first: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw x(T) ~ N(0, s(T)² I) of shape (B, …).

        Sample i depends on (seed, first + i) alone, so a large batch may be drawn in parts.
        """
        if not shape or any(n < 1 for n in shape):
            raise InputError(f"shape = {tuple(shape)}: expected (B, …) of positive numbers")
        count, *rest = shape
        samples = range(first, first + count)
        table = NormalTable(checked_seed(seed), "prior")
        noise = table.rows(samples, 0, rest, dtype or torch.get_default_dtype())
        return (self.prior_std * noise).to(device)

    def prior_logp(self, x: Tensor) -> Tensor:
        """log N(x; 0, s(T)² I), of shape (B,), in nats."""
        dims = x[0].numel()
        square = x.flatten(1).square().sum(1) / self.prior_std**2
        return -0.5 * square - dims * (0.5 * math.log(2 * math.pi) + math.log(self.prior_std))

    # The two names under which torchsde looks for the forward equation.
    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.drift(y, t)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return expand(self.diffusion(t), y).expand_as(y)

    # What `solve` asks of any problem.
    @property
    def interval(self) -> tuple[float, float]:
        """Start and end of the process in t."""
        return 0.0, self.T

    def config(self) -> dict[str, Any]:
        """The arguments that build this object again, as JSON can hold them."""
        return {"T": self.T, "eps": self.eps}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.config().items())


class VESDE(SDE):
    """The variance-exploding SDE dx = σᵗ dw (arXiv 2011.13456, section 3.4 and its tutorial).

    Args:
        sigma: σ > 1. The tutorial's 25 makes s(1) ≈ 9.845.
    """

    def __init__(self, sigma: float = 25.0, T: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__(T, eps)
        if not sigma > 1:
            raise InputError(f"sigma = {sigma}: expected sigma > 1, so that the variance grows")
        self.sigma = sigma

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor | float) -> Tensor:
        return self.sigma ** torch.as_tensor(t)

    def marginal_std(self, t: Tensor | float) -> Tensor:
        # expm1 keeps its digits where t is small and σ²ᵗ − 1 would lose them.
        log_sigma = math.log(self.sigma)
        return torch.sqrt(torch.expm1(2 * log_sigma * torch.as_tensor(t)) / (2 * log_sigma))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        log_sigma = math.log(self.sigma)
        return torch.log1p(2 * log_sigma * torch.as_tensor(level) ** 2) / (2 * log_sigma)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return x0, self.marginal_std(expand(t, x0))

    def config(self) -> dict[str, Any]:
        return {"sigma": self.sigma, **super().config()}


SDES: dict[str, type[SDE]] = {"VESDE": VESDE}
