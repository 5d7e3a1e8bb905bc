r"""Exponential Runge–Kutta methods: stages within a step, and nothing from the steps before.

With y = x / a, λ = −log σ, h the step in λ and k = 1 + η², the equation of any η over a step is

    y(λ₀ + ch)  =  e^{−kch} y₀  +  k ∫₀^{ch} e^{−k(ch−r)} D(λ₀ + r) dr  +  noise,

as in `exponential`. A stage evaluates D at λ₀ + ch, and the next ones interpolate it. With
z = kh, constant D counts gain(z), and the slope of D slope_gain(z) (see `integrals`). The methods
named after DPM-Solver interpolate the noise ε = (y − D) / σ instead, for which

    y(λ₀ + ch)  =  y₀  −  ∫₀^{ch} σ(λ₀ + r) ε(λ₀ + r) dr.

The noise of a stage and that of the step belong together, so that both have the law of the
exact solution with constant D: they are made from the increment of the Brownian motion over the
step, its integral, and for a third part from a number of its own.

Sources: Hochbruck, Ostermann, SIAM J. Numer. Anal. 43 (2005), tableau 5.9, and Zhang et al., arXiv
2308.02157 (res_2s, res_3s); Lu et al., arXiv 2206.00927 (dpm_2, dpm_solver_3) and 2211.01095
(dpmpp_2s, dpmpp_sde, dpmpp_2s_ancestral); Gonzalez et al., arXiv 2305.14267 (seeds_2, seeds_3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

from diffsde.equations.counted import AtTime
from diffsde.errors import InputError
from diffsde.solvers.coefficients import Row, beside
from diffsde.solvers.methods.integrals import gain, slope_gain
from diffsde.solvers.methods.requirements import number_eta, semilinear
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import FixedStep, SolveState

__all__: list[str] = []


@dataclass(frozen=True)
class _Scheme:
    """A method.

    Attributes:
        nodes: c of each stage, given k; the first is 0.
        weights: given z = kh, for each stage after the first and for the end, what the values of
            D (or of ε) at the stages before it count.
        noise_at_stages: whether stages have noise, as the exact solution has there.
        of_noise: whether ε is interpolated and not D.
    """

    nodes: Callable[[float], tuple[float, ...]]
    weights: Callable[[Tensor], list[list[Tensor]]]
    noise_at_stages: bool = True
    of_noise: bool = False


class _SingleStep:
    """The step of a scheme."""

    def __init__(self, state: SolveState, scheme: _Scheme, name: str) -> None:
        self.state, self.linear, self.scheme = state, semilinear(state, name), scheme
        self.dial = number_eta(self.linear, name) ** 2
        self.nodes = scheme.nodes(1 + self.dial)
        self._table = state.table(self._coefficients)
        asked = product(state.nodes[:-1].tolist(), range(self._parts - 2))
        self._numbers = state.numbers("churn", asked)
        self._scores: dict[tuple[float, float], list[AtTime]] = {}

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        row = list(self._table(u0, u1))
        noise = self._noise(u0, u1, x) if self.dial else []
        values, place = [], x
        for number, score in enumerate(self._scores_of(u0, u1)):
            skip, out, keep = (row.pop(0) for _ in range(3))
            values.append(torch.addcmul(skip * place, out, score(place)))
            place = keep * x
            for value in values:
                place = place.addcmul(row.pop(0), value)
            if self.dial and (self.scheme.noise_at_stages or number == len(self.nodes) - 1):
                for part in noise:
                    place = place.addcmul(row.pop(0), part)
        return place

    def _noise(self, u0: Tensor, u1: Tensor, x: Tensor) -> list[Tensor]:
        """Independent standard normal numbers for the step, as many as it has parts."""
        h = beside(u1 - u0, x)
        root, parts = h.sqrt(), self._parts
        if parts == 1:
            return [self.state.increment(u0, u1) / root]
        w, integral = self.state.increment_and_integral(u0, u1)
        area = 12**0.5 * (integral / h - 0.5 * w)
        own = [self._numbers(u0, n) for n in range(parts - 2)]
        return [w / root, area / root, *own]

    @property
    def _parts(self) -> int:
        return len(self.nodes) if self.scheme.noise_at_stages else 1

    def _scores_of(self, u0: Tensor, u1: Tensor) -> list[AtTime]:
        """The score at each stage of a step, as functions of x."""
        equation = self.state.equation
        if u0.dim():
            t = [equation.clock.time(u0).flatten(), *self._times(u0, u1)]
            return [self._at(time) for time in t]
        if not self._scores:
            self._learn_scores()
        known = self._scores.get((float(u0), float(u1)))
        later = [self._at(t) for t in self._times(u0, u1)] if known is None else known
        return [lambda x: equation.score(u0, x), *later]

    def _at(self, t: Tensor) -> AtTime:
        dtype = self.state.equation.dtype
        t = t.to(self.state.x.device, dtype)
        return lambda x: self.linear.score(x.to(dtype), t)

    def _learn_scores(self) -> None:
        """The score at the stages of all steps of the grid, prepared at once."""
        nodes = self.state.nodes
        times = torch.stack(self._times(nodes[:-1], nodes[1:]), 1)
        known = self.linear.score.at(times.flatten().to(self.state.x))
        width = times.shape[1]
        rows = [list(known[i : i + width]) for i in range(0, len(known), width)]
        self._scores = dict(zip(pairwise(nodes.tolist()), rows, strict=True))

    def _times(self, u0: Tensor, u1: Tensor) -> list[Tensor]:
        """t at each stage after the first, of u's shape; (B,) for samples' own steps."""
        levels = self._levels(u0, u1)[1:-1]
        found = [self.linear.process.time_of_noise_level(level.flatten()) for level in levels]
        return [t.reshape(_flat(u0)) for t in found]

    def _levels(self, u0: Tensor, u1: Tensor) -> list[Tensor]:
        """σ at each stage and at the end, of u's shape."""
        u = torch.stack([u0, u1])
        t = self.state.equation.clock.time(u.flatten())
        first, last = self.linear.process.noise_level(t).view_as(u).log()
        return [(first + c * (last - first)).exp() for c in (*self.nodes, 1.0)]

    def _coefficients(self, u0: Tensor, u1: Tensor) -> Row:
        """For each stage: what x and the score count in D or ε; then what the next state is."""
        process, k = self.linear.process, 1 + self.dial
        sigmas = self._levels(u0, u1)
        u = torch.stack([u0, u1])
        ends = process.marginal_scale(self.state.equation.clock.time(u.flatten())).view_as(u)
        inner = [process.marginal_scale(t).view_as(u0) for t in self._times(u0, u1)]
        scales = [ends[0], *inner, ends[1]]
        h = (sigmas[0] / sigmas[-1]).log()
        weights = self.scheme.weights(k * h)
        noise = self._noise_weights(sigmas)
        row: list[Tensor] = []
        for i in range(len(self.nodes)):
            row += self._meaning(scales[i], sigmas[i])
            to, end = scales[i + 1], i == len(self.nodes) - 1
            share = 1.0 if end else self.nodes[i + 1]
            row.append(to / scales[0] * self._kept(k * h, share, end=end))
            factor = -sigmas[i + 1] if self.scheme.of_noise else 1.0
            row += [to * factor * weight for weight in weights[i]]
            row += [to * one for one in noise[i]]
        return tuple(row)

    def _meaning(self, scale: Tensor, sigma: Tensor) -> list[Tensor]:
        """What x and the score count in D, or in ε."""
        if self.scheme.of_noise:
            return [torch.zeros_like(scale), -scale * sigma]
        return [1 / scale, scale * sigma**2]

    def _kept(self, z: Tensor, share: float, *, end: bool) -> Tensor:
        """What is left of y₀ at a stage or at the end."""
        if self.scheme.of_noise:
            return torch.ones_like(z)
        # A stage without noise goes along the flow, for which k = 1.
        rate = 1.0 if end or self.scheme.noise_at_stages else 1 / (1 + self.dial)
        return torch.exp(-rate * share * z)

    def _noise_weights(self, sigmas: list[Tensor]) -> list[list[Tensor]]:
        """What each normal number counts in y at each stage after the first, and at the end."""
        if not self.dial:
            return [[] for _ in self.nodes]
        places = sigmas if self.scheme.noise_at_stages else [sigmas[0], sigmas[-1]]
        steps = [(a / b).log() for a, b in pairwise(places)]
        stds = [
            b * torch.sqrt(gain(2 * self.dial * step))
            for b, step in zip(places[1:], steps, strict=True)
        ]
        k = 1 + self.dial
        rows: list[list[Tensor]] = []  # what the noise of each part counts at each place
        for std, step in zip(stds, steps, strict=True):
            before = [torch.exp(-k * step) * one for one in rows[-1]] if rows else []
            rows.append([*before, std])
        turn = _rotation(torch.stack(rows[-1]))
        turned = [list((turn[: len(row)] * torch.stack(row).unsqueeze(1)).sum(0)) for row in rows]
        return turned if self.scheme.noise_at_stages else [[] for _ in self.nodes[1:]] + turned


