r"""Embedded Runge–Kutta pairs: two methods on the same stages, whose difference is the error.

    kᵢ  =  f(u₀ + cᵢ h,  x₀ + h Σⱼ aᵢⱼ kⱼ),        x₁  =  x₀ + h Σ bᵢ kᵢ,        e  =  h Σ eᵢ kᵢ.

Where the last stage is the end of the step, its slope is handed on to the next step (first same
as last).

Every sample has its own steps if the drift takes times (B,), as scores do. A function that takes
only a scalar time has one step for the whole batch, by the norm of the whole batch, as in
torchdiffeq: the batch is then one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.solvers.adaptive import put, taken, walk_own_steps
from diffsde.solvers.control import Control, Norm, error_norm, first_steps, rms
from diffsde.solvers.interpolation import CUBIC, QUARTIC, QUINTIC, SEXTIC
from diffsde.solvers.option_values import Check, function, positive, share, zero_or_more
from diffsde.solvers.state import SolveState, Walk

__all__ = ["PAIR_OPTIONS", "Pair", "PairStep", "pair_ways", "walk_pair"]

PAIR_OPTIONS: dict[str, Check] = {
    "norm": function,
    "first_step": positive,
    "min_step": zero_or_more,
    "max_step": positive,
    "safety": share(0.01, 1),
    "ifactor": share(1.01, 1e6),
    "dfactor": share(1e-6, 0.99),
    "beta": share(0, 1),
}
_SMALLEST = 1e-12  # share of the whole interval
_BETA = 0.2  # Hairer's for dopri5
_PLACES = (0.5, 0.15, 0.7)  # of the sextic's slopes
_FREE = 5  # up to this order the states within a step cost no evaluation

Drift = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """The tableau of an embedded pair.

    Attributes:
        order: of the method that steps; the error is of order h^order.
        nodes: c of every stage but the first.
        rows: a of every stage but the first.
        weights: b of all stages.
        errors: e of all stages.
        middle: weights of the state at half a step, for methods of order 5 and more.
    """

    order: int
    nodes: Sequence[float]
    rows: Sequence[Sequence[float]]
    weights: Sequence[float]
    errors: Sequence[float]
    middle: Sequence[float] = ()

    @property
    def shares(self) -> bool:
        """Whether the last stage of a step is the first of the next."""
        return self.nodes[-1] == 1 and list(self.weights[:-1]) == list(self.rows[-1])

    def take(
        self, f: Drift, u0: Tensor, u1: Tensor, h: Tensor, x: Tensor, slope: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The end of a step, and the slopes of all stages.

        Args:
            f: the drift, called (u, x).
            u0, u1: both ends of the step, scalars or (n, 1).
            h: its length, as a factor of states.
            x: (n, D), the states at its start.
            slope: the drift there.
        """
        slopes, stage = [slope], x
        for c, row in zip(self.nodes, self.rows, strict=True):
            stage = x + h * _combined(row, slopes)
            slopes.append(f(u1 if c == 1 else u0 + c * (u1 - u0), stage))
        return stage if self.shares else x + h * _combined(self.weights, slopes), slopes


