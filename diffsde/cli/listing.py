r"""The command `solvers`, which lists them."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

import diffsde
from diffsde.cli.options import AsJson
from diffsde.cli.report import reported, text_table

__all__ = ["solvers"]


def solvers(
    kind: Annotated[str | None, typer.Argument(help="sde or ode; both by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the solvers: order, cost of a step, source and advice.

    Example: diffsde solvers sde
    """
    with reported(as_json) as report:
        rows = diffsde.list_solvers(kind)
        texts = [
            f"{title}\n\n{_table(chosen)}\n"
            for title, name in (("Reverse SDE", "sde"), ("Probability flow", "ode"))
            if (chosen := [row for row in rows if row.kind == name])
        ]
        report.say("\n".join(texts), solvers=[_facts(row) for row in rows])


def _facts(row: diffsde.solvers.Solver) -> dict[str, Any]:
    """The fields of a row that tell a reader something; the others are functions."""
    return {entry.name: getattr(row, entry.name) for entry in fields(row) if entry.repr}


def _table(rows: list[diffsde.solvers.Solver]) -> str:
    head = ("name", "family", "order", "evaluations", "steps", "advice")
    return text_table(head, [_cells(row) for row in rows])


def _cells(row: diffsde.solvers.Solver) -> tuple[str, ...]:
    cost = "varies" if row.evaluations is None else f"{row.evaluations:g}"
    steps = "its own" if row.adaptive else "fixed"
    return row.name, row.family, f"{row.order:g}", cost, steps, row.advice
