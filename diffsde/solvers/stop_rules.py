r"""Stop rules: what ends a solve before its time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Stats
from diffsde.system.numbers import real_number, whole_number

__all__ = ["STOP", "Callback", "Event", "StopRules"]


class _Stop(Enum):
    STOP = "stop"

    def __repr__(self) -> str:
        return "diffsde.STOP"


STOP = _Stop.STOP
"""What a callback returns to end a solve; anything else lets it go on."""

Callback = Callable[[float, Tensor, Stats], Any]
Event = Callable[[float, Tensor], Any]


@dataclass(frozen=True)
class StopRules:
    """When a solve ends early; see `solve` for each rule."""

    max_steps: int | None = None
    max_nfe: int | None = None
    max_seconds: float | None = None
    callback: Callback | None = None
    event: Event | None = None

    @property
    def watch(self) -> bool:
        """Whether a rule must be told of each step as soon as it is taken."""
        return any(rule is not None for rule in (self.callback, self.event, self.max_steps))

    @property
    def look(self) -> bool:
        """Whether a rule needs what the step has come to; a number of steps is known without."""
        return any(rule is not None for rule in (self.callback, self.event, self.max_seconds))

    @classmethod
    def checked(cls, **rules: Any) -> StopRules:
        """The rules, if they are some.

        Raises:
            InputError: a rule has another name, a limit is not positive, or a callback or an
                event is no function.
        """
        for name in rules:
            if name not in cls.__dataclass_fields__:
                raise InputError(f"{name}: {name_list(name, cls.__dataclass_fields__)}")
        for name in ("max_steps", "max_nfe"):
            if rules.get(name) is not None:
                rules[name] = whole_number(rules[name], name)
        if rules.get("max_seconds") is not None:
            least = math.ulp(0.0)  # the smallest number above 0
            seconds = real_number(rules["max_seconds"], "max_seconds", "seconds > 0", least)
            rules["max_seconds"] = seconds
        for name in ("callback", "event"):
            if not (rules.get(name) is None or callable(rules[name])):
                raise InputError(f"{name} = {rules[name]!r:.60}: expected a function")
        return cls(**rules)
