r"""Checkpoints: a model as one safetensors file.

The file holds the network's tensors and, in its metadata, all that is needed to
build the model again: the names and arguments of network and SDE and the image's
shape, as JSON. Nothing is pickled, so a file can hold no code.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffsde.errors import CheckpointError, InputError, name_list
from diffsde.files import written_whole
from diffsde.networks import NETWORKS
from diffsde.score import ScoreModel
from diffsde.sde import SDES

__all__ = [
    "PRETRAINED",
    "load_model",
    "load_pretrained",
    "read_tensors",
    "save_model",
    "write_tensors",
]

_FORMAT = "diffsde-1"

PRETRAINED = {"mnist-tutorial": "mnist-tutorial.safetensors"}


def save_model(model: ScoreModel, path: str | os.PathLike[str], **notes: Any) -> Path:
    """Write a model to a safetensors file, whole or not at all.

    Args:
        model: its network and SDE must be of diffsde's own classes (`NETWORKS`, `SDES`).
        path: the file.
        notes: anything JSON can hold, kept in the metadata, such as the training recipe.
    """
    network, sde = type(model.network).__name__, type(model.sde).__name__
    for name, table, what in ((network, NETWORKS, "network"), (sde, SDES, "SDE")):
        if name not in table:
            raise InputError(
                f"a {what} of class {name} cannot be named in a checkpoint: add the class to "
                f"diffsde.{'networks.NETWORKS' if what == 'network' else 'sde.SDES'}, "
                f"with a config() that returns its arguments. {name_list(name, table)}"
            )
    description = {
        "network": {"name": network, "args": model.network.config()},  # type: ignore[operator]
        "sde": {"name": sde, "args": model.sde.config()},
        "shape": list(model.shape),
        "notes": notes,
    }
    return write_tensors(path, model.network.state_dict(), description)


def load_model(path: str | os.PathLike[str]) -> ScoreModel:
    """Read a model that `save_model` wrote, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or not such a model.
    """
    tensors, description = read_tensors(path)
    try:
        sde = SDES[description["sde"]["name"]](**description["sde"]["args"])
        network = NETWORKS[description["network"]["name"]](sde, **description["network"]["args"])
        model = ScoreModel(network, sde, description["shape"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a model of this diffsde: its metadata or tensors do not fit "
            f"({type(error).__name__}: {error}). Was it written by `save_model`?"
        ) from error
    return model.eval()


def load_pretrained(name: str = "mnist") -> ScoreModel:
    """A model that ships with the package; no network is needed."""
    if name not in PRETRAINED:
        raise InputError(f"no pretrained model {name!r}: {name_list(name, PRETRAINED)}")
    return load_model(_weights() / PRETRAINED[name])


def _weights() -> Path:
    return Path(str(resources.files("diffsde"))) / "assets" / "weights"


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], description: dict[str, Any]
) -> Path:
    """Write tensors and a JSON description as safetensors, whole or not at all."""
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": _FORMAT, "description": json.dumps(description)}
    with written_whole(path) as temporary:
        save_file(copies, temporary, metadata=metadata)
    return Path(path)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or written by something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}). It may be cut short, or of "
            "another format; diffsde loads no pickles"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file, but not written by diffsde (its metadata has format "
            f"{metadata.get('format')!r}, expected {_FORMAT!r})"
        )
    try:
        return tensors, json.loads(metadata["description"])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error})") from error
