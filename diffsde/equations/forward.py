r"""Forward SDEs: from data to noise.

A forward process is the Itô equation

    dx = f(x, t) dt + g(t) dw,        t ∈ [0, T],

whose drift f is linear in x, so that x(t) given x(0) is Gaussian:

    x(t) | x(0)  ~  N( a(t) x(0), s(t)² I ).

`drift` is f, `diffusion` is g, `marginal_prob` gives a(t) x(0) and s(t), and the
prior is the law that x(T) tends to, N(m, s(T)² I), m = 0. Everything else in this
package is written against these four, never against one particular equation.

The mean of p_T is a(T) E[x(0)], which the prior leaves out unless it is told
(`SDE.centre`). For MNIST under the VE SDE that is 0.6 standard deviations in the direction
of the mean image: noise without it has less ink than noised digits have, and the
probability flow, which forgets nothing, draws too many ones from it.

The functions are not free of each other: with the noise level σ(t) = s(t) / a(t),

    f(x, t) = (a′/a) x,        dσ²/dt = g² / a²,

and `SDE.check` looks whether a class keeps to it. With B(t) = ∫₀ᵗ β, β linear in t:

| class         | f          | g²                | a        | s²                   | σ            |
|---------------|------------|-------------------|----------|----------------------|--------------|
| `VESDE`       | 0          | σ²ᵗ               | 1        | (σ²ᵗ − 1) / (2 ln σ) | s            |
| `VPSDE`       | −½ β x     | β                 | e^{−B/2} | 1 − e^{−B}           | √(e^B − 1)   |
| `SubVPSDE`    | −½ β x     | β (1 − e^{−2B})   | e^{−B/2} | (1 − e^{−B})²        | 2 sinh(B/2)  |
| `EDMSDE`      | 0          | 2 t               | 1        | t²                   | t            |
| `ScheduleSDE` | (a′/a) x   | 2 a² σ σ′         | any a(t) | a² σ²                | any σ(t)     |

Sources: Song et al., "Score-Based Generative Modeling through Stochastic Differential
Equations", arXiv 2011.13456, section 3 and appendix C, for the first three; Karras et
al., arXiv 2206.00364, table 1 and appendix B, for the last two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.noise.seeds import NormalTable, checked_seed

__all__ = [
    "EDMSDE",
    "SDE",
    "SDES",
    "VESDE",
    "VPSDE",
    "ScheduleSDE",
    "SubVPSDE",
    "expand",
]

_BISECTIONS = 60  # halve [0, T] down to the spacing of float64
_CHECK_TIMES, _CHECK_STEP, _CHECK_TOLERANCE = 33, 3e-6, 1e-3


def expand(t: Tensor | float, x: Tensor) -> Tensor:
    """Give t, a scalar or of shape (B,), the axes that it needs to broadcast against x, (B, …)."""
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
        self.data_mean: Tensor | None
        self.register_buffer("data_mean", None, persistent=False)

    def centre(self, data_mean: Tensor | None) -> None:
        """Give the prior the mean a(T) · data_mean, that of p_T; None gives it zero again.

        Args:
            data_mean: E[x(0)], of one sample's shape.
        """
        if data_mean is not None and not torch.isfinite(data_mean).all():
            raise InputError("data_mean holds numbers that are not finite")
        self.data_mean = None if data_mean is None else data_mean.detach().clone()

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

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        """dσ/dt = g² / (2 σ a²), of t's shape.

        A subclass whose σ rises from 0 with a slope overrides this: here it is 0 / 0 at t = 0.
        """
        growth = (self.diffusion(t) / self.marginal_scale(t)) ** 2
        return growth / (2 * self.noise_level(t))

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
        """Draw x(T) ~ N(m, s(T)² I) of shape (B, …), m = a(T) · data_mean, or 0.

        Sample i depends on (seed, first + i) alone, so a large batch may be drawn in parts.
        """
        if not shape or any(n < 1 for n in shape):
            raise InputError(f"shape = {tuple(shape)}: expected (B, …) of positive numbers")
        count, *rest = shape
        samples = range(first, first + count)
        table = NormalTable(checked_seed(seed), "prior")
        noise = table.rows(samples, 0, rest, dtype or torch.get_default_dtype())
        return (self.prior_mean(noise) + self.prior_std * noise).to(device)

    def prior_logp(self, x: Tensor) -> Tensor:
        """log N(x; m, s(T)² I), of shape (B,), in nats."""
        dims = x[0].numel()
        square = (x - self.prior_mean(x)).flatten(1).square().sum(1) / self.prior_std**2
        return -0.5 * square - dims * (0.5 * math.log(2 * math.pi) + math.log(self.prior_std))

    def prior_mean(self, x: Tensor) -> Tensor:
        """m, the mean of the prior, which broadcasts against states x (B, …), flattened or not."""
        if self.data_mean is None:
            return x.new_zeros(())
        if x[0].numel() != self.data_mean.numel():
            raise InputError(
                f"samples of shape {tuple(x.shape[1:])}, but the prior's mean is that of data of "
                f"shape {tuple(self.data_mean.shape)}: ask for those, or centre(None)"
            )
        scale = self.marginal_scale(torch.tensor(self.T, dtype=torch.float64))
        return (float(scale) * self.data_mean).to(x).reshape(x.shape[1:])

    def check(self) -> None:
        """Look whether `drift`, `diffusion` and `marginal_prob` are of one process.

        Between ε and T, the derivatives of the marginal are compared with f and g. A reverse
        problem whose SDE fails this has the wrong law, and no error elsewhere.

        Raises:
            InputError: naming the function that does not fit, the time, and both numbers.
        """
        even = torch.linspace(self.eps, self.T, _CHECK_TIMES, dtype=torch.float64)
        low = torch.logspace(math.log10(self.eps), math.log10(self.T), _CHECK_TIMES).double()
        t = torch.cat([even, low]) * (1 - 2 * _CHECK_STEP)  # so that t + h stays within T
        before, after = t * (1 - _CHECK_STEP), t * (1 + _CHECK_STEP)
        log_scale = [self.marginal_scale(moment).log() for moment in (before, after)]
        variance = [self.noise_level(moment).square() for moment in (before, after)]
        growth = (self.diffusion(t) / self.marginal_scale(t)).square()
        ones = torch.ones(len(t), 1, dtype=torch.float64)
        pairs = {
            "drift(x, t) / x, a′/a": (self.drift(ones, t)[:, 0], log_scale),
            "diffusion(t)² / a(t)², dσ²/dt": (growth, variance),
        }
        for name, (found, (first, second)) in pairs.items():
            _compare(name, t, found, (second - first) / (after - before))

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

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(torch.as_tensor(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        log_sigma = math.log(self.sigma)
        return torch.log1p(2 * log_sigma * torch.as_tensor(level) ** 2) / (2 * log_sigma)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return x0, self.marginal_std(expand(t, x0))

    def config(self) -> dict[str, Any]:
        return {"sigma": self.sigma, **super().config()}


class _VariancePreserving(SDE):
    """What the two SDEs with drift −½ β(t) x share; β(t) = β_min + (β_max − β_min) t.

    Args:
        beta_min, beta_max: β at t = 0 and at t = 1; the paper's are 0.1 and 20.
    """

    def __init__(
        self, beta_min: float = 0.1, beta_max: float = 20.0, T: float = 1.0, eps: float = 1e-3
    ) -> None:
        super().__init__(T, eps)
        if not 0 < beta_min <= beta_max:
            raise InputError(
                f"beta_min = {beta_min}, beta_max = {beta_max}: expected 0 < beta_min ≤ beta_max; "
                "the paper takes 0.1 and 20"
            )
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Tensor | float) -> Tensor:
        """β(t), of t's shape."""
        return self.beta_min + (self.beta_max - self.beta_min) * torch.as_tensor(t)

    def beta_integral(self, t: Tensor | float) -> Tensor:
        """B(t) = ∫₀ᵗ β, of t's shape."""
        t = torch.as_tensor(t)
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -0.5 * expand(self.beta(t), x) * x

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return torch.exp(-0.5 * self.beta_integral(t))

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = expand(t, x0)
        return self.marginal_scale(t) * x0, self.marginal_std(t)

    def _time_of_integral(self, integral: Tensor) -> Tensor:
        """The t with B(t) = integral, in the form of the root that loses no digits near 0."""
        slope = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 + 2 * slope * integral)
        return 2 * integral / (self.beta_min + root)

    def config(self) -> dict[str, Any]:
        return {"beta_min": self.beta_min, "beta_max": self.beta_max, **super().config()}


