"""The settings of a solve with every default filled in, as results on disk describe them."""

from __future__ import annotations

import inspect
from typing import Any

from diffsde.solvers.arguments import checked_adaptive, checked_tolerances
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.request import DEFAULT_STEPS
from diffsde.solvers.solving import solve

__all__ = ["full_settings"]

# These say what is solved, how it is watched or where it stops, and change no number.
_NOT_SETTINGS = {
    *("problem", "x", "method", "seed", "noise", "chunk", "first", "callback", "progress"),
    *("capture", "max_steps", "max_nfe", "max_seconds"),
}
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(solve).parameters.items()
    if name not in _NOT_SETTINGS
}


def full_settings(method: str, kind: str, **given: Any) -> dict[str, Any]:
    """What `solve` goes by: the settings given, and its defaults for all others.

    Raises:
        UnknownSolverError: no solver has this name.
        InputError: the tolerances, or `adaptive`, are not for this solver.
    """
    solver, settings = find_solver(method, kind), {**_DEFAULTS, **given}
    adaptive = checked_adaptive(solver, settings["adaptive"])
    settings["rtol"], settings["atol"] = checked_tolerances(
        settings["rtol"], settings["atol"], solver, adaptive
    )
    if settings["steps"] is None and settings["ts"] is None and not adaptive:
        settings["steps"] = DEFAULT_STEPS
    return {**settings, "method": method, "kind": kind, "adaptive": adaptive}
