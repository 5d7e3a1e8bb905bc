"""Data to learn from: `load_images` and `load_data` read a whole data set into memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from diffsde.data.samples import ArrayData, Contents, Samples
from diffsde.errors import DataError, InputError, name_list
from diffsde.system.parameters import finest_dtype

__all__ = ["LEVELS", "ImageData", "Size", "as_data", "load_data", "load_images", "within_levels"]

LEVELS = 256  # of an 8-bit image

Size = int | str | tuple[int, int]  # of images: a side, "HxW", or (H, W)
_Root = str | os.PathLike[str] | None


def within_levels(images: Tensor, share: Tensor) -> Tensor:
    """Turn images k / 255 in [0, 1] into (k + u) / 256.

    Args:
        images: of any shape, in 256 levels.
        share: u, where each pixel lies within its level, in [0, 1); of the same shape.
    """
    return ((LEVELS - 1) * images + share) / LEVELS


@dataclass(frozen=True)
class ImageData(Samples):
    """A data set of 8-bit images in memory.

    Attributes:
        name: the name of the data set.
        images: uint8, shape (N, C, H, W), 0 to 255.
        labels: int64, shape (N,), or None if the images have no labels.
        class_names: the names of labels 0, 1, …, where they are known.

    Raises:
        InputError: `images` or `labels` have another form.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()

    data_range = (0.0, 1.0)  # what `batch` makes of 0 and 255

    def __post_init__(self) -> None:
        self._check(
            self.images.dtype == torch.uint8 and self.images.ndim == 4,
            "uint8 of shape (images, channels, height, width), 0 to 255",
        )

    @property
    def samples(self) -> Tensor:
        """The images."""
        return self.images

    def mean(self) -> Tensor:
        """The mean image, float32 in [0, 1], of shape (C, H, W)."""
        total = self.images.sum(0, dtype=finest_dtype(self.images.device))
        return (total / (255 * len(self.images))).float()

    def batch(self, index: Tensor) -> Tensor:
        """The images with these indices, float32 in [0, 1], shape (len(index), C, H, W)."""
        return self.images[index].float() / 255


def load_images(
    dataset: str | os.PathLike[str] = "mnist",
    root: _Root = None,
    *,
    train: bool = True,
    size: Size | None = None,
) -> ImageData:
    """Read a data set of images.

        load_images("fashion-mnist")
        load_images("photos/", size=64)
        load_images("cifar10", train=False)

    Args:
        dataset: one of

            - a name from `DATASETS`;
            - the path of a folder of image files. If all images lie in sub-folders, each of
              these is a class, and classes are numbered in the order of their names;
            - the path of an ``.npy`` or ``.npz`` file (`diffsde.data.array_files`);
            - the name of a torchvision data set, such as "cifar10" or "svhn";
            - "hf:NAME", a data set of the Hugging Face hub (needs the extra `huggingface`);
            - "folder", for the folder `root`.

            A name comes before a path: write "./mnist" for a folder of that name.
        root: for a named set, the folder where its library keeps it, which is filled from the
            network if need be. If left out, a cache folder is used, and MNIST comes from the
            files that ship with the package.
        train: training or test images. A folder or a file that is not divided into parts by
            the names of its sub-folders or arrays gives all of its images either way.
        size: crop the centre and resize it: a side, "HxW" or (height, width); if left out,
            images keep their size.

    Raises:
        DataError: a file is missing, truncated, damaged or of another size.
        InputError: no data set has that name, or it does not hold images.
    """
    data = load_data(dataset, root, train=train, size=size)
    if not isinstance(data, ImageData):
        raise InputError(
            f"{data.name} holds samples of shape {data.shape}, not images: read it with "
            "diffsde.data.load_data"
        )
    return data