def _flat(u: Tensor) -> torch.Size:
    """The shape of times for a score: (B,) where samples have steps of their own, (B, 1)."""
    return torch.Size([len(u)]) if u.dim() > 1 else u.shape


def _rotation(parts: Tensor) -> Tensor:
    """An orthogonal matrix (n, n, …) whose first column is along `parts`, (n, …).

    The second column leans towards the first parts, as the integral of a Brownian motion does.
    """
    first = parts / parts.norm(dim=0)
    n = len(parts)
    columns = [first]
    if n > 1:
        lean = torch.zeros_like(first)
        lean[0], lean[-1] = 1.0, -1.0
        lean = lean - (lean * first).sum(0) * first
        columns.append(lean / lean.norm(dim=0))
    if n == 3:
        columns.append(torch.linalg.cross(columns[0], columns[1], dim=0))
    return torch.stack(columns, 1)


def _two_stages(z: Tensor) -> list[list[Tensor]]:
    """Hochbruck and Ostermann's method of order 2 with c = ½."""
    second = 2 * slope_gain(z)
    return [[gain(z / 2)], [gain(z) - second, second]]


def _midpoint(z: Tensor) -> list[list[Tensor]]:
    """D at the middle stands for the whole step."""
    return [[gain(z / 2)], [torch.zeros_like(z), gain(z)]]


