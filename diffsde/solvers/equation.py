r"""Equations: a problem as a solver sees it.

Whatever the problem is and in whatever clock it runs, a solver sees

    dx  =  f(u, x) du  +  g(u) dw(u),        u from 0 to `duration`,

with u rising, and flat states. An `Equation` counts the evaluations it is asked for,
remembers the last one (many solvers ask twice at one point), and looks at each result:
a score that returns NaN or a wrong shape is found where it happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock, make_clock
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import Coefficients
from diffsde.solvers.tables import StageTable

__all__ = ["Equation", "EvaluationError", "Limit", "Meter", "kind_of", "make_equation", "peak"]

_MOST_EXPECTED = 2**16  # times; beyond, a method asks at ever new ones


class EvaluationError(Exception):
    """The score or drift returned something that no solve can go on with."""


class Limit(Exception):  # noqa: N818  (it ends a solve as asked, it is no fault)
    """A limit that the caller set is reached."""


def peak(x: Tensor) -> float:
    """The largest magnitude in x; NaN if x holds one. The cheapest look at all of a tensor."""
    low, high = torch.aminmax(x.detach())
    return max(-float(low), float(high))


class Meter:
    """A function of (x, t) that counts its calls and looks at what it returns."""

    def __init__(self, fn: Callable[..., Tensor], name: str, limit: int | None) -> None:
        self.fn, self.name, self.limit = fn, name, limit
        self.calls = 0
        self._expected: dict[int, tuple[Tensor, Coefficients]] = {}  # by the tensor's identity

    def expect(self, times: Tensor) -> Sequence[Tensor]:
        """The scalars of times (n,), at which calls will come.

        What a `ScoreModel` computes from a time alone is computed here, for all of them at
        once; a model of another class, or inside something else, does so at every call.
        """
        scalars = times.unbind()
        if len(self._expected) > _MOST_EXPECTED:
            self._expected.clear()
        if type(self.fn) is ScoreModel:
            columns = [column.unbind() for column in self.fn.coefficients(times)]
            for t, *row in zip(scalars, *columns, strict=True):
                self._expected[id(t)] = t, Coefficients(*row)
        return scalars

    def __call__(self, x: Tensor, t: Tensor | float) -> Tensor:
        if self.limit is not None and self.calls >= self.limit:
            raise Limit(f"max_nfe = {self.limit} evaluations are used up")
        self.calls += 1
        _, known = self._expected.get(id(t), (t, t))
        value = self.fn(x, known)
        if not isinstance(value, Tensor) or value.shape != x.shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise EvaluationError(
                f"the {self.name} returned {found} for states of shape {tuple(x.shape)}: "
                "expected the shape that came in"
            )
        if not math.isfinite(peak(value)):
            raise EvaluationError(f"the {self.name} returned numbers that are not finite")
        return value


@dataclass(frozen=True)
class _OfTime:
    """What of an equation depends on time alone; computed in float64, of u's shape."""

    clock: Clock
    diffusion: Callable[[Tensor], Tensor] | None
    dtype: torch.dtype
    device: torch.device

    def time(self, u: Tensor) -> Tensor:
        return self.clock.time(u).to(self.device, self.dtype)

    def rates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """dt/du and g."""
        t = self.clock.time(u)
        rate = self.clock.rate_at(t)
        g = rate if self.diffusion is None else rate.sqrt() * self.diffusion(t)
        pace = self.clock.direction * rate
        return pace.to(self.device, self.dtype), g.to(self.device, self.dtype)


