r"""Derivatives in x: whether what a function returns leads back to the x that it was given.

A likelihood and a guided score differentiate a score in x. Where the score has lost its graph
(`@torch.no_grad()`, `.detach()`, NumPy), another term in x may still have one, and the result
would be a wrong number. So everything that is differentiated is called by `with_graph`, which
looks for a way from the value back to x. A constant has none either: it is declared by `+ 0 * x`.

Inference mode cannot be lifted by `torch.enable_grad()`. `ordinary_mode` lifts it, and `ordinary`
copies tensors that were made in it, because autograd cannot save those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from diffsde.errors import InputError

__all__ = ["leaf", "ordinary", "ordinary_mode", "with_graph"]


@contextmanager
def ordinary_mode() -> Iterator[None]:
    """Lift inference mode to no_grad mode; every other mode stays as it is. Also a decorator."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():  # False alone would record graphs
        yield


def ordinary(x: Tensor) -> Tensor:
    """The tensor itself, or a copy of one that was made in inference mode."""
    if not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()


def leaf(x: Tensor) -> Tensor:
    """The values of x as the start of a new graph."""
    return ordinary(x).detach().requires_grad_()


def with_graph(
    fn: Callable[..., Tensor], name: str, x: Tensor, *rest: Any, zero: bool = False
) -> Tensor:
    """fn(x, *rest); if x is being differentiated, the value must lead back to it.

    Args:
        fn: the function.
        name: what an error calls it, such as "score".
        x: its first argument.
        rest: the other arguments.
        zero: a value of zeros needs no graph.

    Raises:
        InputError: the value has no graph to x.
    """
    if not (torch.is_grad_enabled() and x.requires_grad) or torch.compiler.is_compiling():
        return fn(x, *rest)
    start = get_gradient_edge(x)  # before the call, which may change x in place
    try:
        value = fn(x, *rest)
    except RuntimeError as error:
        _explain(error, name)
        raise
    if not isinstance(value, Tensor) or _leads_to(value, start):
        return value
    if zero and not bool(value.any()):
        return value
    raise InputError(_missing(name))


def _leads_to(value: Tensor, start: GradientEdge) -> bool:
    """Whether back-propagation from the value reaches `start`."""
    if not value.requires_grad:
        return False
    end = get_gradient_edge(value)
    todo: list[tuple[Any, int]] = [(end.node, end.output_nr)]
    seen = set()
    while todo:
        node, output = todo.pop()
        if node is start.node and output == start.output_nr:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(node.next_functions)
    return False


def _explain(error: RuntimeError, name: str) -> None:
    """Raise an InputError in place of torch's own words about NumPy and inference tensors."""
    if "numpy()" in str(error):
        raise InputError(_missing(name)) from error
    if "nference tensor" in str(error):
        raise InputError(
            f"the {name} cannot be differentiated in x, because it holds tensors that were made "
            "under torch.inference_mode(): make or load it outside of that mode"
        ) from error


def _missing(name: str) -> str:
    return (
        f"the {name} has to be differentiated in x, but what it returned has no graph that leads "
        f"back to x. Remove @torch.no_grad(), @torch.inference_mode(), .detach() and NumPy from "
        f"the {name}. If its value does not depend on x, which cannot be told from a missing "
        "graph, return the value + 0 * x"
    )
