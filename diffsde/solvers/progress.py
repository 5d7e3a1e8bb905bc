r"""The progress bar of a solve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffsde.system.bars import load_tqdm

__all__ = ["StepBar", "step_bar"]


class StepBar:
    """A bar that moves by one for each step and shows the time t."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, t: float) -> None:
        self._bar.set_postfix_str(f"t = {t:.3g}", refresh=False)
        self._bar.update()


@contextmanager
def step_bar(total: int | None, *, shown: bool | str) -> Iterator[StepBar | None]:
    """A bar of `total` steps (None if their number is unknown), or None if it is not shown.

    A text in `shown` names the bar.
    """
    if not shown:
        yield None
        return
    name = shown if isinstance(shown, str) else None
    with load_tqdm()(total=total, unit="step", desc=name) as bar:
        yield StepBar(bar)
