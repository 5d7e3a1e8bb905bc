"""Ctrl-C as a request to stop once the current work is finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["set_by_interrupt"]


@contextmanager
def set_by_interrupt(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set the event inside the block, so that no work is left half done.

    A second Ctrl-C interrupts at once. Signals reach only the main thread: in other threads
    the event is never set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
