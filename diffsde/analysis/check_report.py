"""The report of `check`: a row of numbers for each time, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diffsde.system.tables import Table

__all__ = ["CheckReport", "CheckRow", "number", "other_kind"]


@dataclass(frozen=True)
class CheckRow:
    """The numbers at one time. All should be 1, the shifts 0; NaN where one is unknown.

    Attributes:
        t: the time.
        spread, twin_spread: rms distance from the forward mean, divided by that of the forward
            process, for the problem and for its twin; infinite once a solve has broken down.
        shift, twin_shift: deviation of the mean over samples and coordinates from the forward
            mean, divided by the same rms.
        drift, diffusion, score: the factors of the parts, see `check_parts`.
    """

    t: float
    spread: float
    shift: float
    twin_spread: float
    twin_shift: float
    drift: float
    diffusion: float
    score: float


@dataclass(frozen=True, repr=False)
class CheckReport(Table):
    """The verdict of `check`: a table with the findings below it.

    Attributes:
        rows: from T down to ε.
        findings: what is wrong; empty if nothing is.
        diverges: t at which the problem's marginals leave the forward process; None if never.
        kind: "SDE" or "flow", the kind of the problem.
        nfe: evaluations of the score that it took.
        left_out: what there were too few evaluations for, in words.
    """

    rows: tuple[CheckRow, ...]
    findings: tuple[str, ...]
    diverges: float | None
    kind: str
    nfe: int
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing wrong was found, by what was not left out."""
        return not self.findings

    def _records(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def _notes(self) -> Sequence[str]:
        what = "Drift, diffusion and score" if self.left_out else "The marginals"
        left_out = " and ".join(self.left_out)
        return (
            *(self.findings or (f"{what} are those of the forward process.",)),
            *([f"Left out, for more evaluations than max_nfe: {left_out}."] if left_out else []),
        )

    def _lines(self) -> Sequence[Sequence[str]]:
        twin = other_kind(self.kind)
        spreads = (f"{self.kind} spread", "shift", f"{twin} spread", "shift")
        head = ("t", *spreads, "drift", "diffusion", "score")
        cells = [
            (f"{row.t:.3g}", *(number(getattr(row, name)) for name in _COLUMNS))
            for row in self.rows
        ]
        return [head, *cells]


_COLUMNS = ("spread", "shift", "twin_spread", "twin_shift", "drift", "diffusion", "score")


def other_kind(kind: str) -> str:
    """The kind of the twin: the flow of an SDE, the SDE of a flow."""
    return "flow" if kind == "SDE" else "SDE"


def number(value: float) -> str:
    """Three digits, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3g}"
