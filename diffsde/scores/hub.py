r"""Models on the Hugging Face hub: "google/ddpm-cifar10-32", or "hf://user/name".

Only settings and safetensors are fetched, never a pickle. The package `huggingface_hub` keeps
what has been fetched in its cache: pip install 'diffsde[huggingface]'.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diffsde.errors import CheckpointError, InputError
from diffsde.scores.pipeline_files import INDEX, parts_of
from diffsde.system.packages import optional_package

__all__ = ["MODEL_FILE", "fetched", "hub_name", "uploaded"]

MODEL_FILE = "model.safetensors"  # of a model of ours, in a folder or on the hub

_SCHEME = "hf://"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES = {".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".json", ".npz"}
_SETTINGS = [INDEX, "*/config.json", "*/scheduler_config.json"]
_OTHERS = ["*.fp16.*", "*.non_ema.*", "*.bin"]


def hub_name(path: str | os.PathLike[str]) -> str | None:
    """The name, "user/name", if the text is one on the hub and not that of a file; else None.

    Raises:
        InputError: it begins with hf:// but goes on as no name does.
    """
    if not isinstance(path, str):
        return None
    name = path.removeprefix(_SCHEME)
    named = _NAME.fullmatch(name) is not None
    if path.startswith(_SCHEME):
        if not named:
            raise InputError(f"{path!r}: expected hf://user/name")
        return name
    is_file = os.path.exists(path) or Path(path).suffix in _FILES
    return name if named and not is_file else None


def fetched(name: str) -> Path:
    """The folder with the model of that name on the hub, from its cache if it is there.

    Raises:
        CheckpointError: there is no such model, no way to the hub, or the model is of another
            kind; or huggingface_hub is not installed.
    """
    snapshot = _package(name).snapshot_download

    def download(patterns: list[str]) -> Path:
        return Path(snapshot(name, allow_patterns=patterns, ignore_patterns=_OTHERS))

    folder = _asked(name, lambda: download(_SETTINGS))
    wanted = [MODEL_FILE]
    if (folder / INDEX).is_file():  # a pipeline: only the weights of the parts that are needed
        wanted = [f"{part}/diffusion_pytorch_model*.safetensors*" for part in parts_of(folder)]
    return _asked(name, lambda: download([*_SETTINGS, *wanted]))


def uploaded(name: str, write: Callable[[Path], Any]) -> str:
    """Put a model of ours on the hub; the repository is made if there is none.

    Args:
        name: "user/name".
        write: writes the model to the path that it is given.

    Returns:
        The text by which `load_model` finds it, hf://user/name.

    Raises:
        CheckpointError: the hub cannot be reached, or does not let you in.
    """
    hub = _package(name)
    with TemporaryDirectory() as folder:
        file = Path(folder) / MODEL_FILE
        write(file)
        _asked(name, lambda: hub.create_repo(name, exist_ok=True))
        _asked(name, lambda: hub.upload_file(
            path_or_fileobj=file, path_in_repo=MODEL_FILE, repo_id=name
        ))  # fmt: skip
    return _SCHEME + name


def _package(name: str) -> Any:
    try:
        return optional_package("huggingface_hub", "huggingface")
    except InputError as error:
        raise CheckpointError(
            f"{name}: no such file or folder; to look for it on the Hugging Face hub: {error}"
        ) from error


def _asked(name: str, ask: Callable[[], Any]) -> Any:
    """The hub's answer; the errors of its package, which are of many kinds, in our words."""
    try:
        return ask()
    except Exception as error:
        raise CheckpointError(
            f"{name}: no such file or folder, and the Hugging Face hub did not answer as it "
            f"should ({type(error).__name__}: {str(error).strip()[:300]}). Check the name, the "
            "network, and `hf auth login` for what is not public"
        ) from error
