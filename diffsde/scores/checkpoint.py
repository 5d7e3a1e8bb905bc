r"""Checkpoints: a model as one safetensors file.

The file holds the network's tensors and, if the prior has one (`SDE.centre`), the mean image
of the data. Its metadata describe how to rebuild the model, as JSON: the names and arguments
of network, SDE and preconditioning, and the shape of an image. Nothing is pickled, so a file
cannot contain code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE
from diffsde.equations.graphs import ordinary_mode
from diffsde.equations.named import SDES
from diffsde.equations.ranges import UNIT, checked_range
from diffsde.errors import CheckpointError, InputError, name_list
from diffsde.scores.hub import MODEL_FILE, fetched, hub_name, uploaded
from diffsde.scores.model import ScoreModel
from diffsde.scores.networks import NETWORKS, make_network
from diffsde.scores.pipeline_files import INDEX
from diffsde.scores.pipelines import load_pipeline
from diffsde.scores.preconditioning import PRECONDITIONINGS
from diffsde.scores.wrapped import plain_model
from diffsde.system.tensorfile import read_tensors, write_tensors

__all__ = [
    "PRETRAINED",
    "build_model",
    "describe_model",
    "load_model",
    "load_pretrained",
    "save_model",
]

PRETRAINED = {
    "mnist": "mnist.safetensors",
    "mnist-tutorial": "mnist-tutorial.safetensors",
    "mnist-likelihood": "mnist-likelihood.safetensors",
    "fashion-mnist": "fashion-mnist.safetensors",
}

_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_DATA_MEAN = "data_mean"
_PARTS: dict[str, Mapping[str, type]] = {
    "network": NETWORKS,
    "sde": SDES,
    "preconditioning": PRECONDITIONINGS,
}


def describe_model(model: ScoreModel) -> dict[str, Any]:
    """Everything but the weights that is needed to rebuild a model, in types that JSON can hold.

    Raises:
        InputError: the network, the SDE or the preconditioning is not in its registry,
            `NETWORKS`, `SDES` or `PRECONDITIONINGS`.
    """
    model = plain_model(model)
    return {
        "network": _name_and_args(model.network, NETWORKS, "diffsde.scores.NETWORKS"),
        "sde": _name_and_args(model.sde, SDES, "diffsde.equations.SDES"),
        "preconditioning": _name_and_args(
            model.preconditioning, PRECONDITIONINGS, "diffsde.scores.PRECONDITIONINGS"
        ),
        "shape": list(model.shape),
        **({} if model.data_range == UNIT else {"data_range": list(model.data_range)}),
    }


def _name_and_args(part: Any, registry: Mapping[str, type[Any]], where: str) -> dict[str, Any]:
    for name, cls in registry.items():
        if type(part) is cls:
            return {"name": name, "args": part.config()}
    raise InputError(
        f"{type(part).__name__} cannot be named in a checkpoint: add the class to {where} and "
        f"give it a config() that returns its arguments. Registered now: {', '.join(registry)}"
    )


def build_model(description: Any, weights: Mapping[str, Tensor]) -> ScoreModel:
    """The model that `describe_model` described, with its network's tensors, of float32.

    The input is not trusted: the description is checked before anything is built from it, and
    memory is allocated only after the tensors have been found to fit the network.

    Raises:
        ValueError, TypeError: the description is not that of a model, or the tensors do not
            fit its network.
    """
    parts = _checked_description(description)
    network, sde = _empty_network(parts)
    _check_weights(network, weights)
    # Whatever torch's default dtype is at the time.
    network.float().to_empty(device="cpu").load_state_dict(weights)
    preconditioning = PRECONDITIONINGS[parts["preconditioning"]["name"]](
        **parts["preconditioning"]["args"]
    )
    return ScoreModel(network, sde, parts["shape"], preconditioning, parts["data_range"])


def _empty_network(parts: dict[str, Any]) -> tuple[nn.Module, SDE]:
    """The network of a checked description, without memory, and the SDE."""
    sde = SDES[parts["sde"]["name"]](**parts["sde"]["args"])
    with torch.device("meta"):
        return make_network(parts["network"]["name"], sde, **parts["network"]["args"]), sde


def save_model(model: ScoreModel, path: str | os.PathLike[str], **notes: Any) -> Path | str:
    """Write a model to a safetensors file; if this fails, no partial file is left.

    Args:
        model: its network, SDE and preconditioning must be in the registries `NETWORKS`, `SDES`
            and `PRECONDITIONINGS`. Wrappers such as `DataParallel` are left out, and adapters
            such as LoRA's are merged into the weights.
        path: the file; or "hf://user/name", which puts it on the Hugging Face hub (needs the extra
            `huggingface`, and `hf auth login` once).
        notes: anything JSON can hold, kept in the metadata, such as the training recipe.
    """
    if isinstance(path, str) and path.startswith("hf://"):
        name = str(hub_name(path))
        return uploaded(name, lambda file: save_model(model, file, **notes))
    model = plain_model(model)
    known = {} if model.data is None else {"data": model.data}
    description = {**describe_model(model), "notes": known | notes}
    tensors = model.network.state_dict()
    _check_can_be_read(description, tensors)
    if model.sde.data_mean is not None:
        tensors[_DATA_MEAN] = model.sde.data_mean
    return write_tensors(path, tensors, description)


def _check_can_be_read(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Check that `load_model` will find the tensors that it expects."""
    try:
        _check_weights(_empty_network(_checked_description(description))[0], tensors)
    except ValueError as error:
        raise InputError(
            f"the network cannot be saved, because it is not what its config() builds: {error}. "
            "If parts of it have adapters or are compiled, merge or unwrap them first"
        ) from error


