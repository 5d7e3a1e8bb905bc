r"""Clocks: other names for the same times.

A solver takes even steps in its own time u. A clock τ = τ(t) says where these steps fall
in t: with t = t(τ), the equation dx = b(x, t) dt + c(t) dw becomes

    dx  =  b(x, t(τ)) t′(τ) dτ  +  c(t(τ)) √|t′(τ)| dw(τ),

which is an equation of the same kind. So any solver, fixed or adaptive, runs in any clock,
and a schedule of noise levels needs no solver of its own. With the noise level
σ(t) = s(t) / a(t), which rises with dσ²/dt = g² / a²:

    "t"          τ = t
    "sigma"      τ = σ
    "log_sigma"  τ = log σ
    "karras"     τ = σ^{1/ρ}, ρ = 7          (Karras et al., arXiv 2206.00364, equation 5)

A user's own clock is a function from [0, 1], the fraction of the solve, to t.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffsde.equations.dynamics import ENDLESS, Process
from diffsde.equations.graphs import leaf, ordinary_mode
from diffsde.errors import InputError, name_list
from diffsde.system.host import on_host

__all__ = ["CLOCKS", "Clock", "make_clock", "padded", "steady"]

_RHO = 7.0
_BLOCK = 64  # a multiple of what any processor computes at once
_BISECTIONS = 60  # halve [0, 1] down to the spacing of float64


def steady(fn: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """fn(t) for an elementwise fn, the same to the last bit wherever a number stands in t.

    torch computes the last few numbers of a tensor by other instructions than the rest. Here
    t, of shape (n,), is filled up, so that a time has one value in every grid that holds it.
    """
    if t.dim() != 1:
        return fn(t)
    return fn(padded(t))[: len(t)]


def padded(t: Tensor) -> Tensor:
    """t, (n,), filled up with its last number to a multiple of 64."""
    return torch.cat([t, t[-1:].expand(-len(t) % _BLOCK)])


class Clock:
    """A monotone change of time on the interval of a solve.

    The solver's time u rises from `begin` to `finish` while t runs from `start` to `end`.

    Args:
        start, end: times t of the solve, in its direction.
        tau: τ(t), monotone on the interval.
        t_of_tau: its inverse.
        rate: |dt/dτ| as a function of t.

    Attributes:
        begin, finish: u at both ends; `begin` is 0 unless the clock counts from elsewhere.
    """

    def __init__(
        self,
        start: float,
        end: float,
        tau: Callable[[Tensor], Tensor],
        t_of_tau: Callable[[Tensor], Tensor],
        rate: Callable[[Tensor], Tensor],
    ) -> None:
        self.start, self.end = start, end
        self._tau, self._t_of_tau, self._rate = tau, t_of_tau, rate
        first, last = self._tau_of([start, end])
        self._sign = 1.0 if last > first else -1.0
        self._zero, self.begin, self.finish = first, 0.0, abs(last - first)
        if not 0 < self.duration < math.inf:
            raise InputError(
                f"a clock from t = {start:g} to {end:g} lasts {self.duration}: expected two "
                "times at which τ(t) is finite (log σ is not at t = 0) and different"
            )

    def _tau_of(self, times: list[float]) -> list[float]:
        tau: list[float] = steady(self._tau, on_host(times, torch.float64)).tolist()
        return tau

    def count_from(self, origin: float) -> Clock:
        """Count u from the time `origin`, whatever part of the time is solved.

        Then u is a function of t alone. Where τ is not finite at the origin (log σ at t = 0),
        u is τ itself, or −τ if τ falls.
        """
        zero, first, last = self._tau_of([origin, self.start, self.end])
        self._zero = zero if math.isfinite(zero) else 0.0
        self.begin = self._sign * (first - self._zero)
        self.finish = self._sign * (last - self._zero)
        return self

    @property
    def duration(self) -> float:
        """How long the solve lasts in u."""
        return self.finish - self.begin

    @property
    def direction(self) -> float:
        """1 where t rises, −1 where it falls."""
        return 1.0 if self.end > self.start else -1.0

    def time(self, u: Tensor) -> Tensor:
        """t at the solver's time u, of u's shape, in float64."""
        # An adaptive solver's first guess may lie beyond the end, where τ is no noise level.
        u = u.double().clamp(self.begin, self.finish)
        t = steady(lambda u: self._t_of_tau(self._zero + self._sign * u), u)
        low, high = sorted((self.start, self.end))
        return t.clamp(low, high)

    def place(self, t: Tensor) -> Tensor:
        """The solver's time u at t: the inverse of `time`."""
        tau = steady(self._tau, t.double())
        return (self._sign * (tau - self._zero)).clamp(self.begin, self.finish)

    def rate(self, u: Tensor) -> Tensor:
        """|dt/du| at the solver's time u."""
        return self.rate_at(self.time(u))

    def rate_at(self, t: Tensor) -> Tensor:
        """|dt/du| at the time t."""
        return self._rate(t)


