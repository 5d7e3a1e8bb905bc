r"""Classifiers: a small one for each data set, whose last features are what images are compared by.

Two ship with the package. Those of other labelled data are trained when they are first needed, and
kept in the cache folder under a digest of the training images and their labels. So a classifier is
never taken for one of other data.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.data.images import ImageData
from diffsde.data.named_sets import cache_folder
from diffsde.errors import CheckpointError, InputError
from diffsde.evaluation.real import Data, RealImages, real_images
from diffsde.system.autocast import autocast, has_autocast
from diffsde.system.bars import load_tqdm
from diffsde.system.launch import agreed, process_number
from diffsde.system.tensorfile import read_tensors, write_tensors

__all__ = ["BATCH", "Classifier", "classifier_of", "load_classifier", "train_classifier"]

BATCH = 100  # images in one pass: more do not fit in the cache
_FEATURES = 64
_SIDE = 8  # the largest side of what the last layers look at
_UPDATES = 2400  # of a training, at least: four epochs of MNIST
_SHIPPED = {name: f"{name}-classifier.safetensors" for name in ("mnist", "fashion-mnist")}
_LARGEST = 65536  # side, channels or classes that a file may ask for


class Classifier(nn.Module):
    """A small classifier of images, of any size and number of channels.

    Convolutions halve the image twice, and again until no side is longer than 8.

    Args:
        shape: (C, H, W) of one image.
        classes: number of classes.
        data: the name of the data set.
    """

    def __init__(self, shape: Sequence[int], classes: int, data: str) -> None:
        super().__init__()
        self.shape, self.classes, self.data = tuple(shape), classes, data

        def level(c_in: int, c_out: int, stride: int) -> nn.Sequential:
            conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

        channels, *side = self.shape
        levels = [level(channels, 32, 1), level(32, 32, 2), level(32, 64, 1), level(64, 64, 2)]
        side = [math.ceil(n / 4) for n in side]
        while max(side) > _SIDE:
            levels.append(level(64, 64, 2))
            side = [math.ceil(n / 2) for n in side]
        self.body = nn.Sequential(*levels, nn.Flatten())
        self.feature = nn.Linear(64 * math.prod(side), _FEATURES)
        self.out = nn.Linear(_FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """The 64 numbers before the last layer, (B, 64) ≥ 0, of images (B, C, H, W) in [0, 1]."""
        features: Tensor = self.feature(self.body(2 * x - 1)).relu()
        return features

    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities of the classes, (B, classes), from features (B, 64)."""
        return self.out(features).softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.out(self.features(x))
        return logits


def train_classifier(
    data: Data,
    path: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> float | None:
    """Train a classifier on a data set, and write it to a file, rounded to 16 bits.

    Args:
        data: labelled images, as for `evaluate`.
        path: the file, which `load_classifier` reads.
        epochs: passes through the training images; by default four, or more if 2,400 updates of
            100 images take more.
        seed: seed of the first weights and of the order of the images.
        device: where it is trained. It learns in bfloat16 where torch has autocast.
        progress: show a progress bar.

    Returns:
        The share of test images that it is right about; None if they have no labels.

    Raises:
        InputError: the images have no labels, or all have the same.
    """
    real = real_images(data)
    model = _new_classifier(real.train, seed).to(device)
    _fit(model, real.train, epochs, seed, progress)
    accuracy = _accuracy(model, real.test)
    description = {
        "classifier": model.data,
        "digest": real.training_digest,
        "shape": list(model.shape),
        "classes": model.classes,
        "test_accuracy": accuracy,
    }
    write_tensors(path, model.half().state_dict(), description)
    return accuracy


def _new_classifier(data: ImageData, seed: int) -> Classifier:
    classes = int(data.known_labels().max()) + 1
    if classes < 2:
        raise InputError(f"{data.name} has one class only: a classifier needs two")
    # On the CPU, so that a seed has the same weights on every device.
    with torch.random.fork_rng(), torch.device("cpu"):
        torch.manual_seed(seed)
        return Classifier(data.shape, classes, data.name)


def _fit(model: Classifier, data: ImageData, epochs: int | None, seed: int, progress: bool) -> None:
    """Train a classifier; leave it in evaluation mode, with weights that 16 bits can hold."""
    labels, place = data.known_labels(), _place(model)
    count, numbers = len(data.images), torch.Generator().manual_seed(seed)
    each = math.ceil(len(data.images) / BATCH)
    epochs = epochs or max(4, math.ceil(_UPDATES / each))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * each)
    words = {"desc": f"classifier of {data.name}", "unit": "update"}
    with load_tqdm()(total=epochs * each, disable=not progress, **words) as bar:
        for _ in range(epochs):
            for index in torch.randperm(count, generator=numbers, device="cpu").split(BATCH):
                optimizer.zero_grad()
                with autocast(place, bfloat16=has_autocast(place)):
                    logits = model(data.batch(index).to(place))
                nn.functional.cross_entropy(logits.float(), labels[index].to(place)).backward()
                optimizer.step()
                schedule.step()
                bar.update()
    model.half().float().eval()


