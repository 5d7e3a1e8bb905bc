r"""Captures: what a device was told, to be told again all at once.

To tell a device one operation takes the host longer than the device needs for a small one. What was
captured is told again by a single call: the device reads and writes where it did before, so another
result needs other numbers in the same places. While a device is captured, nobody can wait for it
and nothing can be copied there. `HostCopies` notes what the host copies beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CAPTURES", "Capture", "HostCopies", "being_captured"]

_CAPTURED: ContextVar[bool] = ContextVar("captured", default=False)


def being_captured() -> bool:
    """Whether what a device is told is captured, or about to be, so that no part of it may be."""
    return _CAPTURED.get()


class Capture(Protocol):
    """What a device is told."""

    def taken(self) -> AbstractContextManager[Any]:
        """Within this context the device does nothing, and what it is told is captured."""

    def replay(self) -> None:
        """Tell it the same again."""


class _CudaGraph:
    """A CUDA graph."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def taken(self) -> AbstractContextManager[Any]:
        # Other threads, such as those that load data, may go on using the device.
        return torch.cuda.graph(self._graph, capture_error_mode="thread_local")

    def replay(self) -> None:
        self._graph.replay()


CAPTURES: dict[str, Callable[[], Capture]] = {"cuda": _CudaGraph}
"""How to capture what a kind of device is told."""


class HostCopies:
    """What the host copies to a device: noted once, and then taken from there.

        copies = HostCopies()
        with copies.noted():
            work()
        with copies.repeated():  # the same work, which copies nothing
            work()

    What torch copies below its dispatcher, as `torch.tensor(…, device=…)` does, is not noted.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []  # of the host, and on the device

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within this context, each copy is made and noted."""
        self._pairs = []
        with _asked_at_copies(self._note):
            yield

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Within this context, each copy is one of those noted, in their order.

        Raises:
            RuntimeError: from a copy that is not the one noted in its place.
        """
        pairs = iter(self._pairs)

        def repeat(value: Tensor, copy: Callable[[], Tensor]) -> Tensor:
            host, there = next(pairs, (None, value))
            if host is None or host.dtype != value.dtype or not torch.equal(host, value):
                raise RuntimeError(
                    f"something copies numbers of shape {tuple(value.shape)} to the device that "
                    "were not copied there before"
                )
            return there.clone()  # whoever asked for it may write into it

        with _asked_at_copies(repeat):
            yield

    def _note(self, value: Tensor, copy: Callable[[], Tensor]) -> Tensor:
        there = copy()
        self._pairs.append((value.detach().clone(), there.clone()))
        return there


@contextmanager
def _asked_at_copies(ask: Callable[[Tensor, Callable[[], Tensor]], Tensor]) -> Iterator[None]:
    before = _CAPTURED.set(True)
    try:
        with _AtCopies(ask):
            yield
    finally:
        _CAPTURED.reset(before)


class _AtCopies(TorchDispatchMode):
    """Asks for each copy from the host to a device, given the value and how it is copied."""

    def __init__(self, ask: Callable[[Tensor, Callable[[], Tensor]], Tensor]) -> None:
        super().__init__()
        self._ask = ask

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.ops.aten._to_copy.default and _leaves_host(args[0], named.get("device")):
            return self._ask(args[0], lambda: func(*args, **named))
        if func is torch.ops.aten.copy_.default and _leaves_host(args[1], args[0].device):
            like = {"dtype": args[0].dtype, "device": args[0].device}
            there = self._ask(args[1], lambda: torch.ops.aten._to_copy.default(args[1], **like))
            return func(args[0], there)
        return func(*args, **named)


def _leaves_host(value: Tensor, device: torch.device | None) -> bool:
    return value.device.type == "cpu" and device is not None and device.type != "cpu"
