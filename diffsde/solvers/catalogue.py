r"""The catalogue: every solver by name, with the methods of all origins in it."""

from __future__ import annotations

from collections.abc import Iterable

from diffsde.errors import InputError, UnknownSolverError, name_list
from diffsde.solvers import methods  # noqa: F401  (fills the registry)
from diffsde.solvers.registry import REGISTRY, Solver

__all__ = ["find_solver", "list_solvers"]


def list_solvers(kind: str | None = None) -> list[Solver]:
    """The registry: every solver, or those of one kind, "sde" or "ode"."""
    if kind not in (None, "sde", "ode"):
        raise InputError(f"kind = {kind!r}: expected 'sde', 'ode' or None")
    return [row for row in REGISTRY.values() if kind in (None, row.kind)]


def find_solver(name: str, kind: str) -> Solver:
    """The row of that name for that kind of equation.

    Raises:
        UnknownSolverError: there is none. The error names the valid ones, the nearest, or the
            kind to which the name belongs.
    """
    if (kind, name) in REGISTRY:
        return REGISTRY[kind, name]
    words = {"sde": "an SDE", "ode": "an ODE"}
    valid = name_list(str(name), _names(kind))
    other = "ode" if kind == "sde" else "sde"
    if (other, name) in REGISTRY:
        raise UnknownSolverError(
            f"{name!r} solves {words[other]}, but this problem is {words[kind]} "
            f"({'use a ProbabilityFlow' if kind == 'sde' else 'use a ReverseSDE'} for it). {valid}"
        )
    raise UnknownSolverError(f"no solver {name!r} for {words[kind]}: {valid}")


def _names(kind: str) -> Iterable[str]:
    return [name for row_kind, name in REGISTRY if row_kind == kind]
