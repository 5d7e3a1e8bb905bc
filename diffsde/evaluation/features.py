r"""Features: what turns images into numbers that can be compared.

They come from a classifier of the data, from the Inception network of FID as it is usually quoted,
or from a function of your own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from diffsde.errors import InputError, name_list
from diffsde.evaluation.classifier import BATCH, Classifier, classifier_of
from diffsde.evaluation.real import RealImages
from diffsde.system.bars import load_tqdm
from diffsde.system.launch import divided, process_number, share
from diffsde.system.packages import optional_package
from diffsde.system.parameters import device_of

__all__ = ["NAMES", "Extractor", "Features", "features_of", "pick_extractor"]

Features: TypeAlias = "str | Classifier | Callable[[Tensor], Tensor] | None"

NAMES = ("classifier", "inception")
_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_FROM = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
_PATIENCE = 5  # seconds, after which a progress bar appears


@dataclass(frozen=True)
class Extractor:
    """What turns images into features.

    Attributes:
        name: what a table calls it.
        extract: from images (B, C, H, W), float32 in [0, 1] and on the CPU, to features (B, F).
        classify: from features (B, F) to probabilities of classes (B, K), where it knows any.
        key: what tells it from others; None if nothing does, as of a function.
    """

    name: str
    extract: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None
    key: str | None = None


def pick_extractor(
    features: Features,
    real: RealImages,
    progress: bool = False,
    device: torch.device | None = None,
) -> Extractor:
    """What `evaluate` compares images of this data by; see there.

    The network of a name computes on that device; a classifier of the caller's, where it is.

    Raises:
        InputError: there is no such thing, or not for this data.
    """
    if features is None or features == "classifier":
        model = _classifier_of(real, progress, device or torch.device("cpu"))
        return _by_classifier(model, real.training_digest)
    if features == "inception":
        return _by_inception(real, device)
    if isinstance(features, Classifier):
        _check_classifier(features, real)
        return _by_classifier(features, None)
    if callable(features):
        name = getattr(features, "__name__", type(features).__name__)
        return Extractor(name, features)
    raise InputError(
        f"features = {features!r:.80}: {name_list(str(features), NAMES)}, or give a function from "
        "images (B, C, H, W) in [0, 1] to features (B, F)"
    )


def _by_classifier(model: Classifier, key: str | None) -> Extractor:
    place = device_of(model)

    def extract(images: Tensor) -> Tensor:
        return model.features(images.to(place))

    def classify(features: Tensor) -> Tensor:
        return model.probabilities(features.to(place)).cpu()

    return Extractor("classifier", extract, classify, key)


def _classifier_of(real: RealImages, progress: bool, device: torch.device) -> Classifier:
    if real.train.labels is None:
        raise InputError(
            f"features = classifier: {real.name} has no labels to train a classifier on; choose "
            "inception, or give a function from images (B, C, H, W) in [0, 1] to features (B, F)"
        )
    return classifier_of(real, device=device, progress=progress)


def _check_classifier(model: Classifier, real: RealImages) -> None:
    if (model.data, model.shape) != (real.name, real.train.shape):
        raise InputError(
            f"features = a classifier of {model.data}, for images of shape {model.shape}: expected "
            f"one of {real.name}, for images of shape {real.train.shape}, as "
            "`train_classifier(data, path)` makes it"
        )


# -- Inception ------------------------------------------------------------------------


def _by_inception(real: RealImages, device: torch.device | None) -> Extractor:
    if real.train.shape[0] not in (1, 3):
        raise InputError(
            f"features = inception: {real.name} has images of {real.train.shape[0]} channels, "
            "expected 1 or 3"
        )
    network = _inception(_inception_weights()).to(device)
    place = device_of(network)

    def extract(images: Tensor) -> Tensor:
        levels = (255 * images).round().to(torch.uint8).to(place)
        features: Tensor = network(levels.expand(-1, 3, -1, -1))
        return features

    return Extractor("inception", extract, key="inception")


def _inception_weights() -> Path:
    """Where torch keeps the weights that torchmetrics takes, once they have been checked.

    Raises:
        InputError: the package that reads them is not installed, or the weights are not there,
            or they are others.
    """
    optional_package("torch_fidelity", "inception")
    path = Path(torch.hub.get_dir()) / "checkpoints" / _INCEPTION
    if not path.is_file():
        raise InputError(
            f"features = inception: {path} is missing, and is not downloaded unasked: put the "
            f"file from {_INCEPTION_FROM}{_INCEPTION} there (95 MB), or choose classifier"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(path.stem[-8:]):
        raise InputError(
            f"features = inception: {path} is damaged or another file (its SHA-256 begins with "
            f"{found[:8]}); replace it by {_INCEPTION_FROM}{_INCEPTION}"
        )
    return path


@cache  # one network, which is the same for all data
def _inception(weights: Path) -> nn.Module:
    fid: Any = optional_package("torchmetrics.image.fid", "metrics")
    network: nn.Module = fid.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    return network


# -- the features of many images ------------------------------------------------------


@torch.no_grad()
def features_of(
    images: Tensor, extractor: Extractor, shape: Sequence[int], progress: bool = False
) -> Tensor:
    """The features (N, F) of images (N, C, H, W), whose values are clamped to [0, 1].

    Raises:
        InputError: the images have another shape than `shape`, or are not finite; or the
            features are not finite floating-point numbers, F for each image.
    """
    _check_images(images, shape)
    chunks, widths = images.cpu().split(BATCH), set[int]()
    words = {"desc": f"{extractor.name} features", "unit": "batch", "leave": False}
    own, hidden = len(share(chunks)), not (progress and process_number() == 0)

    def extracted(chunk: Tensor) -> Tensor:
        found = extractor.extract(chunk.float().clamp(0, 1))
        _check_features(found, len(chunk), widths, extractor.name)
        bar.update()
        return found.cpu()

    with load_tqdm()(total=own, disable=hidden, delay=_PATIENCE, **words) as bar:
        whole = torch.cat(divided(chunks, extracted))
    return whole.to(torch.promote_types(whole.dtype, torch.float32))


def _check_images(images: Tensor, shape: Sequence[int]) -> None:
    if tuple(images.shape[1:]) != tuple(shape):
        raise InputError(
            f"images of shape {tuple(images.shape)}: expected (N, {', '.join(map(str, shape))}), "
            "like those of the data"
        )
    if not torch.isfinite(images).all():
        raise InputError("images with values that are not finite cannot be scored")


def _check_features(found: Any, count: int, widths: set[int], name: str) -> None:
    """Check a batch's features, and add their number to those of the batches before."""
    if not (isinstance(found, Tensor) and found.is_floating_point()):
        kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"features = {name} returned {kind}; expected floating-point numbers")
    widths.update(found.shape[1:])
    if found.dim() != 2 or len(found) != count or len(widths) != 1:
        raise InputError(
            f"features = {name} returned shape {tuple(found.shape)} for {count} images; expected "
            f"({count}, F), with the same F for all images"
        )
    if not torch.isfinite(found).all():
        raise InputError(f"features = {name} returned values that are not finite")