def _three_stages(z: Tensor) -> list[list[Tensor]]:
    """Hochbruck and Ostermann's tableau 5.9 with c = ½ and 1, whose γ is then 4."""
    inner, f = 4 * slope_gain(z / 2) + 2 * slope_gain(z), slope_gain(z)
    return [[gain(z / 2)], [gain(z) - inner, inner], [gain(z) - 5 / 3 * f, 4 / 3 * f, f / 3]]


def _thirds(z: Tensor) -> list[list[Tensor]]:
    """Stages at ⅓ and ⅔; the end knows the first and the last."""
    inner, outer = 2 * slope_gain(2 * z / 3), 1.5 * slope_gain(z)
    return [[gain(z / 3)], [gain(2 * z / 3) - inner, inner], [gain(z) - outer, 0 * z, outer]]


def _noise_at_the_middle(z: Tensor) -> list[list[Tensor]]:
    """ε at the middle stands for the whole step."""
    return [[torch.expm1(z / 2)], [torch.zeros_like(z), torch.expm1(z)]]


def _noise_at_thirds(z: Tensor) -> list[list[Tensor]]:
    """The same as `_thirds` for ε."""
    inner, outer = -2 * slope_gain(-2 * z / 3), -1.5 * slope_gain(-z)
    return [
        [torch.expm1(z / 3)],
        [torch.expm1(2 * z / 3) - inner, inner],
        [torch.expm1(z) - outer, torch.zeros_like(z), outer],
    ]


def _even(stages: int) -> Callable[[float], tuple[float, ...]]:
    """Stages at 0, 1/n, 2/n, …"""
    return lambda k: tuple(i / stages for i in range(stages))


_RES_2 = _Scheme(_even(2), _two_stages)
_RES_3 = _Scheme(lambda k: (0.0, 0.5, 1.0), _three_stages)
_MIDPOINT = _Scheme(_even(2), _midpoint)
_THIRDS = _Scheme(_even(3), _thirds)
_DPM_2 = _Scheme(_even(2), _noise_at_the_middle, of_noise=True)
_DPM_3 = _Scheme(_even(3), _noise_at_thirds, of_noise=True)
# The middle of the way down, which ends below σ₁ and from which noise leads back up.
_ANCESTRAL = _Scheme(lambda k: (0.0, k / 2), _midpoint, noise_at_stages=False)


def _step(name: str, scheme: _Scheme) -> FixedStep:
    def made(state: SolveState) -> _SingleStep:
        if not scheme.noise_at_stages and number_eta(semilinear(state, name), name) > 1:
            raise InputError(f"{name} is for η ≤ 1: its stage would lie beyond the step's end")
        return _SingleStep(state, scheme, name)

    return made


def _row(
    name: str, kind: str, order: float, scheme: _Scheme, source: str, advice: str,
    weak_order: float | None = None,
) -> None:  # fmt: skip
    stages = len(scheme.nodes(1.0))
    # The numbers of a third part belong to a node of the grid.
    by_node = kind == "sde" and stages > 2
    register_own(
        name, kind, order, _step(name, scheme),
        evaluations=stages, source=source, advice=advice, weak_order=weak_order,
        multistep=by_node,
    )  # fmt: skip


_LU, _PLUS = "Lu et al., arXiv 2206.00927", "Lu et al., arXiv 2211.01095"
_RES = "Zhang et al., arXiv 2308.02157"
_SEEDS = "Gonzalez et al., arXiv 2305.14267"
_K_DIFFUSION = f"{_PLUS}, as in k-diffusion"

_row("res_2s", "ode", 2, _RES_2, _RES, "Order 2 however stiff; each step stands alone.")
_row("res_3s", "ode", 3, _RES_3, _RES, "Order 3 however stiff; from about 20 evaluations.")
_row("dpmpp_2s", "ode", 2, _MIDPOINT, _PLUS, "As dpmpp_2m, but each step stands alone.")
_row("dpm_2", "ode", 2, _DPM_2, _LU, "Of the noise, not of the image; clock='karras'.")
_row("dpm_solver_3", "ode", 3, _DPM_3, _LU, "Of the noise, not of the image; from 30 evaluations.")
_row(
    "dpmpp_sde", "sde", 1.0, _MIDPOINT, _K_DIFFUSION,
    "The denoiser at the middle of the step.", weak_order=2,
)  # fmt: skip
_row(
    "dpmpp_2s_ancestral", "sde", 1.0, _ANCESTRAL, _K_DIFFUSION,
    "A step of the flow down beyond σ₁, then noise.", weak_order=1,
)  # fmt: skip
_row("seeds_2", "sde", 1.0, _RES_2, _SEEDS, "Two stages with noise.", weak_order=2)
_row(
    "seeds_3", "sde", 1.0, _THIRDS, _SEEDS,
    "Three stages with noise; of order 3 where there is none.", weak_order=2,
)  # fmt: skip
