r"""Packages that are not always installed: they are loaded when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from diffsde.errors import InputError

__all__ = ["optional_package"]


def optional_package(name: str, extra: str) -> Any:
    """A module of a package that comes with one of our extras.

    Raises:
        InputError: it is not installed; the error says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name.split('.')[0]} is not installed: pip install 'diffsde[{extra}]' ({error})"
        ) from error
