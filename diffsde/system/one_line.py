r"""Names of one line: how an object that has parts says in its own repr what these are."""

from __future__ import annotations

from torch import nn

__all__ = ["class_of", "one_line"]

_LONGEST = 100


def one_line(part: object) -> str:
    """The part's own repr if it is short and tells something, else its class or name.

    PyTorch's repr of a module lists everything inside it, and Python's repr of a function is
    its address.
    """
    if isinstance(part, nn.Module) and type(part).__repr__ is nn.Module.__repr__:
        return type(part).__name__
    text = repr(part)
    if text.startswith("<") or "\n" in text or len(text) > _LONGEST:
        return str(getattr(part, "__name__", type(part).__name__))
    return text


def class_of(part: object) -> str:
    """The first word of `one_line`, without what is in brackets."""
    return one_line(part).partition("(")[0]
