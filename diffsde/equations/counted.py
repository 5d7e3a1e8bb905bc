r"""Counted functions: how often a score or a drift is evaluated, and whether it answers well.

The work of a solve is measured in evaluations (NFE). A `Counted` function counts them, refuses
those beyond a limit, and checks each answer, so that a score that returns NaN or a wrong shape
is reported where it happens.

A solve on a grid knows its times beforehand. A score may therefore offer a method
`prepare(times)`, which takes all times at once, of shape (n,), and returns n objects, each of
which the score takes in place of its time: for instance, coefficients that depend on time alone.
A score that wraps another one passes `prepare` on, by `prepared`.

A score may also say

    evaluations      how many evaluations of a network one call costs; 1 if it does not say
    data_scale       how large a number of its data may be; nothing is known if it does not say
    data_range       the values of black and of white in its data; (0, 1) if it does not say
    flow_only        whether it belongs to a probability flow and to no reverse SDE; False if not
    pixel_levels     how many levels, from black to white, it knows values to have; 0 if any value

and one that wraps another passes these on, by `says_of`. A score that comes from a velocity has
methods `velocity` and `denoise`, called (x, t) as it is, and says by `sde` for which process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffsde.system.wrapped import unwrapped

__all__ = [
    "AtTime",
    "BlowUp",
    "Counted",
    "EvaluationError",
    "Limit",
    "at_times",
    "largest_magnitude",
    "not_finite",
    "prepared",
    "require_finite",
    "says_of",
    "untouched",
]

AtTime = Callable[[Tensor], Tensor]
"""A function of x and t at a fixed time: a function of x alone."""


class EvaluationError(Exception):
    """The score or the drift returned something with which no solve can go on."""


class BlowUp(EvaluationError):  # noqa: N818  (what happened, not a mistake in a call)
    """The numbers are not finite, or far too large."""


class Limit(Exception):  # noqa: N818  (it ends a solve as the caller asked)
    """A limit that the caller set has been reached."""


def largest_magnitude(x: Tensor) -> float:
    """The largest |value| in x, or NaN if x contains one; the cheapest check of a whole tensor."""
    low, high = torch.aminmax(x.detach())
    if x.device.type == "cpu":
        return max(-float(low), float(high))
    return float(torch.maximum(-low, high))  # the host waits once


def not_finite(name: str) -> str:
    """What an error says of a function whose values are not finite."""
    return f"the {name} returned numbers that are not finite"


def require_finite(value: Tensor, name: str) -> None:
    """Raise a BlowUp if a value that the function of that name returned is not finite."""
    if not math.isfinite(largest_magnitude(value)):
        raise BlowUp(not_finite(name))


def prepared(fn: Callable[..., Tensor], times: Tensor) -> Sequence[Any]:
    """What to pass to `fn`, called (x, t), as its t at each of the times (n,)."""
    prepare: Callable[[Tensor], Sequence[Any]] | None = getattr(fn, "prepare", None)
    return times.unbind() if prepare is None else prepare(times)


def says_of(fn: Any, name: str, default: Any) -> Any:
    """What a score says of itself, such as its `evaluations`; the default if it says nothing."""
    value = getattr(fn, name, None)
    if value is None:
        value = getattr(unwrapped(fn), name, None)
    return default if value is None else value


def at_times(fn: Callable[..., Tensor], times: Tensor) -> list[AtTime]:
    """The function `fn`, called (x, t), at each of the times (n,), as n functions of x."""
    return [partial(_called, fn, t) for t in prepared(fn, times)]


def _called(fn: Callable[..., Tensor], t: Any, x: Tensor) -> Tensor:
    return fn(x, t)


def untouched(fn: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """fn(*arguments), where the function must not write into the tensors that it is given.

    They are the solve's own state and time, so everything after would start from what was written.

    Raises:
        EvaluationError: it has written into one.
    """
    before = [_version(value) for value in arguments]
    found = fn(*arguments)
    if [_version(value) for value in arguments] != before:
        raise EvaluationError(
            f"the {name} has changed its arguments in place, which are the state and the time of "
            "the solve: let it work on copies, such as x = x.clone(), or y = 2 * x for x.mul_(2)"
        )
    return found


def _version(value: Any) -> int:
    """How often a tensor has been written to; 0 for what is none."""
    return value._version if isinstance(value, Tensor) else 0


class Counted:
    """A function of (x, t) that counts its evaluations and checks what it returns.

    Args:
        fn: the function, called (x, t).
        name: what an error calls it, such as "score".

    Attributes:
        evaluations: how many one call of the function costs, by its own account.
        calls: how many evaluations have been made: of a network, where the function says so.
        limit: how many may be; None for no limit.
        check: called with each value and the name of what returned it; it raises a BlowUp if the
            value is not finite, or does so later: see `diffsde.solvers.checks`.
    """

    def __init__(self, fn: Callable[..., Tensor], name: str) -> None:
        self.fn, self.name = fn, name
        self.evaluations = int(says_of(fn, "evaluations", 1))
        self.calls = 0
        self.limit: int | None = None
        self.check: Callable[[Tensor, str], None] = require_finite

    def prepare(self, times: Tensor) -> Sequence[Any]:
        """What the function takes in place of each of the times (n,)."""
        return prepared(self.fn, times)

    @property
    def sde(self) -> Any:
        """The process of a score, if it says."""
        return says_of(self.fn, "sde", None)

    @property
    def velocity(self) -> Callable[..., Tensor] | None:
        """The velocity of a score, counted like it; None if it has none."""
        return self._method("velocity")

    @property
    def denoise(self) -> Callable[..., Tensor] | None:
        """The denoiser of a score, counted like it; None if it has none."""
        return self._method("denoise")

    def _method(self, name: str) -> Callable[..., Tensor] | None:
        method = says_of(self.fn, name, None)
        if method is None:
            return None

        def counted(x: Tensor, t: Any) -> Tensor:
            self.count()
            return self.checked(untouched(method, name, x, t), x, name)

        return counted

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        self.count()
        return self.checked(untouched(self.fn, self.name, x, t), x)

    def count(self) -> None:
        """Count one call.

        Raises:
            Limit: there may be no more of them.
        """
        if self.limit is not None and self.calls + self.evaluations > self.limit:
            each = "" if self.evaluations == 1 else f" ({self.evaluations} for each call)"
            raise Limit(f"max_nfe = {self.limit} evaluations are used up{each}")
        self.calls += self.evaluations

    def checked(self, value: Tensor, x: Tensor, name: str | None = None) -> Tensor:
        """The value that was returned for x, if it can be used.

        Raises:
            EvaluationError: it has another shape than x, or is not finite.
        """
        if not isinstance(value, Tensor) or value.shape != x.shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise EvaluationError(
                f"the {name or self.name} returned {found} for states of shape {tuple(x.shape)}: "
                "expected the shape that came in"
            )
        self.check(value, name or self.name)
        return value
