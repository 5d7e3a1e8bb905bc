r"""Real images: those of a data set to score against, and those that a model learns from.

Scores compare generated images with the test images, and a floor compares training images with
them. Of a data set without test images, those stand for them that training holds out, its last.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

from diffsde.data.images import ImageData, load_images
from diffsde.data.named_sets import DATASETS
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.system.digest import digest
from diffsde.system.wrapped import unwrapped
from diffsde.training.recipes import Recipe
from diffsde.training.settled import held_out_of
from diffsde.views.decoding import image_shape

__all__ = ["Data", "RealImages", "data_of", "real_images"]


@dataclass(frozen=True)
class RealImages:
    """The two parts of a data set.

    Attributes:
        train: the images that models learn from.
        test: images of the same shape outside of them.
        divided: the data set has no test images, and `test` is its last part.
    """

    train: ImageData
    test: ImageData
    divided: bool = False

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape:
            raise InputError(
                f"{self.name}: training images of shape {self.train.shape} and test images of "
                f"shape {self.test.shape}; expected one shape"
            )

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.train.name

    @cached_property
    def training_digest(self) -> str:
        """16 hexadecimal digits of the training images and their labels."""
        return self.train.digest()

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of all images, and of the labels of those to train on."""
        return self.training_digest + digest([self.test.images])


Data: TypeAlias = "str | os.PathLike[str] | ImageData | Sequence[ImageData] | RealImages"


def real_images(
    data: Data,
    root: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    held_out: int | None = None,
) -> RealImages:
    """The training and the test images of a data set.

    Args:
        data: a data set as `load_images` takes it, such as "mnist"; an `ImageData`; or a pair of
            them, the training images and the test images.
        root, size: as for `load_images`, if `data` is a name.
        held_out: how many of the last images of a data set without test images stand for them; as
            many as `train` holds out, unless its recipe says otherwise, if left out.

    Raises:
        InputError: `data` is none of these, the two parts differ in the shape of an image, or
            nothing was held out.
        DataError: the data set is missing or damaged.
    """
    if isinstance(data, RealImages):
        return data
    if isinstance(data, (str, os.PathLike)):
        return _loaded(str(data), root, size, held_out)
    if isinstance(data, ImageData):
        return _divided(data, held_out)
    if isinstance(data, Sequence) and [type(part) for part in data] == [ImageData] * 2:
        return RealImages(*data)
    raise InputError(
        f"data = {data!r:.80}: expected the name of a data set, an ImageData, or a pair of them, "
        "the training images and the test images"
    )


def _loaded(
    name: str, root: str | os.PathLike[str] | None, size: int | None, held_out: int | None
) -> RealImages:
    train = load_images(name, root, size=size)
    test = load_images(name, root, train=False, size=size)
    if torch.equal(train.images, test.images):
        return _divided(train, held_out)
    return RealImages(train, test)


def _divided(data: ImageData, held_out: int | None) -> RealImages:
    count = len(data.images)
    last = held_out_of(Recipe.held_out, count) if held_out is None else held_out
    if not 0 < last < count:
        raise InputError(
            f"{data.name} has no test images, and of its {count} images {last} were held out in "
            "training: choose data with test images, or others as a pair of training and test "
            "images"
        )
    labels = (None, None) if data.labels is None else data.labels.split([count - last, last])
    parts = zip(data.images.split([count - last, last]), labels, strict=True)
    train, test = (ImageData(data.name, images, own) for images, own in parts)
    return RealImages(train, test, divided=True)


def data_of(
    model: ScoreModel,
    data: Data | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
) -> RealImages:
    """The data given, or else those that the model knows as its own, of its images' shape.

    Of data without test images, those stand for them that the model did not learn from.

    Args:
        model: a score of images.
        data, root, size: as for `real_images`; without data, the set that `model.data` names.

    Raises:
        InputError: the model's own data are not known, or are not a set that everyone knows by
            that name; or the model's images have another shape than those of the data.
    """
    model = unwrapped(model)
    known = _own_data(model) if data is None else data
    real = real_images(known, root, size=size, held_out=model.held_out)
    shape = image_shape(model.shape, model.decoder)
    if real.train.shape != shape:
        raise InputError(
            f"{real.name} has images of {_size(real.train.shape)}, but the model is of "
            f"{_size(shape)}: choose data of the model's shape"
        )
    return real


def _own_data(model: ScoreModel) -> str:
    if model.data in DATASETS:
        return model.data
    found = "what is not known" if model.data is None else f"{model.data!r}, which is no known set"
    raise InputError(
        f'this model was trained on {found}: give data=, such as data=load_images("PATH")'
    )


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
