r"""What a command prints when it is done: words for people, or one JSON object for programs.

In words: the results, a line `wrote PATH` for every file, and the seconds it took. With `--json`,
standard output is one object of strict JSON and nothing else: the results, then `written` and
`seconds`. Progress bars, errors and how many threads compute go to standard error either way.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from diffsde.system.threads import use_threads

__all__ = [
    "Report",
    "compute_with",
    "in_front",
    "is_first",
    "reported",
    "resumable",
    "text_table",
]


class Report:
    """Collects what a command has to say.

    Attributes:
        written: the files that the command has written.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.written: list[Path] = []
        self._facts: dict[str, Any] = {}

    def say(self, words: object = None, **facts: Any) -> None:
        """Add a result, as a text and as named facts; the text is printed at once."""
        self._facts |= facts
        if words is not None and not self.as_json:
            _print(words)

    def end(self, seconds: float) -> None:
        """Print the files and the time; with `--json`, everything."""
        if self.as_json:
            written = [str(path) for path in self.written]
            found = {**self._facts, "written": written, "seconds": round(seconds, 3)}
            _print(json.dumps(_strict(found), ensure_ascii=False, indent=1, allow_nan=False))
            return
        for path in self.written:
            _print(f"wrote {path}")
        _print(f"in {seconds:.1f} s")


def is_first() -> bool:
    """Whether this is the process that prints and writes: the first one of a launch, or the only.

    Unlike `diffsde.system.launch`, it is asked before torch is loaded, so the launcher is believed.
    """
    return os.environ.get("RANK", "0") == "0"


def in_front() -> str:
    """What an error's message begins with: of several processes, each says which it is."""
    count = os.environ.get("WORLD_SIZE", "1")
    return "diffsde: " if count == "1" else f"diffsde ({os.environ.get('RANK')} of {count}): "


def _print(words: object, to: TextIO | None = None) -> None:
    if is_first():
        print(words, file=to or sys.stdout)


@contextmanager
def reported(as_json: bool = False) -> Iterator[Report]:
    """Time a command's work, and print the report if it succeeds or has written anything."""
    started = time.perf_counter()
    report = Report(as_json)
    try:
        yield report
    except BaseException:
        if report.written:
            report.end(time.perf_counter() - started)
        raise
    report.end(time.perf_counter() - started)


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Where every finished part is on disk: say so if Ctrl-C stops the work."""
    try:
        yield
    except KeyboardInterrupt:
        if out.exists():
            words = f"what is finished is kept in {out}; the same command goes on from there"
            _print(f"diffsde: {words}", sys.stderr)
        raise


def compute_with(threads: int | None) -> None:
    """Let torch use so many threads, or as many as there are free cores; say so if some are not."""
    words = use_threads(threads)
    if words:
        _print(f"diffsde: {words}", sys.stderr)


def _strict(value: Any) -> Any:
    """The value as strict JSON can hold it: numbers that are not finite become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return value


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows of text in columns; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    widths[-1] = 0
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *rows)
    )
