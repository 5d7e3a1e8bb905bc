r"""Pipelines of diffusers, from their folders: a score model, with its decoder if it has one.

diffusers builds the parts, from settings that have been checked. Its name is needed in no file
of ours, so a pipeline that diffusers can draw from without a text is one that solvers take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffsde.errors import CheckpointError, DiffSDEError
from diffsde.scores.autoencoders import Decoder
from diffsde.scores.diffusers import from_diffusers
from diffsde.scores.model import ScoreModel
from diffsde.scores.pipeline_files import AUTOENCODERS, check_weights, parts_of, settings
from diffsde.system.packages import optional_package

__all__ = ["load_pipeline"]

_SPARE = 1 << 24  # numbers that a network may have beyond its weights, such as embedded positions


def load_pipeline(folder: Path) -> ScoreModel:
    """The model of a pipeline of diffusers, in evaluation mode and float32.

    Args:
        folder: that `save_pretrained` wrote, with `model_index.json`.

    Raises:
        CheckpointError: the pipeline is of another kind, damaged, or has pickled weights.
        InputError: diffusers is not installed.
    """
    parts = parts_of(folder)
    built = {name: _part(folder, name, kind) for name, kind in parts.items()}
    scheduler = built.pop("scheduler")
    decoders = [built.pop(name) for name, kind in parts.items() if kind in AUTOENCODERS]
    (network,) = built.values()
    with _explained(folder, "its parts"):
        model = from_diffusers(network, scheduler)
        if model.shape is None:
            raise CheckpointError(f"{folder}: its network has no sample_size, the side of an image")
    model.decoder = Decoder(decoders[0]) if decoders else None
    return model.eval()


def _part(folder: Path, name: str, kind: str) -> Any:
    """One part, from settings within bounds and from tensors that fit it."""
    found = settings(folder, name, kind)
    if kind == "Transformer2DModel" and found.get("norm_type") == "ada_norm_zero":
        kind = "DiTTransformer2DModel"  # as older pipelines call it
    cls = getattr(optional_package("diffusers", "interchange"), kind, None)
    if cls is None:
        raise CheckpointError(f"{folder / name}: the diffusers that is installed has no {kind}")
    with _explained(folder / name, kind):
        return (
            cls.from_config(found) if name == "scheduler" else _network(folder / name, cls, found)
        )


def _network(folder: Path, cls: Any, found: dict[str, Any]) -> nn.Module:
    size = check_weights(folder)
    with torch.device("meta"):  # takes no memory, however large the settings make it
        empty = cls.from_config(found)
    numbers = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    if numbers > size + _SPARE:
        raise CheckpointError(
            f"{folder}: its settings ask for {numbers:,} numbers, but the weights have {size:,} "
            "bytes: they do not belong together"
        )
    network, report = cls.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    wrong = [f"{len(names)} {kind} ({names[0]!s:.80})" for kind, names in report.items() if names]
    if wrong:  # diffusers would go on with random numbers in place of what is missing
        raise CheckpointError(f"{folder}: its weights do not fit its settings: {', '.join(wrong)}")
    loaded: nn.Module = network.float()
    return loaded


@contextmanager
def _explained(place: Path, what: str) -> Iterator[None]:
    """Tell in our words of anything that diffusers raises about a pipeline's files."""
    try:
        yield
    except DiffSDEError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place}: {error}") from error
    except Exception as error:
        raise CheckpointError(
            f"{place}: diffusers cannot make {what} of it ({type(error).__name__}: {error!s:.300})"
        ) from error
