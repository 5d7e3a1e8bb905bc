r"""The catalogue: every solver by name, with the methods of all origins in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from diffsde.errors import InputError, UnknownSolverError, name_list
from diffsde.solvers import methods  # noqa: F401  (fills the registry)
from diffsde.solvers.registry import REGISTRY, Solver
from diffsde.system.tables import Table

__all__ = [
    "HEAD",
    "SolverList",
    "cells_of",
    "facts_of",
    "find_solver",
    "list_solvers",
    "usual_kind",
]


HEAD = ("name", "kind", "family", "order", "weak", "evaluations", "steps", "advice")


class SolverList(Table, list[Solver]):
    """A list of solvers that shows itself as a table."""

    def _lines(self) -> Sequence[Sequence[str]]:
        return [HEAD, *map(cells_of, self)]

    def _records(self) -> Iterable[dict[str, Any]]:
        return map(facts_of, self)


def facts_of(row: Solver) -> dict[str, Any]:
    """What a row tells a reader: its fields that are no functions, and the names of its options."""
    facts = {entry.name: getattr(row, entry.name) for entry in fields(row) if entry.repr}
    return {**facts, "options": list(row.options)}


def cells_of(row: Solver) -> tuple[str, ...]:
    """A row of the table that people read, below its `HEAD`."""
    cost = "varies" if row.evaluations is None else f"{row.evaluations:g}"
    steps = "its own" if row.adaptive else "fixed"
    weak = "–" if row.weak_order is None else f"{row.weak_order:g}"
    return row.name, row.kind, row.family, f"{row.order:g}", weak, cost, steps, row.advice


def list_solvers(kind: str | None = None) -> SolverList:
    """The registry: every solver, or those of one kind, "sde" or "ode".

    Returns:
        A list of `Solver` rows, which shows itself as a table; `.to_dataframe()` gives it to
        pandas.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in (None, "sde", "ode"):
        raise InputError(f"kind = {kind!r}: expected 'sde', 'ode' or None")
    return SolverList(row for row in REGISTRY.values() if kind in (None, row.kind))


def find_solver(name: str, kind: str) -> Solver:
    """The row of that name for that kind of equation.

    Raises:
        UnknownSolverError: there is none. The error names the valid ones, the nearest, or the
            kind to which the name belongs.
    """
    if isinstance(name, str) and (kind, name) in REGISTRY:
        return REGISTRY[kind, name]
    words = {"sde": "an SDE", "ode": "an ODE"}
    valid = name_list(str(name), _names(kind))
    other = "ode" if kind == "sde" else "sde"
    if isinstance(name, str) and (other, name) in REGISTRY:
        raise UnknownSolverError(
            f"{name!r} solves {words[other]}, but this problem is {words[kind]} "
            f"({'use a ProbabilityFlow' if kind == 'sde' else 'use a ReverseSDE'} for it). {valid}"
        )
    raise UnknownSolverError(f"no solver {name!r} for {words[kind]}: {valid}")


def usual_kind(name: str) -> str:
    """The kind of problem that a method is meant for, if nobody says: "sde" if it solves both."""
    return "ode" if {kind for kind, row in REGISTRY if row == name} == {"ode"} else "sde"


def _names(kind: str) -> Iterable[str]:
    return [name for row_kind, name in REGISTRY if row_kind == kind]