def load_data(
    dataset: str | os.PathLike[str] = "mnist",
    root: _Root = None,
    *,
    train: bool = True,
    size: Size | None = None,
) -> ImageData | ArrayData:
    """Read a data set of images, or the points or signals of an ``.npy`` or ``.npz`` file.

    Arguments and errors are those of `load_images`.
    """
    # Loaded here, since torchvision takes longer to load than all the rest.
    from diffsde.data.pictures import checked_size, to_size

    sides = None if size is None else checked_size(size)
    found = _reader(dataset, root)(train, sides)
    if found.samples.dtype != torch.uint8:
        if sides is not None:
            raise InputError(f"size = {size}: {found.name} holds numbers, not images; leave it out")
        return ArrayData(found.name, found.samples, found.labels)
    images = found.samples
    if sides is not None and tuple(images.shape[-2:]) != sides:
        images = to_size(images, sides)
    return ImageData(found.name, images, found.labels, found.class_names)


_Reader = Callable[[bool, tuple[int, int] | None], Contents]  # (train, sides) -> what it found


def _reader(dataset: str | os.PathLike[str], root: _Root) -> _Reader:
    """What reads this data set."""
    from diffsde.data.hugging_face import PREFIX, read_hub
    from diffsde.data.image_folder import read_folder
    from diffsde.data.named_sets import DATASETS, read_named
    from diffsde.data.torchvision_sets import find_set, read_set, set_names

    name = os.fspath(dataset)
    known = {key.replace("-", ""): key for key in DATASETS}
    if not _is_path(dataset) and (named := known.get(name.lower().replace("-", ""))):
        return lambda train, _: read_named(named, root, train)
    if name == "folder":
        return lambda train, sides: read_folder(_given(root), train, sides)
    if name.startswith(PREFIX):
        return lambda train, sides: read_hub(name, root, train, sides)
    if not _is_path(dataset) and (found := find_set(name)):
        return lambda train, sides: read_set(found, root, train, sides)
    if _is_path(dataset) or os.path.exists(name):
        return _file_reader(name, root)
    names = [*DATASETS, "folder", *set_names()]
    raise InputError(
        f"no data set {name!r}, nor a file or folder of that name: {name_list(name, names)}"
    )


def _file_reader(path: str, root: _Root) -> _Reader:
    from diffsde.data.array_files import SUFFIXES, read_array_file
    from diffsde.data.image_folder import read_folder

    if root is not None:
        raise InputError(f"dataset = {path!r} is a path itself: leave root out ({root})")
    path = os.path.expanduser(path)
    if path.endswith(SUFFIXES):
        return lambda train, _: read_array_file(path, train)
    if os.path.isfile(path):
        raise DataError(
            f"{path}: a file, but not one of {', '.join(SUFFIXES)}: give the folder of images"
        )
    return lambda train, sides: read_folder(path, train, sides)


def _is_path(dataset: str | os.PathLike[str]) -> bool:
    """Whether this can only be a path."""
    text = os.fspath(dataset)
    like = text.startswith((".", "~")) or text.endswith((".npy", ".npz"))
    return not isinstance(dataset, str) or like or "/" in text or os.sep in text


def _given(root: _Root) -> str | os.PathLike[str]:
    if root is None:
        raise InputError("dataset='folder' needs root, the folder of images (--data FOLDER)")
    return root


def as_data(data: Any) -> Samples:
    """A data set as it is, or a tensor or array as one.

    Args:
        data: an `ImageData` or `ArrayData`; images, uint8 (N, C, H, W); points, floats (N, D);
            or signals, floats (N, C, L).

    Raises:
        InputError: it is none of these.
    """
    if isinstance(data, Samples):
        return data
    if isinstance(data, numpy.ndarray) and data.dtype.kind in "fiu":
        data = torch.from_numpy(numpy.ascontiguousarray(data))
    if not isinstance(data, Tensor):
        raise InputError(
            f"data is {type(data).__name__} {data!r:.60}: expected a data set, such as "
            'load_images("mnist"), or a tensor of samples'
        )
    if data.is_floating_point() and data.ndim in (2, 3):
        return ArrayData("points" if data.ndim == 2 else "signals", data)
    if data.is_floating_point() and data.ndim == 4:
        raise InputError(
            f"floats of shape {tuple(data.shape)}: give images as uint8, 0 to 255, such as "
            "(255 * x).round().to(torch.uint8) of values in [0, 1]; or give ArrayData(name, x, "
            "data_range=(low, high)), to learn the numbers themselves"
        )
    return ImageData("images", data)