def _combined(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    return sum(w * k for w, k in zip(weights, slopes, strict=True) if w)  # type: ignore[return-value]


class PairStep:
    """The step of a pair on given nodes, without its error.

    A slope that two steps share is handed on, so each step must begin where the last one ended.
    """

    def __init__(self, pair: Pair, state: SolveState) -> None:
        self._pair, self._f = pair, state.equation.f
        self._slope: Tensor | None = None  # at the end of the last step, where it is known

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        slope = self._f(u0, x) if self._slope is None else self._slope
        end, slopes = self._pair.take(self._f, u0, u1, u1 - u0, x, slope)
        self._slope = slopes[-1] if self._pair.shares else None
        return end


def pair_ways(pair: Pair) -> dict[str, Any]:
    """The step function and the walk of a pair, as a row of the registry takes them."""
    return {
        "one_step": lambda state: PairStep(pair, state),
        "walk": lambda state: walk_pair(pair, state),
    }


def walk_pair(pair: Pair, state: SolveState) -> Walk:
    """The steps of a pair, each as long as its error allows."""
    drift, x = _by_samples(state)
    options, whole = state.options, state.equation.duration
    control = Control(
        order=pair.order,
        smallest=options.get("min_step", _SMALLEST * whole),
        largest=options.get("max_step", whole),
        safety=options.get("safety", 0.9),
        shrink=options.get("dfactor", 0.2),
        grow=options.get("ifactor", 10.0),
        beta=options.get("beta", _BETA),
    )
    return walk_own_steps(state, x, _PairAttempts(pair, state, drift), control)


def _by_samples(state: SolveState) -> tuple[Drift, Tensor]:
    """The drift as a function of times (n, 1) and flat samples (n, D), and the samples."""
    equation, shape = state.equation, state.x.shape
    if equation.dynamics.sample_times:
        return (
            lambda u, x: equation.f(u, x.reshape(-1, *shape[1:])).flatten(1),
            state.x.reshape(len(state.x), -1),
        )
    return (
        lambda u, x: equation.f(u.reshape(()), x.reshape(shape)).reshape(1, -1),
        state.x.reshape(1, -1),
    )


@dataclass(frozen=True)
class _PairTrial:
    """Steps that were tried: their ends, their errors, and what is known within them."""

    x: Tensor
    error: Tensor
    ends: Tensor  # (n, 2), both times of each
    last_slope: Tensor
    within: list[Tensor]  # x₀, h f₀, x₁, h f₁, and the state at ½ for order 5 and more


class _PairAttempts:
    """Steps of a pair, tried by some samples; see `adaptive.Attempts`."""

    def __init__(self, pair: Pair, state: SolveState, drift: Drift) -> None:
        self.pair, self.state, self.f = pair, state, drift
        self.norm: Norm = state.options.get("norm", rms)
        self.dense = state.watched or pair.order <= _FREE

    def begin(self, u: Tensor, x: Tensor) -> None:
        self.x = x
        self.slope = self.f(u[:, None], x)
        self.ends = torch.stack([u, u], 1)  # (B, 2), both times of the last steps
        self.within = [x] * ((5 if self.pair.middle else 4) if self.dense else 0)
        self.slopes = [x] * len(_PLACES)  # times h, within the last steps of those marked so:
        self.sloped = torch.zeros(len(x), dtype=torch.bool, device="cpu")

    def first_steps(self) -> Tensor:
        u = self.ends[:, 0]
        first = self.state.options.get("first_step")
        if first is not None:
            return torch.full_like(u, first)
        most = float(self.state.nodes[-1] - u[0])
        start = (u, self.x, self.slope)
        return first_steps(self.f, self.norm, self.state, self.pair.order, *start, most)

    def attempt(self, rows: Tensor, u0: Tensor, u1: Tensor, x: Tensor) -> _PairTrial:
        pair, h, slope = self.pair, (u1 - u0)[:, None].to(x), taken(self.slope, rows)
        end, slopes = pair.take(self.f, u0[:, None], u1[:, None], h, x, slope)
        error = error_norm(self.norm, self.state, h * _combined(pair.errors, slopes), x, end)
        within = [x, h * slope, end, h * slopes[-1]] if self.dense else []
        if within and pair.middle:
            within.append(x + h * _combined(pair.middle, slopes))
        return _PairTrial(end, error, torch.stack([u0, u1], 1), slopes[-1], within)

    def keep(self, rows: Tensor, trial: _PairTrial, accepted: Tensor) -> None:
        done, ends = rows[accepted], trial.ends[accepted]
        self.slope = put(self.slope, done, taken(trial.last_slope, accepted))
        self.ends = put(self.ends, done, ends)
        self.sloped[done] = False
        self.within = [
            put(whole, done, taken(part, accepted))
            for whole, part in zip(self.within, trial.within, strict=True)
        ]

    def between(self, rows: Tensor, u: float) -> Tensor:
        u0, u1 = taken(self.ends, rows).split(1, 1)
        theta, known = (u - u0) / (u1 - u0), [taken(part, rows) for part in self.within]
        if self.pair.order < _FREE:
            return CUBIC.at(theta, known)
        if self.pair.order == _FREE:
            return QUARTIC.at(theta, known)
        self._find_slopes(rows[~self.sloped[rows]])
        return SEXTIC.at(theta, [*known[:4], *(taken(part, rows) for part in self.slopes)])

    def _find_slopes(self, rows: Tensor) -> None:
        """The slopes within the last steps of some samples: three evaluations."""
        if not len(rows):
            return
        u0, u1 = taken(self.ends, rows).split(1, 1)
        known, h = [taken(part, rows) for part in self.within], (u1 - u0).to(self.within[0])
        found: list[Tensor] = []
        for place in _PLACES:
            there = torch.full_like(u0, place)
            x = QUINTIC.at(there, [*known, found[0]]) if found else known[4]
            found.append(h * self.f(u0 + place * (u1 - u0), x))
        self.slopes = [put(a, rows, b) for a, b in zip(self.slopes, found, strict=True)]
        self.sloped[rows] = True
