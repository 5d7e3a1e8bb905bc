r"""Tensors and a description in one safetensors file.

Models, training states and trajectories all use this format. The description is JSON in the
file's metadata; nothing is pickled, so a file cannot hold code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffsde.errors import CheckpointError
from diffsde.system.files import written_whole

__all__ = ["read_tensors", "whole_in", "write_tensors"]

_FORMAT = "diffsde-1"


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], description: dict[str, Any]
) -> Path:
    """Write tensors and a JSON description as safetensors, whole or not at all.

    Raises:
        FileError, InputError: the file cannot be written; see `written_whole`.
    """
    copies: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory, as t and σ may where σ(t) = t.
        shared = plain.untyped_storage().data_ptr() in storages
        copies[name] = plain.clone() if shared else plain
        storages.add(plain.untyped_storage().data_ptr())
    metadata = {"format": _FORMAT, "description": json.dumps(description)}
    with written_whole(path) as temporary:
        try:
            save_file(copies, temporary, metadata=metadata)
        except SafetensorError as error:  # its word for a full disk, too
            raise OSError(str(error)) from error
    return Path(path)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or written by something else.
    """
    if not os.path.isfile(path):
        what = "a folder, not a file" if os.path.isdir(path) else "no such file"
        raise CheckpointError(f"{path}: {what}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}). It may be cut short, or "
            "have another format; diffsde loads no pickles"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file, but not written by diffsde (its metadata has format "
            f"{metadata.get('format')!r}, expected {_FORMAT!r})"
        )
    try:
        description = json.loads(metadata["description"])
    # Numbers with too many digits raise a ValueError, too many brackets a RecursionError.
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error})") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: its metadata is damaged ({description!r:.40})")
    return tensors, description


def whole_in(tensor: Tensor | None) -> int | None:
    """The count in a tensor without axes that was read from a file; None if it holds none."""
    if tensor is None or tensor.dtype != torch.int64 or tensor.shape != () or int(tensor) < 0:
        return None
    return int(tensor)
