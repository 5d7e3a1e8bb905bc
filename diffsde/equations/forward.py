r"""Forward SDEs: from data to noise.

A forward process is the Itô equation

    dx = f(x, t) dt + g(t) dw,        t ∈ [0, T],

whose drift f is linear in x, so that x(t) given x(0) is Gaussian:

    x(t) | x(0)  ~  N( a(t) x(0), s(t)² I ).

`drift` is f, `diffusion` is g, `marginal_prob` gives a(t) x(0) and s(t), and the prior
N(m, s(T)² I) approximates the law of x(T), with m = 0 by default. Everything else in
this package is written against these four, never against one particular equation.

The true mean of x(T) is a(T) E[x(0)], and `SDE.centre` gives the prior this mean. For MNIST
under the VE SDE it amounts to 0.6 standard deviations in the direction of the mean image.
Noise without it has less ink than noised digits, and the probability flow, which forgets
nothing, turns such noise into too many ones.

These functions depend on each other. With the noise level σ(t) = s(t) / a(t),

    f(x, t) = (a′/a) x,        dσ²/dt = g² / a²,

and `SDE.check` verifies both. With B(t) = ∫₀ᵗ β, where β is linear in t, the SDEs here are:

| class         | f          | g²                | a        | s²                   | σ            |
|---------------|------------|-------------------|----------|----------------------|--------------|
| `VESDE`       | 0          | σ²ᵗ               | 1        | (σ²ᵗ − 1) / (2 ln σ) | s            |
| `VPSDE`       | −½ β x     | β                 | e^{−B/2} | 1 − e^{−B}           | √(e^B − 1)   |
| `SubVPSDE`    | −½ β x     | β (1 − e^{−2B})   | e^{−B/2} | (1 − e^{−B})²        | 2 sinh(B/2)  |
| `EDMSDE`      | 0          | 2 t               | 1        | t²                   | t            |
| `StraightSDE` | −x/(1−t)   | 2 t / (1 − t)     | 1 − t    | t²                   | t / (1 − t)  |
| `ScheduleSDE` | (a′/a) x   | 2 a² σ σ′         | any a(t) | a² σ²                | any σ(t)     |

Sources: Song et al., "Score-Based Generative Modeling through Stochastic Differential
Equations", arXiv 2011.13456, section 3 and appendix C, for the first three; Karras et
al., arXiv 2206.00364, table 1 and appendix B, for `EDMSDE` and `ScheduleSDE`; for
`StraightSDE` see `straight`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.consistency import check_consistency
from diffsde.equations.counted import Counted, at_times
from diffsde.equations.dynamics import ENDLESS, Dynamics, Field
from diffsde.errors import InputError
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import checked_seed, numbered
from diffsde.system.devices import named_device, real_dtype
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number, sizes
from diffsde.system.parameters import finest_dtype

__all__ = ["SDE", "exact_time", "expand"]

_BISECTIONS = 60  # enough to halve [0, T] down to the spacing of float64


def expand(t: Tensor | float, x: Tensor) -> Tensor:
    """Add the axes with which t, a scalar or of shape (B,), broadcasts against x, (B, …)."""
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    return t.reshape(-1, *[1] * (x.dim() - 1)) if t.dim() else t


def exact_time(t: Tensor | float, x: Tensor) -> Tensor:
    """t as a tensor, in a dtype no coarser than x's, than float32 and than its own.

    Functions of t computed from it are as precise as x. A float by itself would become a
    tensor of the default dtype, float32.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if isinstance(t, Tensor):
        return t.to(torch.promote_types(t.dtype, dtype))
    return on_host(t, dtype)


