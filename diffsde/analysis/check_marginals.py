r"""The marginals of a reverse problem, compared with those of the forward process.

The problem is solved from the prior. At each time the spread and the mean of its samples are
compared with those of the data under forward noise, x(t) = a x(0) + s z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import BlowUpError, InputError
from diffsde.solvers.solving import solve
from diffsde.system.parameters import device_of

__all__ = ["DEVIATIONS", "Forward", "Marginal", "checked_data", "marginals", "solved"]

DEVIATIONS = 4.0  # standard errors by which chance may explain a deviation

_STEPS = 40
_METHOD = {True: "srk", False: "heun2"}  # these call the problem's own drift and diffusion
_SHRUNK = 2.0  # times the prior's std: states that end farther out are no data


def solved(problem: ReverseProblem, times: Tensor, n: int, seed: int) -> list[Tensor]:
    """The states at each time, (n, D), until the solve breaks down."""
    x = problem.sde.prior_sample((n, *problem.shape), seed=seed).to(_device(problem)).flatten(1)
    method = _METHOD[problem.stochastic]
    try:
        sol = solve(problem, x, method, steps=_STEPS, clock="karras", save=times, seed=seed)
        return list(sol.ys)
    except BlowUpError as error:
        reached = {
            float(t): y for t, y in zip(error.trajectory.ts, error.trajectory.ys, strict=True)
        }
        return [reached[t] for t in times.tolist() if t in reached]


def checked_data(data: Tensor, problem: ReverseProblem) -> Tensor:
    """The data as (B, D) on the problem's device.

    Raises:
        InputError: their shape does not fit the problem.
    """
    wanted = torch.Size(problem.shape).numel()
    if data.dim() < 2 or len(data) < 2 or data[0].numel() != wanted:
        raise InputError(
            f"data has shape {tuple(data.shape)}: expected at least two samples, (B, "
            f"{', '.join(map(str, problem.shape))})"
        )
    return data.to(_device(problem), torch.get_default_dtype()).flatten(1)


def _device(problem: ReverseProblem) -> torch.device:
    return device_of(problem) or torch.device("cpu")


@dataclass(frozen=True)
class Forward:
    """The forward process from samples at a time `start`: x(t) = a x(start) + s z.

    Attributes:
        problem: the reverse problem that is checked.
        samples: (m, D).
        start: their time.
        known: whether the samples are data; if not, only pure noise can be compared.
    """

    problem: ReverseProblem
    samples: Tensor
    start: float
    known: bool

    @classmethod
    def of(
        cls, problem: ReverseProblem, data: Tensor | None, twin: list[Tensor], times: Tensor
    ) -> Forward:
        """Start from the data, or without data from the end of the twin's solve."""
        if data is not None:
            return cls(problem, data, 0.0, known=True)
        # The twin is built by this package, so its end is as right as the score is.
        arrived = len(twin) == len(times)
        if arrived and float(twin[-1].std()) < _SHRUNK * problem.sde.prior_std:
            return cls(problem, twin[-1], problem.sde.eps, known=True)
        return cls(problem, torch.zeros_like(twin[0]), 0.0, known=False)

    def scale_and_std(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and s of the step from `start` to t."""
        sde, start = self.problem.sde, torch.tensor(self.start, dtype=torch.float64)
        scale = sde.marginal_scale(t) / sde.marginal_scale(start)
        variance = sde.marginal_std(t) ** 2 - (scale * sde.marginal_std(start)) ** 2
        return scale, variance.clamp(min=0).sqrt()

    def is_known_at(self, t: Tensor) -> bool:
        """Whether the law at t is known."""
        return self.known or float(t) >= self.problem.sde.T


@dataclass(frozen=True)
class Marginal:
    """Spread and shift at one time, as in `CheckRow`, with their standard errors."""

    spread: float
    shift: float
    spread_error: float
    shift_error: float

    def is_off(self, tolerance: float) -> bool:
        """Whether either deviates by more than the tolerance and chance allow."""
        if math.isnan(self.spread):
            return False
        spread_off = abs(math.log(self.spread)) if 0 < self.spread < math.inf else math.inf
        return (
            spread_off > math.log1p(tolerance) + DEVIATIONS * self.spread_error
            or abs(self.shift) > tolerance + DEVIATIONS * self.shift_error
        )


_UNKNOWN = Marginal(math.nan, math.nan, 0.0, 0.0)
_BROKEN = Marginal(math.inf, math.nan, 0.0, 0.0)


def marginals(path: list[Tensor], forward: Forward, times: Tensor) -> list[Marginal]:
    """Compare the states at each time with the forward process at that time."""
    centre = forward.samples.double().mean(0)
    around = (forward.samples.double() - centre).square().mean(1)
    found = [_marginal(x, t, forward, centre, around) for x, t in zip(path, times, strict=False)]
    return found + [_BROKEN] * (len(times) - len(found))


def _marginal(x: Tensor, t: Tensor, forward: Forward, centre: Tensor, around: Tensor) -> Marginal:
    if not forward.is_known_at(t):
        return _UNKNOWN
    scale, std = (float(v) for v in forward.scale_and_std(t))
    expected = scale**2 * float(around.mean()) + std**2
    off = x.double() - scale * centre
    squares, means = off.square().mean(1), off.mean(1)
    chance = (_stderr(squares) / float(squares.mean())) ** 2
    chance += (scale**2 * _stderr(around) / expected) ** 2
    brightness = scale * _stderr(forward.samples.double().mean(1))
    return Marginal(
        math.sqrt(float(squares.mean()) / expected),
        float(means.mean()) / math.sqrt(expected),
        0.5 * math.sqrt(chance),
        math.sqrt((_stderr(means) ** 2 + brightness**2) / expected),
    )


def _stderr(values: Tensor) -> float:
    """The standard error of a mean."""
    return float(values.std()) / math.sqrt(len(values))
