"""The state of a training run: tensors and notes in one file, from which it can be resumed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from diffsde.errors import CheckpointError
from diffsde.scores.checkpoint import build_model, describe_model
from diffsde.scores.model import ScoreModel
from diffsde.system.tensorfile import read_tensors
from diffsde.training.recipes import Recipe
from diffsde.training.run_folder import State

__all__ = ["Progress", "RunState", "not_a_run", "pop_prefixed", "saved_recipe"]


@dataclass
class Progress:
    """How far a run has come: the part of its state that is not tensors.

    Attributes:
        step: number of updates made.
        seconds: time spent on them.
        norm: running mean of the gradient's norm.
        losses: (update, mean loss of the updates since the previous entry).
        held_out: (update, loss of every average on the held-out images).
        pending: losses of the updates since the last entry of `losses`.
    """

    step: int = 0
    seconds: float = 0.0
    norm: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, list[float]]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, notes: dict[str, Any]) -> Progress:
        """From a file's notes.

        Raises:
            KeyError, TypeError, ValueError: they have another form.
        """
        return cls(
            _whole(notes["step"]),
            _finite(notes["seconds"]),
            _finite(notes["norm"]),
            [(_whole(step), _finite(loss)) for step, loss in _listed(notes["losses"])],
            [
                (_whole(step), [_finite(loss) for loss in _listed(losses)])
                for step, losses in _listed(notes["held_out"])
            ],
            [_finite(loss) for loss in _listed(notes["pending"])],
        )


@dataclass(frozen=True)
class RunState:
    """A run between two updates.

    Attributes:
        recipe: how it trains.
        model: what it trains.
        teacher: the model it learns from, if not from the images.
        images: the shape of its training samples, (N, …).
        data: digest of the samples and labels; None in files of older versions.
        progress: how far it has come.
        rest: the tensors of averages and optimisers, by names that only the run knows.
    """

    recipe: Recipe
    model: ScoreModel
    teacher: ScoreModel | None
    images: tuple[int, ...]
    data: str | None
    progress: Progress
    rest: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> RunState:
        """Read a state from a file.

        Raises:
            CheckpointError: the file cannot be read, or is not a run's state.
        """
        tensors, notes = read_tensors(path)
        try:
            recipe = Recipe(**notes["recipe"])
            progress = Progress.read(notes)
            images = tuple(_whole(n) for n in notes["images"])
            model = build_model(notes["model"], pop_prefixed(tensors, "network."))
            model.sde.centre(pop_prefixed(tensors, "prior.").get("data_mean"))
            taught_by, teacher = notes.get("teacher"), None
            if taught_by is not None:
                teacher = build_model(taught_by, pop_prefixed(tensors, "teacher."))
                teacher.sde.centre(pop_prefixed(tensors, "teacher_prior.").get("data_mean"))
        except (KeyError, TypeError, ValueError) as error:
            raise not_a_run(path, error) from error
        return cls(recipe, model, teacher, images, notes.get("data"), progress, tensors)

    def contents(self) -> State:
        """The tensors and notes of its file."""
        tensors = {f"network.{k}": v for k, v in self.model.network.state_dict().items()}
        if self.model.sde.data_mean is not None:
            tensors["prior.data_mean"] = self.model.sde.data_mean
        if self.teacher is not None:
            weights = self.teacher.network.state_dict()
            tensors |= {f"teacher.{k}": v for k, v in weights.items()}
            if self.teacher.sde.data_mean is not None:
                tensors["teacher_prior.data_mean"] = self.teacher.sde.data_mean
        notes = {
            "recipe": asdict(self.recipe),
            "model": describe_model(self.model),
            "teacher": None if self.teacher is None else describe_model(self.teacher),
            "images": list(self.images),
            "data": self.data,
            **asdict(self.progress),
        }
        return tensors | self.rest, notes


def saved_recipe(path: Path) -> Recipe:
    """The recipe of the run whose state is in that file.

    Raises:
        CheckpointError: the file cannot be read, or is not a run's state.
    """
    notes = read_tensors(path)[1]
    try:
        return Recipe(**notes["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise not_a_run(path, error) from error


def pop_prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors whose names begin with the prefix, and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def not_a_run(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that does not have the form of a run's state."""
    return CheckpointError(
        f"{path}: not the state of a training run ({type(error).__name__}: {error})"
    )


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r:.40}: expected a number of updates")
    return value


def _finite(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{value!r:.40}: expected a finite number")
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.40}: expected a list")
    return value
