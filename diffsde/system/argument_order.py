r"""In which order a function takes a state and a time: (x, t) as here, or (t, x).

The name of a parameter tells, where one of the first two is called t, time or timestep. Otherwise
the function is tried on a batch of states and one time for each, which cannot be mistaken for each
other: the batch has a size of which no broadcasting of the times makes a batch of states.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.system.one_line import one_line
from diffsde.system.wrapped import unwrapped

__all__ = ["check_order", "takes_time_first"]

_TIMES = ("t", "time", "times", "timestep", "timesteps")


def check_order(fn: Callable[..., Any], name: str) -> None:
    """Refuse a function whose parameters are called (t, x), where (x, t) is expected.

    Raises:
        InputError: the names say so.
    """
    if _timed(_first_two(fn)) == [True, False]:
        raise InputError(
            f"{name} = {one_line(fn)} takes {_listed(_first_two(fn))}, the time first: expected "
            f"(x, t). Give lambda x, t: {name}(t, x)"
        )


def takes_time_first(
    fn: Callable[..., Any], name: str, shape: Sequence[int] | None, dtype: torch.dtype
) -> bool:
    """Whether a function is called (t, x) and not (x, t).

    Args:
        fn: the function or module.
        name: what an error calls it, such as "velocity".
        shape: of one state, for a trial; None if it is not known.
        dtype: of the states in a trial.

    Raises:
        InputError: neither its names nor a trial tell.
    """
    names = _first_two(fn)
    timed = _timed(names)
    if timed.count(True) == 1 and len(timed) == 2:
        return timed[0]
    if shape is None:
        raise InputError(
            f"{name} = {one_line(fn)} takes {_listed(names)}: whether it is called (x, t) or "
            "(t, x) cannot be told. Give the shape of a sample, shape=, for a trial, or name the "
            f"parameters: lambda x, t: {name}(x, t)"
        )
    return _tried(fn, name, tuple(shape), dtype)


def _timed(names: list[str]) -> list[bool]:
    """Which of the names are those of a time."""
    return [name.lower() in _TIMES for name in names]


def _first_two(fn: Callable[..., Any]) -> list[str]:
    """The names of the first two parameters, as far as they are known."""
    inner = unwrapped(fn)
    try:
        found = inspect.signature(inner.forward if isinstance(inner, nn.Module) else inner)
    except (TypeError, ValueError):  # something that is not written in Python
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in found.parameters.values() if p.kind in positional][:2]


def _listed(names: list[str]) -> str:
    return f"({', '.join(names)})" if names else "arguments without names"


def _tried(fn: Callable[..., Any], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    tensor = next(iter(fn.parameters()), None) if isinstance(fn, nn.Module) else None
    device = None if tensor is None else tensor.device
    n = 3 if shape[-1] == 2 else 2  # no length of the last axis, along which times broadcast
    x = torch.linspace(-1, 1, n * torch.Size(shape).numel(), dtype=dtype, device=device)
    x, t = x.reshape(n, *shape), torch.linspace(0.4, 0.6, n, dtype=dtype, device=device)
    found = {first: _answer(fn, pair) for first, pair in ((False, (x, t)), (True, (t, x)))}
    for first, answer in found.items():
        if isinstance(answer, Tensor) and answer.shape == x.shape:
            return first
    (usual, other) = (_told(answer) for answer in found.values())
    raise InputError(
        f"{name} = {one_line(fn)} was tried with x of shape {tuple(x.shape)} and t of shape ({n},)."
        f" Called (x, t) it {usual}; called (t, x) it {other}. Expected a tensor of x's shape: "
        f"adapt it, such as lambda x, t: {name}(x, t)"
    ) from next((answer for answer in found.values() if isinstance(answer, Exception)), None)


def _answer(fn: Callable[..., Any], arguments: tuple[Tensor, Tensor]) -> Any:
    """What it returns, or the exception that it raises; its state and torch's seed stay."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _evaluating(fn):
        try:
            return fn(*arguments)
        except Exception as error:
            return error


@contextmanager
def _evaluating(fn: Callable[..., Any]) -> Iterator[None]:
    """In evaluation mode, so that a trial leaves no mark in batch statistics."""
    modes = [(m, m.training) for m in fn.modules()] if isinstance(fn, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _told(answer: Any) -> str:
    if isinstance(answer, Exception):
        return f"raised {type(answer).__name__}: {answer!s:.120}"
    if isinstance(answer, Tensor):
        return f"returned shape {tuple(answer.shape)}"
    return f"returned {type(answer).__name__}"
