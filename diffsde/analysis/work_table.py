"""The table of errors and costs that `work_precision` returns."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from diffsde.errors import InputError
from diffsde.system.files import written_whole
from diffsde.system.tables import Table

__all__ = ["WorkPrecision", "WorkRow"]


@dataclass(frozen=True)
class WorkRow:
    """One solve.

    Attributes:
        method, clock: names.
        steps: accepted steps.
        nfe: evaluations of the score.
        seconds: duration of the solve, the median over repeats.
        error: distance from the reference; infinite if the solve blew up.
        reference: how much the reference itself changed by the last halving of its steps; NaN
            where the caller gave it.
        options: of the method, as "last_order=1".
    """

    method: str
    clock: str
    steps: int
    nfe: int
    seconds: float
    error: float
    reference: float = math.nan
    options: str = ""

    @property
    def name(self) -> str:
        """The method with its options."""
        return f"{self.method}, {self.options}" if self.options else self.method


@dataclass(frozen=True, repr=False)
class WorkPrecision(Table):
    """The table of all solves: `save` it, or draw it with `plot_work_precision`.

    Iterating gives each row as a mapping, as the plots take it. With several clocks the name
    of a method includes its clock, so that each method in each clock is a line of its own.
    """

    rows: tuple[WorkRow, ...]
    measure: str

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        several = len({row.clock for row in self.rows}) > 1
        for row in self.rows:
            name = f"{row.name}, {row.clock}" if several else row.name
            yield {**asdict(row), "method": name}

    def __len__(self) -> int:
        return len(self.rows)

    def best(self, nfe: int) -> WorkRow:
        """The row with the smallest error among those that took at most `nfe` evaluations."""
        affordable = [row for row in self.rows if row.nfe <= nfe]
        if not affordable:
            raise InputError(
                f"nfe = {nfe}: no solve took so few evaluations; the least is "
                f"{min(row.nfe for row in self.rows)}"
            )
        return min(affordable, key=lambda row: row.error)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a CSV file, completely or not at all."""
        with written_whole(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(WorkRow)])
            writer.writeheader()
            writer.writerows(self._records())
        return Path(path)

    def _records(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def _lines(self) -> Sequence[Sequence[str]]:
        head = (
            "method",
            "clock",
            "steps",
            "nfe",
            "seconds",
            f"{self.measure} error",
            "reference ±",
        )
        return [head, *map(_cells, self.rows)]


def _cells(row: WorkRow) -> tuple[str, ...]:
    own = "" if math.isnan(row.reference) else f"{row.reference:.1g}"
    numbers = f"{row.steps}", f"{row.nfe}", f"{row.seconds:.3g}", f"{row.error:.3g}"
    return row.name, row.clock, *numbers, own
