r"""The marginals of a reverse problem, compared with those of the forward process.

The problem is solved from the prior. At each time the spread and the mean of its samples are
compared with those of the data under forward noise, x(t) = a x(0) + s z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import BlowUpError, InputError
from diffsde.solvers.solving import solve
from diffsde.system.host import on_host
from diffsde.system.parameters import device_of

__all__ = [
    "DEVIATIONS",
    "Forward",
    "Marginal",
    "Solved",
    "checked_data",
    "cost_of",
    "marginals",
    "solved",
]

DEVIATIONS = 4.0  # standard errors by which chance may explain a deviation

# With so many, in Karras's clock, the spread of an exact mixture is off by 6 % at most, for every
# process here, the flow and η of 1 and 1.5; with 27 by 15 %. EDM's is the worst, since its noise
# levels span most.
_STEPS = 36
_METHOD = {True: "srk", False: "heun2"}  # these call the problem's own drift and diffusion
_CALLS = 2  # of the score, by a step of either
_SHRUNK = 2.0  # times the prior's std: states that end farther out are no data


class Solved(NamedTuple):
    """The states at each time, (n, D), until the solve broke down, and its evaluations."""

    states: list[Tensor]
    nfe: int


def _steps(times: int) -> int:
    """Every time but the two ends is one more node."""
    return _STEPS + times - 2


def cost_of(problem: ReverseProblem, times: int) -> int:
    """The evaluations that `solved` takes for so many times."""
    return _CALLS * _steps(times) * problem.to_dynamics().counted.evaluations


def solved(
    problem: ReverseProblem, times: Tensor, n: int, seed: int, spent: Callable[[int], object]
) -> Solved:
    """Solve from n draws of the prior through the times.

    After each step `spent` is told how many evaluations it took.
    """
    place = _device(problem)
    x = problem.sde.prior_sample((n, *problem.shape), seed=seed, device=place).flatten(1)
    method, each = _METHOD[problem.stochastic], cost_of(problem, len(times)) // _steps(len(times))

    def after_step(*_: object) -> None:
        spent(each)

    try:
        sol = solve(
            problem, x, method,
            steps=_STEPS, clock="karras", save=times, seed=seed, callback=after_step,
        )  # fmt: skip
        return Solved(list(sol.ys), sol.stats.nfe)
    except BlowUpError as error:
        part = error.trajectory
        reached = {float(t): y for t, y in zip(part.ts, part.ys, strict=True)}
        return Solved([reached[t] for t in times.tolist() if t in reached], part.stats.nfe)


def checked_data(data: Tensor, problem: ReverseProblem) -> Tensor:
    """The data as (B, D) on the problem's device.

    Raises:
        InputError: their shape does not fit the problem.
    """
    wanted = torch.Size(problem.shape).numel()
    if not isinstance(data, Tensor):
        raise InputError(f"data = {data!r:.80}: expected a tensor of samples")
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
        cls,
        problem: ReverseProblem,
        data: Tensor | None,
        twin: Solved | None,
        times: Tensor,
        n: int,
    ) -> Forward:
        """Start from the data, or without data from the end of the twin's solve, if there is one.

        Without either, the law is known where all is noise only; n samples stand for data.
        """
        if data is not None:
            return cls(problem, data, 0.0, known=True)
        # The twin is built by this package, so its end is as right as the score is.
        if twin is not None and len(twin.states) == len(times):
            end = twin.states[-1]
            if float(end.std()) < _SHRUNK * problem.sde.prior_std:
                return cls(problem, end, problem.sde.eps, known=True)
        nothing = torch.zeros(n, torch.Size(problem.shape).numel(), device=_device(problem))
        return cls(problem, nothing, 0.0, known=False)

    def scale_and_std(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and s of the step from `start` to t."""
        sde, start = self.problem.sde, on_host(self.start, torch.float64)
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


def marginals(path: Solved | None, forward: Forward, times: Tensor) -> list[Marginal]:
    """Compare the states at each time, if there are any, with the forward process there."""
    if path is None:
        return [_UNKNOWN] * len(times)
    samples = forward.samples.cpu().double()  # on the host, since a device may have no float64
    centre = samples.mean(0)
    around = (samples - centre).square().mean(1)
    pairs = zip(path.states, times, strict=False)
    found = [_marginal(x, t, forward, centre, around) for x, t in pairs]
    return found + [_BROKEN] * (len(times) - len(found))


def _marginal(x: Tensor, t: Tensor, forward: Forward, centre: Tensor, around: Tensor) -> Marginal:
    if not forward.is_known_at(t):
        return _UNKNOWN
    scale, std = (float(v) for v in forward.scale_and_std(t))
    expected = scale**2 * float(around.mean()) + std**2
    off = x.cpu().double() - scale * centre
    squares, means = off.square().mean(1), off.mean(1)
    chance = (_stderr(squares) / float(squares.mean())) ** 2
    chance += (scale**2 * _stderr(around) / expected) ** 2
    brightness = scale * _stderr(forward.samples.cpu().double().mean(1))
    return Marginal(
        math.sqrt(float(squares.mean()) / expected),
        float(means.mean()) / math.sqrt(expected),
        0.5 * math.sqrt(chance),
        math.sqrt((_stderr(means) ** 2 + brightness**2) / expected),
    )


def _stderr(values: Tensor) -> float:
    """The standard error of a mean."""
    return float(values.std()) / math.sqrt(len(values))