class VPSDE(_VariancePreserving):
    """The variance-preserving SDE dx = −½ β x dt + √β dw (arXiv 2011.13456, eq. 11).

    Its steps in discrete time are DDPM's. Data of unit variance keep unit variance.
    """

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(self.beta(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.beta_integral(t)))

    def noise_level(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(torch.expm1(self.beta_integral(t)))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return self._time_of_integral(torch.log1p(torch.as_tensor(level) ** 2))


class SubVPSDE(_VariancePreserving):
    """The sub-VP SDE dx = −½ β x dt + √(β (1 − e^{−2B})) dw (arXiv 2011.13456, eq. 13).

    Its variance is at every time at most that of the VP SDE; the paper prefers it for
    likelihoods.
    """

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(-self.beta(t) * torch.expm1(-2 * self.beta_integral(t)))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return -torch.expm1(-self.beta_integral(t))

    def noise_level(self, t: Tensor | float) -> Tensor:
        return 2 * torch.sinh(0.5 * self.beta_integral(t))

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return self.beta(t) * torch.cosh(0.5 * self.beta_integral(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return self._time_of_integral(2 * torch.asinh(0.5 * torch.as_tensor(level)))


class EDMSDE(SDE):
    """dx = √(2t) dw, whose noise level is the time itself: σ(t) = t (arXiv 2206.00364, eq. 4).

    Even steps in t are hopeless from 80 to 0.002: solve with clock="karras", the schedule
    of its equation 5.

    Args:
        T, eps: σ_max and σ_min.
    """

    def __init__(self, T: float = 80.0, eps: float = 0.002) -> None:
        super().__init__(T, eps)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(2 * torch.as_tensor(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return torch.as_tensor(t)

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return torch.ones_like(torch.as_tensor(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        return torch.as_tensor(level)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        return x0, self.marginal_std(expand(t, x0))


class ScheduleSDE(SDE):
    """The SDE with x(t) = a(t) (x(0) + σ(t) z), for any σ and a: dx = (a′/a) x dt + a √(2σσ′) dw.

    The derivatives are taken by automatic differentiation, so σ and a are all that is given.
    Such an SDE cannot be named in a checkpoint; a subclass that fixes σ and a, and is added
    to `SDES`, can. Source: arXiv 2206.00364, appendix B (its s(t) is our a(t)).

    Args:
        sigma: the noise level σ(t), rising; a function of tensors, in elementwise operations.
        scale: a(t) > 0, likewise; 1 if left out.
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
        t = torch.linspace(eps, T, 101, dtype=torch.float64)
        levels, scales = self.noise_level(t), self.marginal_scale(t)
        if not bool((levels[0] > 0) & (levels.diff() > 0).all() & (scales > 0).all()):
            raise InputError(
                f"sigma and scale: σ runs from {float(levels[0]):g} to {float(levels[-1]):g}, the "
                f"smallest a is {float(scales.min()):g}: expected σ(t) > 0 that rises and "
                f"a(t) > 0 on [{eps:g}, {T:g}]"
            )

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        scale, slope = _with_slope(self.scale, t)
        return expand(slope / scale, x) * x

    def diffusion(self, t: Tensor | float) -> Tensor:
        level, slope = _with_slope(self.sigma, t)
        return self.marginal_scale(t) * torch.sqrt(2 * level * slope)

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        return self.scale(torch.as_tensor(t))

    def marginal_std(self, t: Tensor | float) -> Tensor:
        return self.marginal_scale(t) * self.noise_level(t)

    def marginal_prob(self, x0: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = expand(t, x0)
        return self.marginal_scale(t) * x0, self.marginal_std(t)

    def noise_level(self, t: Tensor | float) -> Tensor:
        return self.sigma(torch.as_tensor(t))

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        return _with_slope(self.sigma, t)[1]


def _with_slope(fn: Callable[[Tensor], Tensor], t: Tensor | float) -> tuple[Tensor, Tensor]:
    """fn(t) and fn′(t), both of t's shape, for an elementwise fn."""
    with torch.enable_grad():
        t = torch.as_tensor(t).detach().requires_grad_()
        value = fn(t) + 0 * t  # so that a constant has a derivative too
        (slope,) = torch.autograd.grad(value.sum(), t)
    return value.detach(), slope


def _compare(name: str, t: Tensor, found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().clamp(min=1e-6 * float(expected.abs().max()) + 1e-12)
    error = (found - expected).abs() / scale
    worst = int(error.nan_to_num(nan=math.inf).argmax())
    if not float(error[worst]) < _CHECK_TOLERANCE:
        raise InputError(
            f"at t = {float(t[worst]):.4g}, {name}: {float(found[worst]):.6g} and "
            f"{float(expected[worst]):.6g}, expected two equal numbers: the marginal is not that "
            "of the drift and the diffusion"
        )


SDES: dict[str, type[SDE]] = {
    "VESDE": VESDE,
    "VPSDE": VPSDE,
    "SubVPSDE": SubVPSDE,
    "EDMSDE": EDMSDE,
}
