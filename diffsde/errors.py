"""The exceptions that diffsde raises.

Every one is a `DiffSDEError`, so one `except` clause catches them all. Mistakes in a call are
also `ValueError`, as Python users expect.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffsde.solvers.trajectory import Trajectory

__all__ = [
    "BlowUpError",
    "CheckpointError",
    "DataError",
    "DiffSDEError",
    "FileError",
    "InputError",
    "LaunchError",
    "LimitError",
    "SolveError",
    "TrainingError",
    "UnknownSolverError",
    "how_to_load",
    "name_list",
]


class DiffSDEError(Exception):
    """Base class of all errors raised by diffsde."""


class InputError(DiffSDEError, ValueError):
    """An argument is not what the function takes."""


class UnknownSolverError(InputError):
    """No solver for that kind of problem has this name."""


class CheckpointError(DiffSDEError):
    """A checkpoint is missing, damaged, or was not written by diffsde."""


class DataError(DiffSDEError):
    """A data file is missing, truncated or damaged."""


class FileError(DiffSDEError, OSError):
    """A file cannot be written; whatever had its name before is as it was."""


class LaunchError(DiffSDEError):
    """Another process of the same launch has ended before its work was done."""


class TrainingError(DiffSDEError):
    """Training cannot continue."""


class SolveError(DiffSDEError):
    """A solve stopped before its end; its cause is the exception that stopped it.

    Attributes:
        trajectory: the path computed so far, a `Trajectory`; `trajectory.resume()` goes on.
    """

    def __init__(self, message: str, trajectory: Trajectory) -> None:
        super().__init__(message)
        self.trajectory = trajectory

    def __reduce__(self) -> tuple[type[SolveError], tuple[str, Trajectory]]:
        """As an exception with two arguments travels between processes."""
        return type(self), (str(self), self.trajectory)


class BlowUpError(SolveError):
    """The numbers of a solve ran away: the method does not suit the problem or its steps.

    The state or the score is no longer finite, or far too large, or no step was small enough
    for the tolerance.
    """


class LimitError(SolveError):
    """A solve reached a limit that the caller set: max_steps, max_nfe or max_seconds."""


def how_to_load(value: object) -> str:
    """The end of an error text about what should be a model: what to do with a path to one."""
    is_path = isinstance(value, (str, os.PathLike))
    return f". A model is read from a path by load_model({str(value)!r})" if is_path else ""


def name_list(unknown: str, valid: Iterable[str]) -> str:
    """The end of an error text about an unknown name: the nearest valid name, then all of them."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(unknown, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}Valid names: {', '.join(names)}"
