"""The folder of a training run, in which nothing is lost.

It holds `model.safetensors`, the averaged network, ready for `load_model`; the newest states
`state-000001234.safetensors`, each with everything needed to resume from that update; `loss.csv`
and `loss.png`; and `lock`, an empty file by which one process keeps the others away. Every other
file is written under a temporary name, flushed to the disk and renamed, the state last. So whenever
the power fails, the newest state is whole, and no other file is older than it.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from torch import Tensor

from diffsde.errors import CheckpointError, TrainingError
from diffsde.scores.checkpoint import save_model
from diffsde.scores.model import ScoreModel
from diffsde.system.files import remove_leftovers, written_whole
from diffsde.system.numbers import whole_number
from diffsde.system.tensorfile import write_tensors

__all__ = ["Results", "RunFolder"]

_STATE = re.compile(r"state-(\d+)\.safetensors")

State = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, and notes that JSON can hold


class Results(NamedTuple):
    """The results of a run so far.

    Attributes:
        model: the model with its averaged weights.
        card: saved in the model's file: what it was trained on, and how.
        losses: (update, loss), by rising update.
    """

    model: ScoreModel
    card: dict[str, Any]
    losses: Sequence[tuple[int, float]]


class RunFolder:
    """The files of a run.

    Args:
        path: the folder, created by the first write.
        keep: how many of the newest states to keep; 1 or more.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, whole_number(keep, "keep", why=" of states")

    def states(self) -> list[Path]:
        """The states in the folder, oldest first."""
        found = self.path.iterdir() if os.path.isdir(self.path) else ()
        numbered = [(int(m[1]), path) for path in found if (m := _STATE.fullmatch(path.name))]
        return [path for _, path in sorted(numbered)]

    def newest(self) -> Path:
        """The newest state, to resume from.

        Raises:
            CheckpointError: there is none.
        """
        states = self.states()
        if not states:
            raise CheckpointError(
                f"{self.path}: no state-….safetensors to resume from; start without --resume"
            )
        return states[-1]

    @contextmanager
    def alone(self, found: Sequence[Path]) -> Iterator[None]:
        """Keep all other processes from training in the folder; the system frees a killed one's.

        Args:
            found: the states that the folder had when it was read.

        Raises:
            TrainingError: another process is training in the folder, or has in the meantime.
        """
        with self._locked():
            if self.states() != found:
                raise TrainingError(f"{self.path}: another process has just trained here")
            yield

    def _locked(self) -> AbstractContextManager[Any]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return FileLock(self.path / "lock").acquire(timeout=0)
        except Timeout as error:
            raise TrainingError(
                f"{self.path}: another process is training in this folder. Wait until it has ended "
                "and resume (--resume), or choose another folder"
            ) from error
        except OSError as error:
            raise TrainingError(
                f"{self.path}: nothing can be written there ({error.strerror}), so nothing is "
                "trained; give another folder, or allow writing to this one"
            ) from error

    def clean(self) -> None:
        """Remove files that a killed process did not finish writing."""
        for name in ("model.safetensors", "loss.csv", "loss.png"):
            remove_leftovers(self.path / name)
        remove_leftovers(self.path / "state-*.safetensors")

    def save(self, step: int, state: State, results: Results | None = None) -> None:
        """Write the results, if there are any yet, and the state; then remove older states.

        Raises:
            TrainingError: something could not be written. Earlier files are whole, and the text
                says where the state is instead.
        """
        name = f"state-{step:09d}.safetensors"
        try:
            if results is not None:
                self._write_results(results)
            write_tensors(self.path / name, *state)
            for old in self.states()[: -self.keep]:
                old.unlink()
        except OSError as error:
            raise TrainingError(
                f"{self.path}: the run could not be saved at update {step} ({error}). What was "
                f"saved before is whole. {_rescue(name, state)}Free some space or allow writing "
                "to the folder, then resume (--resume)"
            ) from error

    def _write_results(self, results: Results) -> None:
        save_model(results.model, self.path / "model.safetensors", **results.card)
        with written_whole(self.path / "loss.csv") as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([("update", "loss"), *results.losses])
        if results.losses:
            from diffsde.views.comparisons import plot_losses  # loads matplotlib

            plot_losses(results.losses, self.path / "loss.png")


def _rescue(name: str, state: State) -> str:
    """Save a state outside its folder, and return a sentence that says where."""
    place = tempfile.gettempdir()
    try:
        place = tempfile.mkdtemp(prefix="diffsde-")
        written = write_tensors(Path(place) / name, *state)
    except OSError as error:
        return f"The state of that update could not be written to {place} either ({error}). "
    return f"The state of that update is in {written}: move it into the folder to lose nothing. "