@torch.no_grad()
def _accuracy(model: Classifier, data: ImageData) -> float | None:
    if data.labels is None:
        return None
    place, parts = _place(model), torch.arange(len(data.images), device="cpu").split(BATCH)
    guesses = [model(data.batch(part).to(place)).argmax(1) for part in parts]
    return (torch.cat(guesses).cpu() == data.labels).float().mean().item()


def _place(model: Classifier) -> torch.device:
    return model.out.weight.device


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """Read a classifier that `train_classifier` wrote, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or not a classifier.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[Classifier, Any]:
    """A classifier, and the digest of what it was trained on."""
    tensors, found = read_tensors(path)
    try:
        with torch.device("meta"):
            model = Classifier(*_checked(found))
        model.load_state_dict(tensors, assign=True)
        digest = found["digest"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a classifier of this diffsde ({type(error).__name__}: {error}). Was it "
            "written by `train_classifier`?"
        ) from error
    return model.float().eval().requires_grad_(False), digest


def _checked(found: Any) -> tuple[list[int], int, str]:
    shape, classes = found["shape"], found["classes"]
    sizes = [*shape, classes]
    if len(shape) != 3 or not all(type(n) is int and 0 < n <= _LARGEST for n in sizes):
        raise ValueError(f"shape = {shape!r:.80}, classes = {classes!r:.80}")
    return shape, classes, str(found["classifier"])


def classifier_of(
    data: Data, *, device: torch.device | str = "cpu", progress: bool = True
) -> Classifier:
    """The classifier of a data set, in evaluation mode.

    That of MNIST's or of Fashion-MNIST's training images ships with the package. Any other is
    trained at the first call, which takes minutes, and kept in the cache folder.

    Args:
        data: labelled images, as for `evaluate`.
        device: where it is, and where it is trained.
        progress: show a progress bar while it is trained.

    Raises:
        InputError: the images have no labels, or all have the same.
    """
    real = real_images(data)
    real.train.known_labels()
    shipped = _shipped(real)
    if shipped is not None:
        return shipped.to(device)
    kept = _kept(real, device, progress) if process_number() == 0 else shipped
    found: Classifier = agreed(kept)  # type: ignore[assignment]
    return found.to(device)


def _shipped(real: RealImages) -> Classifier | None:
    file = _SHIPPED.get(real.name)
    if file is None:
        return None
    model, digest = _read(Path(str(resources.files("diffsde.evaluation"))) / file)
    return model if digest == real.training_digest else None


def _kept(real: RealImages, device: torch.device | str, progress: bool) -> Classifier:
    path = cache_folder() / "classifiers" / f"{real.training_digest}.safetensors"
    if not path.exists():
        train_classifier(real, path, device=device, progress=progress)
    return load_classifier(path)
