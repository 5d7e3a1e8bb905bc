r"""Exponential integrators: the DPM-Solver++ family, which is one formula.

With y = x / a, noise level σ, λ = −log σ, h the step in λ, and the denoiser D as a function of
λ, the equation of any η (see `diffsde.equations.reverse`) is linear but for D, so over a step

    y₁  =  e^{−(1+η²)h} y₀  +  (1+η²) ∫₀ʰ e^{−(1+η²)(h−r)} D(λ₀ + r) dr
           +  σ₁ √(1 − e^{−2η²h}) z,

exactly in law for constant D. With D constant, this is DDIM for η = 0 and ancestral sampling
for η = 1; with D extrapolated from one or two earlier steps it is the 2M and 3M method. They
are registered for both kinds of problem.

In Karras's clock the last step is the longest in λ, and the denoiser has settled by then: what a
polynomial of several values extends over it is wrong in most directions. So the option `last_order`
lowers the order of the last step, as `lower_order_final` of diffusers does of the last two. One
step of order 1 leaves an error of h², so a whole solve is then of order 2 at most.

Where η is a function of time, η² h becomes E = ∫ η² dλ over the step, and the weights of D and its
derivatives are integrals of e^{−(h − r) − (E − E(r))} (1 + η²). All are found by quadrature. If E
is not exact the law still is, since the step is that of another η with this E.

Sources: Song, Meng, Ermon, arXiv 2010.02502 (ddim); Lu et al., arXiv 2211.01095 (dpmpp_2m,
sde_dpmpp_2m); Zhao et al., arXiv 2302.04867 (unipc); Xue et al., arXiv 2309.05019 (sa_solver).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock
from diffsde.equations.dynamics import Semilinear
from diffsde.solvers.methods.integrals import gain, gauss, slope_gain
from diffsde.solvers.methods.requirements import semilinear
from diffsde.solvers.option_values import whole
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import FixedStep, SolveState

__all__: list[str] = []


class _Weights(NamedTuple):
    """An exponential step is linear: what x, D, D′, D″ and the Brownian increment count."""

    state: Tensor
    denoised: Tensor
    first: Tensor
    second: Tensor
    noise: Tensor
    h: Tensor  # the step in λ
    scale: Tensor  # a(t₀)
    variance: Tensor  # s(t₀)²


def _weights(linear: Semilinear, clock: Clock, order: int, u0: Tensor, u1: Tensor) -> _Weights:
    """The weights of the step from u₀ to u₁; all but the last three count at t₁, times a(t₁)."""
    process, u = linear.process, torch.stack([u0, u1])
    t = clock.time(u.flatten())  # a user's own SDE expects times of one dimension at most
    a0, a1 = process.marginal_scale(t).view_as(u)
    sigma0, sigma1 = process.noise_level(t).view_as(u)
    h = torch.log(sigma0 / sigma1)
    spans = _varying_spans if callable(linear.eta) else _spans
    total, spent, phi2, phi3 = spans(linear, sigma0, h)
    whole = gain(total)
    return _Weights(
        state=a1 * torch.exp(-total) / a0,
        denoised=a1 * whole,
        # At order 2 the paper's weight, which differs from φ₂ by O(h²).
        first=a1 * h * (0.5 * whole if order == 2 else phi2),
        second=a1 * h**2 * phi3,
        noise=a1 * sigma1 * torch.sqrt(gain(2 * spent) / (u1 - u0)),
        h=h,
        scale=a0,
        variance=(a0 * sigma0) ** 2,
    )


class _Spans(NamedTuple):
    """Integrals over a step in λ of length h, of the same shape."""

    total: Tensor  # of 1 + η²
    spent: Tensor  # of η²
    phi2: Tensor  # 1 − ∫ K dr / h, with K = e^{−∫ (1 + η²)} from r to the end
    phi3: Tensor  # ½ − ∫ r K dr / h²


def _spans(linear: Semilinear, sigma0: Tensor, h: Tensor) -> _Spans:
    """For a number η."""
    dial = linear.eta**2  # type: ignore[operator]
    total = (1 + dial) * h
    phi2 = slope_gain(total)
    return _Spans(total, dial * h, phi2, 0.5 - phi2 / total)


_NODES, _SHARES = gauss(8)


def _varying_spans(linear: Semilinear, sigma0: Tensor, h: Tensor) -> _Spans:
    """For an η that is a function of time."""

    def spent_at(r: Tensor) -> Tensor:
        """∫ η² from the start of the step to r."""
        places = r[..., None] * _NODES.to(r)
        level = (
            sigma0.reshape(*sigma0.shape, *[1] * (places.dim() - sigma0.dim())) * (-places).exp()
        )
        t = linear.process.time_of_noise_level(level.flatten()).clamp(max=linear.process.T)
        squares = linear.eta(t).to(r).reshape(places.shape) ** 2  # type: ignore[operator]
        return r * (squares @ _SHARES.to(r))

    r = h[..., None] * _NODES.to(h)
    spent = spent_at(h)
    kernel = torch.exp(-((h + spent)[..., None] - r - spent_at(r)))
    zeroth, first = kernel @ _SHARES.to(h), (_NODES.to(h) * kernel) @ _SHARES.to(h)
    return _Spans(h + spent, spent, 1 - zeroth, 0.5 - first)


class _Exponential:
    """Exponential integrator of order 1, 2 or 3 with the denoiser extrapolated.

    Option `last_order`: the order of the step that ends at the last node.

    Args:
        order: how many values of the denoiser are used.
    """

    def __init__(self, state: SolveState, order: int, name: str) -> None:
        self.state, linear = state, semilinear(state, name, any_eta=True)
        self.order, self.noisy = order, callable(linear.eta) or linear.eta > 0
        self._last_order = state.options.get("last_order", order)
        self._table = state.table(partial(_weights, linear, state.equation.clock, order))
        # Denoisers, each with the step in λ that began there, the newest first.
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=order - 1)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        w = _Weights(*self._table(u0, u1))
        denoised = self._denoised(u0, x, w)
        x1 = _advanced(w, x, denoised, *self._derivatives(denoised, self._order_to(u1)))
        self._past.appendleft((w.h, denoised))
        return x1.addcmul_(w.noise, self.state.increment(u0, u1)) if self.noisy else x1

    def _denoised(self, u: Tensor, x: Tensor, w: _Weights) -> Tensor:
        """E[x(0) | x(t) = x] (Tweedie's formula)."""
        score = self.state.equation.score(u, x)
        return torch.addcmul(x, w.variance, score).div_(w.scale)

    def _order_to(self, u1: Tensor) -> int:
        """How many values of the denoiser the step to u₁ may use."""
        if self._last_order == self.order:  # as that of ddim always is, whose samples may be apart
            return self.order
        return self._last_order if bool(u1 >= self.state.nodes[-1]) else self.order

    def _derivatives(self, newest: Tensor, order: int) -> tuple[Tensor | None, Tensor | None]:
        """D′ and D″ in λ at the newest node, of the polynomial through the last ones."""
        slope, bend = self._differences(newest, order)
        if slope is None or bend is None:
            return slope, None
        return slope + self._past[0][0] * bend, 2 * bend

    def _differences(self, newest: Tensor, order: int) -> tuple[Tensor | None, Tensor | None]:
        """First and second divided differences of the denoiser over the last nodes."""
        known = min(order, 1 + len(self._past))
        if known == 1:
            return None, None
        h1, d1 = self._past[0]
        slope = (newest - d1).div_(h1)
        if known == 2:
            return slope, None
        h2, d2 = self._past[1]
        return slope, (slope - (d1 - d2) / h2) / (h1 + h2)


def _advanced(
    w: _Weights, x: Tensor, d: Tensor, first: Tensor | None, second: Tensor | None
) -> Tensor:
    """The state after a step, but for noise, with what is known of D and its derivatives."""
    x1 = (w.state * x).addcmul_(w.denoised, d)
    if first is not None:
        x1.addcmul_(w.first, first)
    return x1 if second is None else x1.addcmul_(w.second, second)


class _Corrected(_Exponential):
    """Order 3: predict with the last denoisers, correct once the next one is known.

    For the flow it is UniPC; with noise, which both take alike, the stochastic Adams method.

    The corrector costs nothing: the denoiser at the predicted state is what the next step
    begins with. It also mends the first steps, whose predictors know less, so that the
    whole converges with order 3. With the exact integrals of the polynomials, in λ; only
    the last step is not corrected.
    """

    def __init__(self, state: SolveState, name: str) -> None:
        super().__init__(state, 3, name)
        # The newest step, its start and its noise.
        self._before: tuple[_Weights, Tensor, Tensor | None] | None = None

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        w = _Weights(*self._table(u0, u1))
        denoised = self._denoised(u0, x, w)
        if self._before is not None:
            x = self._corrected(*self._before, denoised)
        noise = w.noise * self.state.increment(u0, u1) if self.noisy else None
        x1 = _advanced(w, x, denoised, *self._derivatives(denoised, self._order_to(u1)))
        self._past.appendleft((w.h, denoised))
        self._before = w, x, noise
        return x1 if noise is None else x1.add_(noise)

    def _corrected(self, w: _Weights, x: Tensor, noise: Tensor | None, newest: Tensor) -> Tensor:
        """The end of the last step again, with the denoiser there."""
        slope, bend = self._differences(newest, self.order)
        first = slope if slope is None or bend is None else slope - w.h * bend
        x1 = _advanced(w, x, self._past[0][1], first, None if bend is None else 2 * bend)
        return x1 if noise is None else x1.add_(noise)


_LU = "Lu et al., arXiv 2211.01095"
_DDIM = "Song, Meng, Ermon, arXiv 2010.02502"


def _exponential(name: str, order: int) -> FixedStep:
    return lambda state: _Exponential(state, order, name)


def _corrected(name: str) -> FixedStep:
    return lambda state: _Corrected(state, name)


def _row(
    name: str, kind: str, order: float, step: FixedStep, source: str, advice: str,
    weak_order: float | None = None, most: int = 1,
) -> None:  # fmt: skip
    """A row of a method whose polynomials go through up to `most` values of the denoiser."""
    register_own(
        name, kind, order, step,
        evaluations=1, source=source, advice=advice, weak_order=weak_order,
        multistep=most > 1, options={"last_order": whole(1, most)} if most > 1 else {},
    )  # fmt: skip


_row(
    "ddim", "sde", 1.0, _exponential("ddim", 1), f"{_DDIM}; at η = 1 ancestral sampling",
    "Exact noise for any step; clock='karras'.", weak_order=1,
)  # fmt: skip
_row(
    "sde_dpmpp_2m", "sde", 1.0, _exponential("sde_dpmpp_2m", 2), _LU,
    "The best SDE sampler at 10 to 40 steps, clock='karras'.", weak_order=2, most=2,
)  # fmt: skip
_row(
    "sde_dpmpp_3m", "sde", 1.0, _exponential("sde_dpmpp_3m", 3), _LU,
    "As sde_dpmpp_2m, from 20 steps.", weak_order=2, most=3,
)  # fmt: skip
_row(
    "ddim", "ode", 1, _exponential("ddim", 1), _DDIM,
    "The exponential Euler step, in any clock; 20 steps or more in clock='karras'.",
)  # fmt: skip
_row(
    "dpmpp_2m", "ode", 2, _exponential("dpmpp_2m", 2), _LU,
    "Two values of the denoiser, at 5 to 20 steps, clock='karras'.",
    most=2,
)  # fmt: skip
_row(  # its first two steps know fewer values, so it converges with their order
    "dpmpp_3m", "ode", 2, _exponential("dpmpp_3m", 3), _LU,
    "As dpmpp_2m, with three values of the denoiser: order 3 but for its first steps.",
    most=3,
)  # fmt: skip
_row(
    "unipc", "ode", 3, _corrected("unipc"), "Zhao et al., arXiv 2302.04867",
    "The nearest for the flow from 10 steps, clock='log_sigma'; for 5 to 8 evaluations take "
    "clock='karras' and option last_order=1.",
    most=3,
)  # fmt: skip
_row(
    "sa_solver", "sde", 1.0, _corrected("sa_solver"), "Xue et al., arXiv 2309.05019, with τ = η",
    "As unipc, with noise; from 15 steps.", weak_order=2, most=3,
)  # fmt: skip