class Equation:
    """A problem in a clock, with u rising from 0 and states of shape (B, D).

    Attributes:
        problem: what was given; for a reverse problem, with its score counted.
        clock: from u to t and back.
        stochastic: whether there is noise.
        additive: whether the noise does not depend on the state.
        meter: counts the evaluations.
        dtype: in which the drift is evaluated.
    """

    def __init__(
        self,
        problem: Any,
        clock: Clock,
        drift: Callable[[Tensor, Tensor], Tensor],
        diffusion: Callable[[Tensor], Tensor] | None,
        meter: Meter,
        *,
        stochastic: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.problem, self.clock, self.meter = problem, clock, meter
        self.stochastic, self.additive = stochastic, diffusion is not None
        self._drift = drift
        self.dtype = dtype
        self._of_time = _OfTime(clock, diffusion, dtype, device)
        self._last: tuple[Any, ...] = ()
        self._times: StageTable[Tensor] | None = None
        self._rates: StageTable[tuple[Tensor, Tensor]] | None = None

    @property
    def duration(self) -> float:
        """The end of u."""
        return self.clock.duration

    def on_grid(self, nodes: Tensor) -> None:
        """Say that steps are taken from node to node: what depends on time alone is computed
        for all of them at once."""
        of_time, meter = self._of_time, self.meter  # a table that held `self` would be a cycle

        def times(u: Tensor) -> Sequence[Tensor]:
            return meter.expect(of_time.time(u))

        def rates(u: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
            pace, g = of_time.rates(u)
            return list(zip(pace.unbind(), g.unbind(), strict=True))

        self._times, self._rates = StageTable(times, nodes), StageTable(rates, nodes)

    def f(self, u: Tensor, x: Tensor) -> Tensor:
        """The drift, of x's shape (B, D); u is a scalar or (B, 1)."""
        if self._is_last(u, x):
            value: Tensor = self._last[-1]
            return value
        pace, _ = self._pace_and_g(u)
        value = pace * self._drift(x.to(self.dtype), self.t(u))
        self._last = (u, x, x._version, torch.is_grad_enabled(), value)
        return value

    def forget(self) -> None:
        """Let go of the last point: a trajectory that can be asked for more keeps its equation."""
        self._last = ()

    def g(self, u: Tensor) -> Tensor:
        """The diffusion, of u's shape."""
        return self._pace_and_g(u)[1]

    def t(self, u: Tensor) -> Tensor:
        """The time t at u, as a score takes it: a scalar, or (B,) for u of shape (B, 1)."""
        place = torch.as_tensor(u, dtype=torch.float64)
        if place.dim():
            return self._of_time.time(place).flatten()
        return self._of_time.time(place) if self._times is None else self._times(place)

    def _pace_and_g(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """dt/du and g at u, of u's shape."""
        place = torch.as_tensor(u, dtype=torch.float64)
        if self._rates is None or place.dim():
            return self._of_time.rates(place)
        return self._rates(place)

    def _is_last(self, u: Tensor, x: Tensor) -> bool:
        """Whether the drift was just asked for at this point.

        The tensor itself is compared, not its numbers, and it is kept alive meanwhile.
        """
        if not self._last:
            return False
        last_u, last_x, version, grad, _ = self._last
        same = x is last_x and x._version == version and grad == torch.is_grad_enabled()
        return same and (u is last_u or torch.equal(torch.as_tensor(u), torch.as_tensor(last_u)))


def make_equation(
    problem: Any,
    x: Tensor,
    interval: tuple[float, float] | None,
    clock: str | Callable[[Tensor], Tensor],
    max_nfe: int | None,
) -> Equation:
    """The equation of any problem that `solve` takes.

    Args:
        problem: a `ReverseProblem`, a forward `SDE`, a torchsde object (`f`, `g`,
            `noise_type`, `sde_type`), or an ODE called (t, x).
        x: a state; gives dtype and device.
        interval: start and end of t; the problem's own if None.
        clock: see `diffsde.equations.clocks`.
        max_nfe: how many evaluations are allowed.
    """
    if interval is None:
        interval = getattr(problem, "interval", None)
    if interval is None:
        raise InputError(
            f"{type(problem).__name__} does not say from where to where it runs: give ts="
        )
    parts: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
    if isinstance(problem, ReverseProblem):
        meter = Meter(problem.score, "score", max_nfe)
        counted = problem.with_score(meter)
        made = make_clock(clock, *interval, problem.sde)
        noise = counted.diffusion if problem.stochastic else None
        return Equation(
            counted, made, counted.drift, noise, meter, stochastic=problem.stochastic, **parts
        )
    if isinstance(problem, SDE):
        meter = Meter(problem.drift, "drift", max_nfe)
        made = make_clock(clock, *interval, problem)
        return Equation(problem, made, meter, problem.diffusion, meter, stochastic=True, **parts)
    if is_torchsde(problem):
        meter = Meter(lambda y, t: problem.f(t, y), "drift", max_nfe)
    elif callable(problem):
        meter = Meter(lambda y, t: problem(t, y), "right-hand side", max_nfe)
    else:
        raise InputError(
            f"problem = {type(problem).__name__}: expected a ReverseSDE, a ProbabilityFlow, an "
            "SDE, a torchsde object with f, g, noise_type and sde_type, or a function (t, x)"
        )
    # An equation made from a diffusion, such as that of its likelihood, names it: `sde`.
    sde = getattr(problem, "sde", None)
    made = make_clock(clock, *interval, sde if isinstance(sde, SDE) else None)
    return Equation(problem, made, meter, None, meter, stochastic=is_torchsde(problem), **parts)


def kind_of(problem: Any) -> str:
    """Which of the registry's solvers a problem takes: "sde" or "ode"."""
    if isinstance(problem, ReverseProblem):
        return "sde" if problem.stochastic else "ode"
    return "sde" if isinstance(problem, SDE) or is_torchsde(problem) else "ode"


def is_torchsde(problem: Any) -> bool:
    """Whether an object follows torchsde's contract for an SDE."""
    return all(hasattr(problem, name) for name in ("f", "noise_type", "sde_type")) and any(
        hasattr(problem, name) for name in ("g", "g_prod", "f_and_g", "f_and_g_prod")
    )
