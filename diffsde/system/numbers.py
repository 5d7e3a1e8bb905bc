r"""Numbers as people have them: Python's, NumPy's, and tensors of one element."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from typing import Any

import numpy

from diffsde.errors import InputError

__all__ = ["listed", "plain", "real_number", "sizes", "truth_value", "whole_number"]


def whole_number(value: Any, name: str, least: int = 1, *, why: str = "") -> int:
    """The value as an int.

    Args:
        value: an int, a NumPy integer, or an integer tensor or array without axes.
        name: what an error calls it.
        least: the smallest number that it may be.
        why: ends the error message, after "expected a whole number ≥ least".

    Raises:
        InputError: it is none of these, or smaller than `least`.
    """
    number = _index(value)
    if number is None or number < least:
        raise InputError(f"{name} = {value!r}: expected a whole number ≥ {least}{why}")
    return number


def _index(value: Any) -> int | None:
    # A truth value is an integer to Python, but nobody means it as a count.
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # what NumPy and torch raise for more than one element
        return None


def real_number(
    value: Any, name: str, expected: str, low: float = -math.inf, *, above: bool = False
) -> float:
    """The value as a float, low or more.

    Args:
        value: a number of Python's or NumPy's, or a tensor or array without axes.
        name: what an error calls it.
        expected: what an error says was expected.
        low: the smallest number that it may be.
        above: whether it must be above that.

    Raises:
        InputError: it is not a number, not finite, or smaller than `low`.
    """
    try:
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not (math.isfinite(number) and (number > low if above else number >= low)):
        raise InputError(f"{name} = {value!r}: expected {expected}")
    return number


def sizes(values: Any, name: str, expected: str) -> tuple[int, ...]:
    """The values as a shape.

    Raises:
        InputError: they are not a sequence of whole numbers from 1.
    """
    found: list[int | None] = [None]
    if not isinstance(values, (str, bytes)):
        with suppress(TypeError, RuntimeError):  # a number, or a tensor without axes
            found = [_index(n) for n in values]
    if any(n is None or n < 1 for n in found):
        raise InputError(f"{name} = {values!r:.80}: expected {expected}")
    return tuple(n for n in found if n is not None)


def plain(value: Any) -> Any:
    """A number of NumPy's or torch's as Python's; anything else as it is."""
    alone = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if alone else value


def listed(values: Any, name: str, expected: str) -> list[Any]:
    """The values as a list.

    Raises:
        InputError: they are no sequence.
    """
    try:
        return list(values)
    except TypeError as error:
        raise InputError(f"{name} = {values!r:.80}: expected {expected}") from error


def truth_value(value: Any, name: str) -> bool:
    """The value as a bool, of which Python would make one of anything, such as "no".

    Raises:
        InputError: it is neither True nor False.
    """
    if not isinstance(value, (bool, numpy.bool_)):
        raise InputError(f"{name} = {value!r}: expected True or False")
    return bool(value)
