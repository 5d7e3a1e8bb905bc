r"""Packages that may not be installed, loaded when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from diffsde.errors import InputError

__all__ = ["optional_package"]


def optional_package(name: str, extra: str) -> Any:
    """Import a module of a package that belongs to one of diffsde's extras.

    Raises:
        InputError: the package is not installed; the text says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name.split('.')[0]} is not installed: pip install 'diffsde[{extra}]' ({error})"
        ) from error