class SDE(nn.Module):
    """The base class of forward processes dx = f(x, t) dt + g(t) dw.

    A subclass defines `drift`, `diffusion` and `marginal_prob`. `f` and `g` make every
    forward process an SDE object that `torchsde.sdeint` accepts.

    Attributes:
        T: the last time, where the prior holds.
        eps: ε, the smallest time at which a score is evaluated; reverse solves end there.
    """

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, T: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__()
        T, eps = (real_number(v, name, "a number") for v, name in ((T, "T"), (eps, "eps")))
        if not 0 < eps < T:
            raise InputError(
                f"eps = {eps} and T = {T}: expected 0 < eps < T, because the marginal's std "
                "is zero at t = 0 and no score exists there; the tutorial takes eps = 1e-3"
            )
        self.T = T
        self.eps = eps
        self.data_mean: Tensor | None
        self.register_buffer("data_mean", None, persistent=False)
        self._largest = 0.0  # number of the data's mean

    def centre(self, data_mean: Tensor | None) -> None:
        """Give the prior the mean of x(T), a(T) · data_mean; None makes it zero again.

        Args:
            data_mean: E[x(0)], of one sample's shape.
        """
        if data_mean is not None and not torch.isfinite(data_mean).all():
            raise InputError("data_mean contains numbers that are not finite")
        self.data_mean = None if data_mean is None else data_mean.detach().clone()
        self._largest = 0.0 if data_mean is None else float(data_mean.abs().max())

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
        t = on_host(t)
        return self.marginal_prob(torch.zeros_like(t), t)[1]

    def marginal_scale(self, t: Tensor | float) -> Tensor:
        """a(t), the factor of x(0) in the mean of x(t), of t's shape."""
        t = on_host(t)
        return self.marginal_prob(torch.ones_like(t), t)[0]

    def marginal_scale_slope(self, t: Tensor | float) -> Tensor:
        """a′(t), of t's shape."""
        t = on_host(t)
        return self.marginal_scale(t) * self.drift(torch.ones_like(t), t)

    def marginal_std_slope(self, t: Tensor | float) -> Tensor:
        """s′(t), of t's shape. Where s is 0 it is infinite or unknown."""
        t = on_host(t)
        std, pull = self.marginal_std(t), self.drift(torch.ones_like(t), t)
        return pull * std + self.diffusion(t) ** 2 / (2 * std)

    def noise_level(self, t: Tensor | float) -> Tensor:
        """s(t) / a(t), the noise on x(t) / a(t), of t's shape: the σ of Karras et al."""
        return self.marginal_std(t) / self.marginal_scale(t)

    def noise_level_slope(self, t: Tensor | float) -> Tensor:
        """dσ/dt = g² / (2 σ a²), of t's shape.

        At t = 0 this formula is 0 / 0 if σ(0) = 0. A subclass whose slope is positive there
        overrides it.
        """
        growth = (self.diffusion(t) / self.marginal_scale(t)) ** 2
        return growth / (2 * self.noise_level(t))

    def time_of_noise_level(self, level: Tensor | float) -> Tensor:
        """The t in [0, T] with `noise_level(t)` = level, of level's shape.

        The noise level rises with t, so bisection finds it, in float64 where the level's device
        has that. A subclass with a closed form overrides this.
        """
        level = on_host(level)
        low = torch.zeros_like(level, dtype=finest_dtype(level.device))
        high = torch.full_like(low, self.T)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = self.noise_level(middle) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (0.5 * (low + high)).to(level.dtype)

    def log_level_range(self, start: float) -> tuple[float, float]:
        """ln σ at t = `start` and at T, where it may be infinite."""
        low, high = self.noise_level(on_host([start, self.T], torch.float64)).log().tolist()
        return low, high

    @property
    def endless(self) -> bool:
        """Whether the noise level is infinite at T: nothing of the data is left, in any digit."""
        return not float(self.noise_level(on_host(self.T, torch.float64))) < ENDLESS

    @property
    def prior_std(self) -> float:
        """s(T), the standard deviation of the prior."""
        return float(self.marginal_std(on_host(self.T, torch.float64)))

    @property
    def largest_mean(self) -> float:
        """The largest number of the mean of x(t) at any t, 0 if the data's mean is unknown."""
        if self.data_mean is None:
            return 0.0
        scale = float(self.marginal_scale(on_host(self.T, torch.float64)))
        return max(1.0, scale) * self._largest

    def prior_sample(
        self,
        shape: Sequence[int],
        *,
        seed: int | None = None,
        first: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw x(T) ~ N(m, s(T)² I) of shape (B, …); m = a(T) · data_mean, or 0 without one.

        Sample i depends only on seed and first + i, so a large batch may be drawn in parts. It is
        drawn on the device, torch's default one if none is given, and is the same on every device
        but for rounding.
        """
        n, *rest = sizes(shape, "shape", "positive numbers (B, …)") or (0,)
        if not n:
            raise InputError("shape = (): expected positive numbers (B, …)")
        dtype = real_dtype(dtype)
        where = torch.get_default_device() if device is None else named_device(device)
        table = NormalTable(checked_seed(seed), "prior")
        noise = table.rows(numbered(first, n), 0, rest, dtype, where)
        return self.prior_mean(noise) + self.prior_std * noise

    def prior_logp(self, x: Tensor) -> Tensor:
        """log N(x; m, s(T)² I), of shape (B,), in nats."""
        dims = x[0].numel()
        square = (x - self.prior_mean(x)).flatten(1).square().sum(1) / self.prior_std**2
        return -0.5 * square - dims * (0.5 * math.log(2 * math.pi) + math.log(self.prior_std))

    def prior_mean(self, x: Tensor) -> Tensor:
        """The prior's mean m, which broadcasts against states x, (B, …) or flat (B, D)."""
        if self.data_mean is None:
            return x.new_zeros(())
        if x[0].numel() != self.data_mean.numel():
            raise InputError(
                f"samples of shape {tuple(x.shape[1:])}, but the prior's mean has shape "
                f"{tuple(self.data_mean.shape)}: use samples of that shape, or call centre(None)"
            )
        scale = self.marginal_scale(on_host(self.T, torch.float64))
        return (float(scale) * self.data_mean).to(x).reshape(x.shape[1:])

    def check(self) -> None:
        """Check that `drift`, `diffusion` and `marginal_prob` belong to one process.

        If they do not, solves have the wrong law, and no other check reports it.

        Raises:
            InputError: they do not; the error names the function, the time and both numbers.
        """
        check_consistency(self)

    # torchsde calls the drift and the diffusion f(t, y) and g(t, y).
    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.drift(y, t)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return expand(self.diffusion(t), y).expand_as(y)

    @property
    def interval(self) -> tuple[float, float]:
        """The start and the end of the process in t."""
        return 0.0, self.T

    def to_dynamics(self) -> Dynamics:
        """The parts that a solver needs, with the evaluations of the drift counted."""
        counted = Counted(self.drift, "drift")
        return Dynamics(
            name=type(self).__name__,
            kind="sde",
            drift=Field(counted, partial(at_times, counted)),
            counted=counted,
            interval=self.interval,
            diffusion=self.diffusion,
            process=self,
            module=self,
        )

    def config(self) -> dict[str, Any]:
        """The arguments from which this object can be rebuilt, in types that JSON can hold."""
        return {"T": self.T, "eps": self.eps}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.config().items())
        return f"{type(self).__name__}({settings})"
