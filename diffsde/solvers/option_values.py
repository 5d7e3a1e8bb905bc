r"""What the options of methods may be: each row of the registry names a check for each of its own.

A check takes a value and what an error calls it, and returns the value that the method works with.
It is asked before anything is computed, so a method need not look again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from diffsde.errors import InputError
from diffsde.system.numbers import real_number, whole_number

__all__ = ["Check", "function", "positive", "share", "whole", "zero_or_more"]

Check = Callable[[Any, str], Any]


def whole(least: int = 1, most: int | None = None) -> Check:
    """A whole number from `least` to `most`."""

    def check(value: Any, name: str) -> int:
        number = whole_number(value, name, least)
        if most is not None and number > most:
            raise InputError(f"{name} = {number}: expected {least} to {most}")
        return number

    return check


def positive(value: Any, name: str) -> float:
    """A number above 0, or infinity."""
    number = _number(value, name, "a number above 0")
    if number == 0:
        raise InputError(f"{name} = {value!r}: expected a number above 0")
    return number


def zero_or_more(value: Any, name: str) -> float:
    """A number from 0, or infinity."""
    return _number(value, name, "a number ≥ 0")


def share(least: float, most: float) -> Check:
    """A number from `least` to `most`."""
    expected = f"a number from {least:g} to {most:g}"

    def check(value: Any, name: str) -> float:
        number = _number(value, name, expected)
        if not least <= number <= most:
            raise InputError(f"{name} = {value!r}: expected {expected}")
        return number

    return check


def function(value: Any, name: str) -> Callable[..., Any]:
    """A function."""
    if not callable(value):
        raise InputError(f"{name} = {value!r}: expected a function")
    return value


def _number(value: Any, name: str, expected: str) -> float:
    unbounded = not isinstance(value, (str, bytes, bool)) and value == math.inf
    return math.inf if unbounded else real_number(value, name, expected, 0.0)
