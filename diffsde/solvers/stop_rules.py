r"""Stop rules: what ends a solve before its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffsde.solvers.trajectory import Stats

__all__ = ["Callback", "Event", "StopRules"]

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
