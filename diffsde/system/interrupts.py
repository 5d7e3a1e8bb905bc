"""Ctrl-C, and a scheduler's SIGTERM, as requests to stop: what is finished is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ends_at_once", "interrupted_by_scheduler", "set_by_interrupt"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def set_by_interrupt(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set the event inside the block, so that no work is left half done.

    A second Ctrl-C interrupts at once. A second SIGTERM does not: a launcher and its scheduler
    may both send one. Signals reach only the main thread: in other threads the event is never set.
    """
    usual = signal.getsignal(signal.SIGINT)

    def handle(number: int, _frame: Any) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, usual)

    with _handled_by(handle):
        yield


@contextmanager
def interrupted_by_scheduler() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt inside the block, as Ctrl-C does, but only once."""

    def handle(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # let what is finished be written
        raise KeyboardInterrupt

    with _handled_by(handle, signal.SIGTERM):
        yield


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Let both signals end the process inside the block, even where Python does not run."""
    with _handled_by(signal.SIG_DFL):
        yield


@contextmanager
def _handled_by(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals, by default both, so inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers or _SIGNALS}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
