r"""Counts: whole numbers that an argument may be."""

from __future__ import annotations

from diffsde.errors import InputError

__all__ = ["checked_count"]


def checked_count(value: int | None, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} = {value!r}: expected a whole number ≥ 1")
    return value