@ordinary_mode()  # tensors made in inference mode could not be differentiated or trained
def load_model(path: str | os.PathLike[str]) -> ScoreModel:
    """Read a model that `save_model` wrote, or a pipeline of diffusers, in evaluation mode.

        model = load_model("run/model.safetensors")
        model = load_model("folder/of/a/pipeline")
        model = load_model("google/ddpm-cifar10-32")

    Args:
        path: a file; a folder that holds one, `model.safetensors`, such as that of a run; the
            folder of a pipeline of diffusers, with its `model_index.json` (needs the extra
            `interchange`); or the name of either on the Hugging Face hub (needs the extra
            `huggingface`). A pipeline has a network of images or latents, with or without
            classes, and weights in safetensors: see `from_diffusers`.

    Raises:
        CheckpointError: there is no such model, or it is damaged or of another kind.
    """
    name = hub_name(path)
    place = Path(path) if name is None else fetched(name)
    if os.path.isfile(place / INDEX):
        return load_pipeline(place)
    return _read_model(_model_file(place))


def _model_file(place: Path) -> Path:
    """The file of a model, in a folder or by itself."""
    if os.path.isdir(place):
        if os.path.isfile(place / MODEL_FILE):
            return place / MODEL_FILE
        files = ", ".join(sorted(path.name for path in place.iterdir())) or "nothing"
        raise CheckpointError(
            f"{place}: a folder with neither {INDEX}, as a pipeline of diffusers has, nor "
            f"{MODEL_FILE}, as a run has. It holds {files:.200}. A part of a pipeline, such as "
            "unet, is not enough: give the folder above it"
        )
    if place.suffix in _PICKLES and os.path.isfile(place):
        raise CheckpointError(
            f"{place}: a pickle by its name, which can run code when it is read, so diffsde loads "
            "none. If you trust it: network.load_state_dict(torch.load(path, weights_only=True)), "
            "then ScoreModel(network, sde, shape, preconditioning)"
        )
    return place


def _read_model(path: Path) -> ScoreModel:
    tensors, description = read_tensors(path)
    try:
        mean = tensors.pop(_DATA_MEAN, None)
        model = build_model(description, tensors)
        model.sde.centre(_checked_mean(mean, model.shape))
        model.data, model.held_out = _data_of(description)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a model of this diffsde: its metadata or tensors do not fit "
            f"({type(error).__name__}: {error}). Was it written by `save_model`?"
        ) from error
    return model.eval()


