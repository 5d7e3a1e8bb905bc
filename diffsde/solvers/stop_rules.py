r"""Stop rules: what ends a solve before its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor

from diffsde.errors import InputError, name_list
from diffsde.solvers.counts import checked_count
from diffsde.solvers.trajectory import Stats

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

    @classmethod
    def checked(cls, **rules: Any) -> StopRules:
        """The rules, if they are some.

        Raises:
            InputError: a rule has another name, or a limit is not positive.
        """
        for name in rules:
            if name not in cls.__dataclass_fields__:
                raise InputError(f"{name}: {name_list(name, cls.__dataclass_fields__)}")
        for name in ("max_steps", "max_nfe"):
            checked_count(rules.get(name), name)
        seconds = rules.get("max_seconds")
        if seconds is not None and not seconds > 0:
            raise InputError(f"max_seconds = {seconds}: expected a number > 0")
        return cls(**rules)
