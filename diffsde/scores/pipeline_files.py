r"""The files of a diffusers pipeline, read without trust.

A pipeline's folder holds `model_index.json`, which names its parts, and a folder for each part
with its settings as JSON and its weights. Only parts of known classes are built, from settings
within bounds, and weights are read from safetensors alone, since a pickle can run code.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from diffsde.errors import CheckpointError

__all__ = ["AUTOENCODERS", "INDEX", "NETWORKS", "WEIGHTS", "check_weights", "parts_of", "settings"]

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
NETWORKS = ("UNet2DModel", "DiTTransformer2DModel", "Transformer2DModel")
AUTOENCODERS = ("AutoencoderKL", "VQModel")

_LARGEST_FILE = 4_000_000  # bytes of JSON; the index of a thousand classes has 40 thousand
_LARGEST_TEXT = 200
_LONGEST_LIST = 64
_LARGEST = {"layers_per_block": 64, "num_layers": 256, "sample_size": 8192}
_LARGEST_NUMBER = 1 << 20  # of any other
_MAY_BE_INFINITE = {"lambda_min_clipped"}


def parts_of(folder: Path) -> dict[str, str]:
    """The parts of a pipeline that are needed to draw: the name of each, with its class.

    Returns:
        A network, a scheduler, and an autoencoder where the pipeline has one, each by its name
        in the folder.

    Raises:
        CheckpointError: this is no pipeline, or one of another kind.
    """
    index = _read(folder / INDEX)
    classes = {
        name: entry[1]
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    }
    networks = [name for name, kind in classes.items() if kind in NETWORKS]
    if len(networks) != 1 or not classes.get("scheduler", "").endswith("Scheduler"):
        found = ", ".join(f"{name}: {kind}" for name, kind in classes.items()) or "nothing"
        raise CheckpointError(
            f"{folder}: a pipeline of {found:.300}. Expected one {' or '.join(NETWORKS[:2])} and a "
            "scheduler. A network that is told something else, such as a text, can be wrapped in "
            "a function (sample, timestep): from_diffusers(function, scheduler, shape=…)"
        )
    wanted = {networks[0], "scheduler"}
    return {n: k for n, k in classes.items() if n in wanted or k in AUTOENCODERS}


def settings(folder: Path, name: str, kind: str) -> dict[str, Any]:
    """The settings of one part, each within bounds.

    Raises:
        CheckpointError: the file is missing or damaged, is that of another class, or a setting
            is out of bounds.
    """
    path = folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
    found = _read(path)
    if found.get("_class_name", kind) != kind:
        raise CheckpointError(
            f"{path}: settings of {found['_class_name']!r:.60}, but {INDEX} names {kind}"
        )
    kept = {key: value for key, value in found.items() if not key.startswith("_")}
    for key, value in kept.items():
        if not _within_bounds(key, value):
            raise CheckpointError(
                f"{path}: {key} = {value!r:.80}: expected a text, a finite number, at most "
                f"{_LARGEST.get(key, _LARGEST_NUMBER)}, or a list of at most {_LONGEST_LIST}"
            )
    return kept


def _within_bounds(key: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        return len(value) <= _LARGEST_TEXT
    if isinstance(value, (int, float)):
        largest = _LARGEST.get(key, _LARGEST_NUMBER)
        return abs(value) <= largest or (key in _MAY_BE_INFINITE and not math.isnan(value))
    longest = _LARGEST_NUMBER if key == "trained_betas" else _LONGEST_LIST
    return (
        isinstance(value, list)
        and len(value) <= longest
        and all(not isinstance(v, list) and _within_bounds(key, v) for v in value)
    )


def check_weights(folder: Path) -> int:
    """Check that the weights of a part are safetensors.

    Returns:
        How many bytes they have.

    Raises:
        CheckpointError: they are pickles, or there are none.
    """
    files = sorted(path.name for path in folder.glob("*") if path.is_file())
    if WEIGHTS in files or f"{WEIGHTS}.index.json" in files:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    pickles = [name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickles:
        raise CheckpointError(
            f"{folder}: its weights are pickled, {', '.join(pickles):.100}, and a pickle can run "
            "code when it is read. If you trust it, write it anew once: DiffusionPipeline"
            ".from_pretrained(folder, use_safetensors=False).save_pretrained(another)"
        )
    raise CheckpointError(
        f"{folder}: no {WEIGHTS}, only {', '.join(files) or 'nothing':.200}: is the pipeline whole?"
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON object from a file that may hold anything."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a pipeline of diffusers has it")
    if path.stat().st_size > _LARGEST_FILE:
        raise CheckpointError(f"{path}: {path.stat().st_size:,} bytes are too many for settings")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    # Too many digits raise a ValueError, and too many brackets a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: a {type(found).__name__}, expected an object")
    return found
