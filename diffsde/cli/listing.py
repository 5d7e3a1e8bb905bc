r"""The command `solvers`, which lists them."""

from __future__ import annotations

from typing import Annotated

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
    from diffsde.solvers.catalogue import facts_of  # torch loads when the command runs

    with reported(as_json) as report:
        rows = diffsde.list_solvers(kind)
        texts = [
            f"{title}\n\n{_table(chosen, without)}\n"
            for title, name, without in (
                ("Reverse SDE, with strong and weak orders", "sde", {"kind"}),
                ("Probability flow", "ode", {"kind", "weak"}),
            )
            if (chosen := [row for row in rows if row.kind == name])
        ]
        report.say("\n".join(texts), solvers=[facts_of(row) for row in rows])


def _table(rows: list[diffsde.solvers.Solver], without: set[str]) -> str:
    """The table of some rows, without the columns that say nothing there."""
    from diffsde.solvers.catalogue import HEAD, cells_of

    head, *lines = (
        [cell for name, cell in zip(HEAD, cells, strict=True) if name not in without]
        for cells in (HEAD, *map(cells_of, rows))
    )
    return text_table(head, lines)