def make_clock(
    clock: str | Callable[[Tensor], Tensor],
    start: float,
    end: float,
    sde: Process | None,
    origin: float | None = None,
) -> Clock:
    """The clock of that name, or of a user's map from [0, 1] to t, on an interval of t.

    It counts u from the time `origin`, or from `start` if that is None; a user's map counts
    from its own beginning.

    Raises:
        InputError: no clock has that name, the equation has no noise level to make it
            from, or the map is not monotone from `start` to `end`.
    """
    if callable(clock):
        return _own_clock(clock, start, end)
    if not isinstance(clock, str) or clock not in CLOCKS:
        raise InputError(f"no clock {clock!r}: {name_list(str(clock), CLOCKS)}, or a map")
    if clock != "t" and sde is None:
        raise InputError(
            f"clock={clock!r} needs the noise level σ(t) of a diffusion problem, and this "
            "equation has none: use clock='t' or a map from [0, 1] to t"
        )
    if clock != "t" and sde is not None:
        _check_levels(clock, (start, end), sde)
    made = CLOCKS[clock](start, end, sde)
    return made if origin is None else made.count_from(origin)


def _check_levels(clock: str, ends: tuple[float, float], sde: Process) -> None:
    """Check that the noise level is finite at both ends."""
    levels = steady(sde.noise_level, on_host(ends, torch.float64))
    for t, level in zip(ends, levels.tolist(), strict=True):
        if not level < ENDLESS:
            raise InputError(
                f"clock={clock!r} from t = {ends[0]:g} to {ends[1]:g}: the noise level σ is "
                f"infinite at t = {t:g}. Use clock='t' or a map from [0, 1] to t, or a process "
                "that begins earlier, such as T=0.999"
            )


def _t_clock(start: float, end: float, _: Process | None) -> Clock:
    return Clock(start, end, lambda t: t, lambda tau: tau, torch.ones_like)


def _noise_clock(
    start: float,
    end: float,
    sde: Process,
    tau_of: Callable[[Tensor], Tensor],
    level_of: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
) -> Clock:
    """A clock τ = τ(σ) with dσ/dτ = slope(σ)."""

    @ordinary_mode()
    def rate(t: Tensor) -> Tensor:
        return slope(sde.noise_level(t)) / sde.noise_level_slope(t)

    return Clock(
        start,
        end,
        lambda t: tau_of(sde.noise_level(t)),
        lambda tau: sde.time_of_noise_level(level_of(tau)),
        rate,
    )


def _sigma_clock(start: float, end: float, sde: Process) -> Clock:
    return _noise_clock(start, end, sde, lambda s: s, lambda tau: tau, torch.ones_like)


def _log_sigma_clock(start: float, end: float, sde: Process) -> Clock:
    return _noise_clock(start, end, sde, torch.log, torch.exp, lambda s: s)


def _karras_clock(start: float, end: float, sde: Process) -> Clock:
    return _noise_clock(
        start,
        end,
        sde,
        lambda s: s ** (1 / _RHO),
        lambda tau: tau**_RHO,
        lambda s: _RHO * s ** (1 - 1 / _RHO),
    )


CLOCKS: dict[str, Callable[..., Clock]] = {
    "t": _t_clock,
    "sigma": _sigma_clock,
    "log_sigma": _log_sigma_clock,
    "karras": _karras_clock,
}


def _own_clock(clock: Callable[[Tensor], Tensor], start: float, end: float) -> Clock:
    """A clock from a map of [0, 1] to t; its inverse is found by bisection."""
    direction = 1.0 if end > start else -1.0
    fractions = torch.linspace(0, 1, 101, dtype=torch.float64, device="cpu")
    times = clock(fractions)
    ends = (float(times[0]), float(times[-1]))
    if not ((times[1:] - times[:-1]) * direction > 0).all() or any(
        abs(found - wanted) > 1e-6 * abs(end - start)
        for found, wanted in zip(ends, (start, end), strict=True)
    ):
        raise InputError(
            f"clock: the map runs from t = {ends[0]:g} to {ends[1]:g}: expected a strictly "
            f"monotone map of a tensor in [0, 1] to times from {start:g} to {end:g}"
        )

    def fraction(t: Tensor) -> Tensor:
        low, high = torch.zeros_like(t), torch.ones_like(t)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            before = (clock(middle) - t) * direction < 0
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        return 0.5 * (low + high)

    @ordinary_mode()
    def rate(t: Tensor) -> Tensor:
        with torch.enable_grad():
            tau = leaf(fraction(t))
            (slope,) = torch.autograd.grad(clock(tau).sum(), tau)
        return slope.abs()

    return Clock(start, end, fraction, clock, rate)