def _data_of(description: Any) -> tuple[str | None, int | None]:
    """The data set in a model's notes, and how many of its samples were held out.

    Of a mean of several runs, they are in the notes of the first.
    """
    notes = _object(description.get("notes"))
    runs = notes.get("mean_of")
    if isinstance(runs, list) and runs:
        notes = _object(runs[0])
    name: Any = notes.get("data")
    held_out: Any = _object(notes.get("recipe")).get("held_out")
    whole = isinstance(held_out, (int, float)) and float(held_out).is_integer()
    return name if isinstance(name, str) else None, int(held_out) if whole else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def load_pretrained(name: str = "mnist") -> ScoreModel:
    """Load a model that ships with the package; this needs no internet access."""
    if name not in PRETRAINED:
        raise InputError(f"no pretrained model {name!r}: {name_list(name, PRETRAINED)}")
    return load_model(_weights() / PRETRAINED[name])


def _weights() -> Path:
    return Path(str(resources.files("diffsde.scores"))) / "weights"


# -- the checks of a file's description, before anything is built from it -------------------

_LARGEST = {
    "in_channels": 64,
    "channels": 4096,
    "embed_dim": 8192,
    "features": 2**24,
    "width": 8192,
    "depth": 64,
    "blocks": 64,
    "classes": 65536,
    "waves": 65536,
    "fine_channels": 4096,
    "fine_blocks": 64,
}
_LARGEST_NUMBER = 1e12
_MAY_BE_ZERO = {"classes"}
_OLDER = {"preconditioning": {"name": "score", "args": {}}, "data_range": UNIT}


def _checked_description(description: Any) -> dict[str, Any]:
    """The description, with what older files take for granted."""
    if not isinstance(description, dict):
        raise ValueError(f"the description is a {type(description).__name__}, not an object")
    parts = {**_OLDER, **description}
    unknown = sorted(parts.keys() - {*_PARTS, *_OLDER, "shape", "notes"})
    if unknown:
        raise ValueError(f"unknown entries {unknown}")
    for what, registry in _PARTS.items():
        _check_part(what, parts.get(what), registry)
    shape = parts.get("shape")
    if not (isinstance(shape, list) and len(shape) <= 3 and all(_is_size(n, 8192) for n in shape)):
        raise ValueError(f"shape = {shape!r:.80}: expected up to three positive integers")
    parts["data_range"] = checked_range(parts["data_range"])
    return parts


def _check_part(what: str, part: Any, registry: Mapping[str, type]) -> None:
    if not isinstance(part, dict) or part.keys() != {"name", "args"}:
        raise ValueError(f"{what}: expected a name and args, got {part!r:.80}")
    if not isinstance(part["name"], str) or part["name"] not in registry:
        raise ValueError(f"no {what} {part['name']!r:.40}: {', '.join(registry)}")
    if not isinstance(part["args"], dict):
        raise ValueError(f"{what}: args is not an object")
    for name, value in part["args"].items():
        check = _check_sizes if name in _LARGEST else _check_number
        check(what, name, value)


def _check_sizes(what: str, name: str, value: Any) -> None:
    sizes = value if isinstance(value, list) else [value]
    least, largest = (0 if name in _MAY_BE_ZERO else 1), _LARGEST[name]
    if not (0 < len(sizes) <= 16 and all(_is_size(n, largest, least) for n in sizes)):
        raise ValueError(
            f"{what}: {name} = {value!r:.80}: expected integers from {least} to {largest}"
        )


def _check_number(what: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what}: {name} = {value!r:.80}: expected a number")
    if not abs(value) <= _LARGEST_NUMBER:
        raise ValueError(
            f"{what}: {name} = {value!r:.80}: expected a finite number, at most {_LARGEST_NUMBER:g}"
        )


def _is_size(value: Any, largest: int, least: int = 1) -> bool:
    return type(value) is int and least <= value <= largest


def _check_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"tensor {name} has shape {found.get(name)}, but this network's has shape "
                f"{expected.get(name)}"
            )
        if not weights[name].is_floating_point():
            raise ValueError(f"tensor {name} has {weights[name].dtype}, expected float32")


def _checked_mean(mean: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if mean is not None and (mean.shape != shape or not mean.is_floating_point()):
        raise ValueError(
            f"data_mean has shape {tuple(mean.shape)} and {mean.dtype}: expected {shape} and floats"
        )
    return mean
