r"""Checkpoints: a model as one safetensors file.

The file holds the network's tensors and, in its metadata, all that is needed to
build the model again: the names and arguments of network and SDE and the image's
shape, as JSON. Nothing is pickled, so a file can hold no code.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from diffsde.errors import CheckpointError, InputError, name_list
from diffsde.networks import NETWORKS
from diffsde.score import ScoreModel
from diffsde.sde import SDES
from diffsde.tensorfile import read_tensors, write_tensors

__all__ = [
    "PRETRAINED",
    "load_model",
    "load_pretrained",
    "save_model",
]

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
