"""Images to learn from: MNIST, which ships with the package, its relatives, and folders.

A data set is read whole, as one uint8 tensor, by `load_images`; the shipped IDX
files are unpacked once into a cache folder, from which torchvision reads them.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from diffsde.errors import DataError, InputError, name_list

__all__ = ["DATASETS", "LEVELS", "ImageData", "cache_folder", "load_images", "within_levels"]

DATASETS = {
    "mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
}
# MD5 sums of the unpacked files: how a file was packed does not matter.
_SHIPPED = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LEVELS = 256  # of an image of 8 bits
_MOST_PIXELS = 2**26  # of one image file: a small file may claim to be enormous
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def within_levels(images: Tensor, share: Tensor) -> Tensor:
    """Images k / 255 in [0, 1] as (k + u) / 256, u the share of each pixel's level, in [0, 1)."""
    return ((LEVELS - 1) * images + share) / LEVELS


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: of the data set.
        images: uint8, shape (N, C, H, W), 0 to 255.
        labels: int64, shape (N,), or None where the images have none.
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
        """Images of those indices, float32 in [0, 1], shape (len(index), C, H, W)."""
        return self.images[index].float() / 255

    def known_labels(self) -> Tensor:
        """The labels, or an InputError if there are none."""
        if self.labels is None:
            raise InputError(f"{self.name} has no labels: take images that have, such as mnist")
        return self.labels

    def check_classes(self, classes: int) -> None:
        """An InputError if there are no labels, or one is not among that many classes."""
        found = int(self.known_labels().max()) + 1
        if found > classes:
            raise InputError(
                f"{self.name} has {found} classes, and the network is told of {classes}: set "
                "classes to as many, or take other images"
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
            keeps it, which is filled from the network if need be. Left out, a cache
            folder is used, and MNIST comes from the files that ship with the package.
        train: training or test images (a folder has no test images).
        size: crop the central square and resize it to this side; as they are if left out.

    Raises:
        DataError: a file is missing, truncated, damaged or of another size.
        InputError: no data set has that name.
    """
    if dataset == "folder":
        data = _read_folder(root, size)
    elif dataset in DATASETS:
        data = _read_named(dataset, root, train)
    else:
        raise InputError(f"no data set {dataset!r}: {name_list(dataset, [*DATASETS, 'folder'])}")
    if size is None or data.images.shape[-2:] == (size, size):
        return data
    return ImageData(data.name, _to_size(data.images, size), data.labels)


def cache_folder() -> Path:
    """Where unpacked data sets are kept: $DIFFSDE_CACHE, or diffsde in the user's cache folder."""
    if "DIFFSDE_CACHE" in os.environ:
        return Path(os.environ["DIFFSDE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffsde"


def _read_named(name: str, root: str | os.PathLike[str] | None, train: bool) -> ImageData:
    cls = DATASETS[name]
    folder = Path(root) if root is not None else cache_folder()
    raw = folder / cls.__name__ / "raw"
    stems = [Path(file).stem for file, _ in cls.resources]
    if name == "mnist" and root is None and not raw.exists():
        _unpack_shipped(folder)
    if not all((raw / stem).exists() for stem in stems):
        _download(cls, folder, [raw / stem for stem in stems])
    for images, labels in zip(stems[::2], stems[1::2], strict=True):
        _check_pair(raw / images, raw / labels, len(cls.classes))
    found = cls(folder, train=train)
    return ImageData(name, found.data[:, None], found.targets)


def _unpack_shipped(folder: Path) -> None:
    """Fill the cache with the shipped MNIST; it appears there whole or not at all."""
    shipped = Path(str(resources.files("diffsde.data"))) / "mnist"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        raw = Path(name) / "raw"
        raw.mkdir()
        for stem, md5 in _SHIPPED.items():
            _unpack(shipped / f"{stem}.gz", raw / stem, md5)
        home = folder / "MNIST"
        home.mkdir(exist_ok=True)
        try:
            raw.rename(home / "raw")
        except OSError:
            # Another process may have filled the cache meanwhile; then its files serve.
            if not (home / "raw").exists():
                raise


def _unpack(packed: Path, target: Path, md5: str) -> None:
    try:
        with gzip.open(packed) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        whole = check_integrity(target, md5)
    except (OSError, EOFError, zlib.error):
        whole = False
    if not whole:
        raise DataError(
            f"{packed}: missing or damaged (the MD5 sum of its contents is not {md5}). This "
            "file ships with diffsde: install the package again"
        )


def _download(cls: type[datasets.MNIST], folder: Path, files: Sequence[Path]) -> None:
    missing = [str(file) for file in files if not file.exists()]
    try:
        cls(folder, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{', '.join(missing)}: missing, and torchvision could not bring it: {error}. Put "
            f"the {cls.__name__} files (IDX, unpacked or gzip) there, or connect to a network"
        ) from error


def _check_pair(images: Path, labels: Path, classes: int) -> None:
    """Compare two IDX files with their headers, each other, and what torchvision takes them for."""
    lengths = _check_idx(images, 3)
    (count,) = _check_idx(labels, 1)
    if lengths[0] != count or 0 in lengths:
        raise DataError(
            f"{images}: {lengths[0]} images of {lengths[1]}×{lengths[2]} pixels, but {labels.name} "
            f"has {count} labels; expected one for each image. Remove the folder {images.parent} "
            "and it will be filled again"
        )
    largest = max(labels.read_bytes()[-count:])
    if largest >= classes:
        raise DataError(
            f"{labels}: a label {largest}, expected 0 to {classes - 1}; the file is damaged. "
            f"Remove the folder {labels.parent} and it will be filled again"
        )


def _check_idx(path: Path, axes: int) -> tuple[int, ...]:
    """The lengths in the header of an IDX file of bytes, which must be those of the file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, 8, axes]):
        raise DataError(
            f"{path}: not an IDX file of bytes with {axes} axes; remove it and it will be made "
            "again"
        )
    lengths = struct.unpack(f">{axes}I", head[4:])
    expected = len(head) + math.prod(lengths)
    if found != expected:
        raise DataError(
            f"{path}: {found} bytes long, but its header asks for {expected}; the file is cut "
            f"short or damaged. Remove the folder {path.parent} and it will be filled again"
        )
    return lengths


def _read_folder(root: str | os.PathLike[str] | None, size: int | None) -> ImageData:
    if root is None:
        raise InputError("dataset='folder' needs root, the folder of images (--data FOLDER)")
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder}: no images found (looked for {', '.join(sorted(_SUFFIXES))} "
            "in this folder and those below)"
        )
    # Each is brought to its size at once: a folder of photographs would not fit in memory.
    images = [_read_image(path, size) for path in paths]
    channels = max(len(image) for image in images)
    images = [image.expand(channels, -1, -1) for image in images]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{path}: {image.shape[-1]}×{image.shape[-2]} pixels, but {paths[0].name} has "
                f"{images[0].shape[-1]}×{images[0].shape[-2]}; give a size (--size 32) to bring "
                "all images to one"
            )
    return ImageData(folder.name, torch.stack(images), None)


def _read_image(path: Path, size: int | None) -> Tensor:
    """uint8 of shape (1, H, W) for a grey image, (3, H, W) for any other."""
    try:
        with Image.open(path) as image:
            _check_image(path, image)
            pixels: Tensor = pil_to_tensor(
                image.convert("L" if image.mode in ("1", "L") else "RGB")
            )
    except DataError:
        raise
    # Pillow's many decoders let any exception out of a damaged file.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); repair or remove it"
        ) from error
    return pixels if size is None else _to_size(pixels, size)


def _check_image(path: Path, image: Image.Image) -> None:
    """Refuse, before its pixels are decoded, what is not one image of 8 bits and fair size."""
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(
            f"{path}: {image.width}×{image.height} pixels, more than the {_MOST_PIXELS:,} that "
            "are read; make it smaller or remove it"
        )
    if getattr(image, "is_animated", False):
        raise DataError(f"{path}: several images in one file; save one of them or remove it")
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: pixels of more than 8 bits (mode {image.mode}), which would be cut off at "
            "255; save it with 8 bits a channel"
        )


def _to_size(images: Tensor, size: int) -> Tensor:
    # Cropped first: resized first, a strip of 1 × 10⁷ pixels would grow beyond all memory.
    square = center_crop(images, [min(images.shape[-2:])] * 2)
    resized: Tensor = resize(square, [size, size], antialias=True)
    return resized
