r"""Equations: a problem in a clock, as a method sees it.

Whatever the problem is and in whatever clock it runs, a method sees

    dx  =  f(u, x) du  +  g(u) dw(u),

with u rising. An `Equation` translates between u and t, and on a grid it computes the
time-dependent coefficients of all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock, make_clock
from diffsde.equations.contract import ContractSDE
from diffsde.equations.counted import AtTime
from diffsde.equations.dynamics import Dynamics, Field
from diffsde.errors import InputError
from diffsde.solvers.coefficients import StageTable
from diffsde.system.host import on_host

__all__ = ["Equation", "make_equation"]


class _Stage(NamedTuple):
    """What depends on time alone, at one time: dt/du, g, and the drift as a function of x."""

    pace: Tensor
    g: Tensor
    drift: AtTime


@dataclass(frozen=True)
class _InTime:
    """The time-dependent parts of an equation, at times u of any shape, computed in float64."""

    clock: Clock
    diffusion: Callable[[Tensor], Tensor] | None
    dtype: torch.dtype
    device: torch.device

    def time(self, u: Tensor) -> Tensor:
        """t, in the dtype and on the device of the states."""
        return self.clock.time(u).to(self.device, self.dtype)

    def rates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """dt/du, and g, or the factor √|dt/du| of a diffusion that is asked for elsewhere."""
        t = self.clock.time(u)
        rate = self.clock.rate_at(t)
        g = rate.sqrt() if self.diffusion is None else rate.sqrt() * self.diffusion(t)
        pace = self.clock.direction * rate
        return pace.to(self.device, self.dtype), g.to(self.device, self.dtype)

    def times_list(self, u: Tensor) -> Sequence[Tensor]:
        return self.time(u).unbind()

    def stages_list(self, drift: Field) -> Callable[[Tensor], Sequence[_Stage]]:
        def stages(u: Tensor) -> Sequence[_Stage]:
            pace, g = self.rates(u)
            return list(map(_Stage, pace.unbind(), g.unbind(), drift.at(self.time(u))))

        return stages

    def field_list(self, field: Field) -> Callable[[Tensor], Sequence[AtTime]]:
        return lambda u: field.at(self.time(u))


@dataclass
class _Start:
    """The start of a step, and the drift there once it has been evaluated."""

    place: tuple[float, ...]
    drift: Tensor | None = None


class Equation:
    """A problem in a clock, with u rising.

    Args:
        dynamics: the problem's parts.
        clock: from u to t and back.
        dtype, device: of the states; the drift is evaluated in this dtype.
    """

    def __init__(
        self, dynamics: Dynamics, clock: Clock, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dynamics, self.clock, self.dtype = dynamics, clock, dtype
        self._in_time = _InTime(clock, dynamics.diffusion, dtype, device)
        self._times: StageTable[Tensor] | None = None
        self._stages: StageTable[_Stage] | None = None
        self._scores: StageTable[AtTime] | None = None
        self._start: _Start | None = None

    @property
    def duration(self) -> float:
        """How long the solve lasts in u."""
        return self.clock.duration

    @property
    def stochastic(self) -> bool:
        """Whether there is noise."""
        return self.dynamics.kind == "sde"

    @property
    def own(self) -> ContractSDE | None:
        """A user's SDE, whose noise may depend on the state; None for all other problems."""
        return self.dynamics.own

    @property
    def additive(self) -> bool:
        """Whether there is noise that does not depend on the state."""
        own = self.dynamics.own
        return self.stochastic and (own is None or own.noise_type == "additive")

    @property
    def commutes(self) -> bool:
        """Whether the noise commutes, so that the Lévy area between channels has no effect."""
        own = self.dynamics.own
        return own is None or own.noise_type != "general"

    def channels(self, x: Tensor) -> int:
        """How many Brownian motions drive a sample of x, (B, D)."""
        own = self.dynamics.own
        start = on_host(self.clock.start, self.dtype).to(x.device)
        return x[0].numel() if own is None else own.channels(x, start)

    def on_grid(self, nodes: Tensor) -> None:
        """Announce that steps go from node to node, so that coefficients come from tables."""
        # The tables hold `_in_time`, not this object, which would be a cycle in memory.
        in_time, semilinear = self._in_time, self.dynamics.semilinear
        self._times = StageTable(in_time.times_list, nodes)
        self._stages = StageTable(in_time.stages_list(self.dynamics.drift), nodes)
        if semilinear is not None:
            self._scores = StageTable(in_time.field_list(semilinear.score), nodes)

    def f(self, u: Tensor, x: Tensor) -> Tensor:
        """The drift, of x's shape (B, D); u is a scalar or (B, 1).

        At the start of a step x must be the state there: see `one_start`.
        """
        start = self._start
        if start is None or start.place != _place(u):
            return self.drift(u, x)
        if start.drift is None:
            start.drift = self.drift(u, x)
        return start.drift

    @contextmanager
    def one_start(self, u0: Tensor) -> Iterator[None]:
        """Within this context, evaluate the drift at u0 only once.

        Several steps from one state share it. It is for noise that depends on time alone: for
        any other, a method such as srk asks at u0 for the drift at other states too, and nothing
        is shared.
        """
        outer = self._start
        if self.own is None and (outer is None or outer.place != _place(u0)):
            self._start = _Start(_place(u0))
        try:
            yield
        finally:
            self._start = outer

    def drift(self, u: Tensor, x: Tensor) -> Tensor:
        """The drift, as `f` gives it, but at any state: nothing is shared with other steps."""
        x = x.to(self.dtype)
        if self._stages is None or u.dim():
            return _scaled(self._pace_and_g(u)[0], self.dynamics.drift(x, self.t(u)))
        stage = self._stages(u)
        return stage.pace * stage.drift(x)

    def g(self, u: Tensor, x: Tensor) -> Tensor:
        """The diffusion, of u's shape, where it does not depend on the state x."""
        return self._pace_and_g(u)[1]

    def g_prod(self, u: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """The diffusion times v: of x's shape (B, D), for v of shape (B, m)."""
        root = self._pace_and_g(u)[1]
        if self.own is None:
            return root * v
        return root * self.own.g_prod(x.to(self.dtype), self.t(u), v.to(self.dtype))

    # The rest of torchsde's contract, for a user's SDE in the solver's time.

    def diffusion(self, u: Tensor, x: Tensor) -> Tensor:
        """g of a user's SDE: (B, D) for diagonal noise, else (B, D, m)."""
        g = _scaled(self._pace_and_g(u)[1], self._user().g(x.to(self.dtype), self.t(u)))
        return g.to(x.dtype)  # adaptive steps are taken in float64, and meet noise in it

    def f_and_g(self, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and g of a user's SDE, in one evaluation."""
        pace, root = self._pace_and_g(u)
        x = x.to(self.dtype)
        self.dynamics.counted.count()
        f, g = self._user().f_and_g(x, self.t(u))
        return pace * self.dynamics.counted.checked(f, x), _scaled(root, g)

    def f_and_g_prod(self, u: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and g v of a user's SDE, in one evaluation."""
        pace, root = self._pace_and_g(u)
        x = x.to(self.dtype)
        self.dynamics.counted.count()
        f, product = self._user().f_and_g_prod(x, self.t(u), v.to(self.dtype))
        return pace * self.dynamics.counted.checked(f, x), root * product

    def _user(self) -> ContractSDE:
        if self.own is None:
            raise InputError(f"{self.dynamics.name} is no SDE of torchsde's contract")
        return self.own

    def score(self, u: Tensor, x: Tensor) -> Tensor:
        """The score ∇ log p_t(x), of x's shape; only semilinear equations have one."""
        if self.dynamics.semilinear is None:
            raise InputError(f"{self.dynamics.name} has no score")
        x = x.to(self.dtype)
        if self._scores is None or u.dim():
            return self.dynamics.semilinear.score(x, self.t(u))
        return self._scores(u)(x)

    def t(self, u: Tensor) -> Tensor:
        """The time t at u, as a score takes it: a scalar, or (B,) for u of shape (B, 1)."""
        place = on_host(u, torch.float64)
        if place.dim():
            return self._in_time.time(place).flatten()
        return self._in_time.time(place) if self._times is None else self._times(place)

    def _pace_and_g(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """dt/du and g at u, of u's shape."""
        if self._stages is None or u.dim():
            return self._in_time.rates(u.double())
        stage = self._stages(u)
        return stage.pace, stage.g


def _scaled(factor: Tensor, g: Tensor) -> Tensor:
    """g times a scalar, or times a factor (B, 1) for each sample."""
    return (factor.reshape(-1, *[1] * (g.dim() - 1)) if factor.dim() else factor) * g


def _place(u: Tensor) -> tuple[float, ...]:
    return tuple(u.reshape(-1).tolist())


def make_equation(
    dynamics: Dynamics,
    x: Tensor,
    interval: tuple[float, float] | None,
    clock: str | Callable[[Tensor], Tensor],
) -> Equation:
    """The equation of a problem in a clock.

    Args:
        dynamics: the problem's parts.
        x: a state, whose dtype and device are those of the solve.
        interval: the start and the end of t; the problem's own if None.
        clock: see `diffsde.equations.clocks`.
    """
    interval = dynamics.interval if interval is None else interval
    if interval is None:
        raise InputError(f"{dynamics.name} does not say from where to where it runs: give ts=")
    made = make_clock(clock, *interval, dynamics.process, dynamics.origin)
    return Equation(dynamics, made, x.dtype, x.device)
