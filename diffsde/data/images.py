"""Images to learn from: `load_images` reads a whole data set into one uint8 tensor."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.errors import InputError, name_list

__all__ = ["LEVELS", "ImageData", "load_images", "within_levels"]

LEVELS = 256  # of an 8-bit image


def within_levels(images: Tensor, share: Tensor) -> Tensor:
    """Turn images k / 255 in [0, 1] into (k + u) / 256.

    Args:
        images: of any shape, in 256 levels.
        share: u, where each pixel lies within its level, in [0, 1); of the same shape.
    """
    return ((LEVELS - 1) * images + share) / LEVELS


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: the name of the data set.
        images: uint8, shape (N, C, H, W), 0 to 255.
        labels: int64, shape (N,), or None if the images have no labels.
    """

    name: str
    images: Tensor
    labels: Tensor | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    def mean(self) -> Tensor:
        """The mean image, float32 in [0, 1], of shape (C, H, W)."""
        return (self.images.sum(0, dtype=torch.float64) / (255 * len(self.images))).float()

    def batch(self, index: Tensor) -> Tensor:
        """The images with these indices, float32 in [0, 1], shape (len(index), C, H, W)."""
        return self.images[index].float() / 255

    def known_labels(self) -> Tensor:
        """Return the labels.

        Raises:
            InputError: there are none.
        """
        if self.labels is None:
            raise InputError(f"{self.name} has no labels: choose data with labels, such as mnist")
        return self.labels

    def check_classes(self, classes: int) -> None:
        """Check that every label is one of that many classes.

        Raises:
            InputError: a label is not, or there are no labels.
        """
        found = int(self.known_labels().max()) + 1
        if found > classes:
            raise InputError(
                f"{self.name} has {found} classes, but the network knows {classes}: set "
                f"classes to {found}, or choose other images"
            )


def load_images(
    dataset: str = "mnist",
    root: str | os.PathLike[str] | None = None,
    *,
    train: bool = True,
    size: int | None = None,
) -> ImageData:
    """Read a data set.

    Args:
        dataset: a name from `DATASETS`, or "folder" for a folder of image files.
        root: the folder of images; or, for a named set, the folder where torchvision
            keeps it, which is filled from the network if need be. If left out, a cache
            folder is used, and MNIST comes from the files that ship with the package.
        train: training or test images (a folder has no test images).
        size: crop the central square and resize it to this side; if left out, images keep
            their size.

    Raises:
        DataError: a file is missing, truncated, damaged or of another size.
        InputError: no data set has that name.
    """
    # Loaded here, since torchvision takes longer to load than all the rest.
    from diffsde.data.image_folder import read_folder, to_size
    from diffsde.data.named_sets import DATASETS, read_named

    labels: Tensor | None = None
    if dataset == "folder":
        name, images = read_folder(root, size)
    elif dataset in DATASETS:
        name, (images, labels) = dataset, read_named(dataset, root, train)
    else:
        raise InputError(f"no data set {dataset!r}: {name_list(dataset, [*DATASETS, 'folder'])}")
    if size is not None and images.shape[-2:] != (size, size):
        images = to_size(images, size)
    return ImageData(name, images, labels)
