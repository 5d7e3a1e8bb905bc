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
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from diffsde.errors import DataError, InputError, name_list

__all__ = ["DATASETS", "ImageData", "cache_folder", "load_images"]

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
_MOST_PIXELS = 2**26  # of one image file: a small file may claim to be enormous
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


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
        size: resize the shorter side to this and crop the centre; as they are if left out.

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
    for stem in stems:
        _check_idx(raw / stem)
    found = cls(folder, train=train)
    return ImageData(name, found.data[:, None], found.targets)


def _unpack_shipped(folder: Path) -> None:
    """Fill the cache with the shipped MNIST; it appears there whole or not at all."""
    shipped = Path(str(resources.files("diffsde"))) / "assets" / "mnist"
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


def _check_idx(path: Path) -> None:
    """Compare an IDX file's length with its header, which says how many bytes follow."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        axes = head[3] if len(head) == 4 and head[:3] == b"\0\0\x08" else 0
        lengths = file.read(4 * axes)
    if not axes or len(lengths) < 4 * axes:
        raise DataError(f"{path}: not an IDX file of bytes; remove it and it will be made again")
    expected = 4 + 4 * axes + math.prod(struct.unpack(f">{axes}I", lengths))
    if found != expected:
        raise DataError(
            f"{path}: {found} bytes long, but its header asks for {expected}; the file is cut "
            f"short or damaged. Remove the folder {path.parent} and it will be filled again"
        )


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
    images = [_read_image(path) for path in paths]
    channels = max(len(image) for image in images)
    images = [image.expand(channels, -1, -1) for image in images]
    if size is not None:
        images = [_to_size(image, size) for image in images]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{path}: {image.shape[-1]}×{image.shape[-2]} pixels, but {paths[0].name} has "
                f"{images[0].shape[-1]}×{images[0].shape[-2]}; give a size (--size 32) to bring "
                "all images to one"
            )
    return ImageData(folder.name, torch.stack(images), None)


def _read_image(path: Path) -> Tensor:
    """uint8 of shape (1, H, W) for a grey image, (3, H, W) for any other."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    f"{path}: {image.width}×{image.height} pixels, more than the "
                    f"{_MOST_PIXELS:,} that are read; make it smaller or remove it"
                )
            pixels: Tensor = pil_to_tensor(
                image.convert("L" if image.mode in ("1", "L") else "RGB")
            )
            return pixels
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable image ({error}); repair or remove it") from error


def _to_size(images: Tensor, size: int) -> Tensor:
    cropped: Tensor = center_crop(resize(images, [size], antialias=True), [size, size])
    return cropped
