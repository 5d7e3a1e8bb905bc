"""MNIST, which ships with the package, and data sets in the same file format.

The shipped IDX files are unpacked once into a cache folder, from which torchvision reads them.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from diffsde.data.samples import Contents
from diffsde.errors import DataError
from diffsde.system.files import written_whole

__all__ = ["DATASETS", "cache_folder", "read_named"]

DATASETS = {
    "mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
}
_LARGEST = 2**27  # bytes of an unpacked file; that of the training images has 47 million
_OWN_CACHE = "set the environment variable DIFFSDE_CACHE to a folder that can be written to"
# MD5 sums of the unpacked files: it does not matter how a file was packed.
_SHIPPED = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def cache_folder() -> Path:
    """The folder of unpacked data sets: $DIFFSDE_CACHE, or diffsde in the user's cache folder.

    Raises:
        DataError: the user has no home folder, and no variable names another.
    """
    if own := os.environ.get("DIFFSDE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "diffsde"
    try:
        return Path.home() / ".cache" / "diffsde"
    except RuntimeError as error:
        raise DataError(
            f"no folder to keep data sets in, because this user has no home ({error}): {_OWN_CACHE}"
        ) from error


def read_named(name: str, root: str | os.PathLike[str] | None, train: bool) -> Contents:
    """Read the images, uint8 (N, 1, 28, 28), and labels of a set from `DATASETS`.

    Raises:
        DataError: a file is missing, truncated or damaged.
    """
    cls = DATASETS[name]
    shipped = name == "mnist" and root is None
    folder = Path(root) if root is not None else cache_folder()
    raw = folder / cls.__name__ / "raw"
    stems = [Path(file).stem for file, _ in cls.resources]
    missing = [path for stem in stems if not os.path.exists(path := raw / stem)]
    if missing and shipped:
        _unpack_shipped(raw)
    elif missing := [path for path in missing if not _unpacked_here(path)]:
        _download(cls, folder, missing)
    for images, labels in zip(stems[::2], stems[1::2], strict=True):
        _check_pair(raw / images, raw / labels, len(cls.classes))
    for stem in stems[:2] if train else stems[2:]:
        _check_sum(raw / stem, _SHIPPED[stem] if shipped else None)
    found = cls(folder, train=train)
    return Contents(name, found.data[:, None], found.targets, tuple(cls.classes))


def _unpack_shipped(raw: Path) -> None:
    """Unpack the shipped MNIST into the cache, each file whole or not at all.

    Several processes may do so at once: they write the same files.
    """
    shipped = Path(str(resources.files("diffsde.data"))) / "mnist"
    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw.parent) as name:
            for stem, md5 in _SHIPPED.items():
                _unpack(shipped / f"{stem}.gz", Path(name) / stem, md5)
            raw.mkdir(exist_ok=True)
            for stem in _SHIPPED:
                (Path(name) / stem).replace(raw / stem)
    except OSError as error:
        raise DataError(
            f"{raw}: MNIST cannot be unpacked there ({error.strerror or error}). Make room or "
            f"allow writing, or {_OWN_CACHE}"
        ) from error


def _unpack(packed: Path, target: Path, md5: str) -> None:
    """Unpack a shipped file; an OSError says that the target cannot be written."""
    try:
        with gzip.open(packed) as source:
            data = source.read()
    except (OSError, EOFError, zlib.error):
        data = b""
    whole = hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
    if not whole:
        raise DataError(
            f"{packed}: missing or damaged (the MD5 sum of its contents is not {md5}). This "
            "file ships with diffsde: reinstall the package"
        )
    target.write_bytes(data)


def _unpacked_here(path: Path) -> bool:
    """Unpack the packed file beside this one, whoever packed it; False if there is none.

    Raises:
        DataError: it is damaged, or no such file.
        FileError: the folder cannot be written to.
    """
    packed = _packed(path)
    if not packed.is_file():
        return False
    try:
        with gzip.open(packed) as source:
            data = source.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{packed}: not a whole gzip file ({error}); get it again") from error
    if len(data) > _LARGEST:
        raise DataError(
            f"{packed}: more than {_LARGEST:,} bytes, expected the IDX file {path.name}"
        )
    with written_whole(path) as temporary:
        temporary.write_bytes(data)
    return True


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _download(cls: type[datasets.MNIST], folder: Path, missing: Sequence[Path]) -> None:
    try:
        cls(folder, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{', '.join(map(str, missing))}: missing, and torchvision could not download it: "
            f"{error}. Put the {cls.__name__} files (IDX, unpacked or gzipped) there, or connect "
            "to a network"
        ) from error


def _check_sum(path: Path, md5: str | None) -> None:
    """Check the contents: against an MD5 sum, or the CRC at the end of the packed file beside it.

    Damage that keeps the size would otherwise be learned. This takes 0.1 s for MNIST.
    """
    packed = _packed(path)
    if md5 is not None:
        whole = check_integrity(path, md5)
    elif packed.is_file():
        whole = zlib.crc32(path.read_bytes()) == int.from_bytes(
            packed.read_bytes()[-8:-4], "little"
        )
    else:
        return
    if not whole:
        raise DataError(
            f"{path}: damaged, since its check sum is not that of the file it was unpacked from; "
            "remove it, and it will be made again"
        )


def _check_pair(images: Path, labels: Path, classes: int) -> None:
    """Check two IDX files against their headers, each other, and the number of classes."""
    lengths = _check_idx(images, 3)
    (count,) = _check_idx(labels, 1)
    if lengths[0] != count or 0 in lengths:
        raise DataError(
            f"{images}: {lengths[0]} images of {lengths[1]}×{lengths[2]} pixels, but {labels.name} "
            f"has {count} labels; expected one for each image. Remove the folder {images.parent}, "
            "and it will be filled again"
        )
    largest = max(labels.read_bytes()[-count:])
    if largest >= classes:
        raise DataError(
            f"{labels}: label {largest}, expected 0 to {classes - 1}; the file is damaged. "
            f"Remove the folder {labels.parent}, and it will be filled again"
        )


def _check_idx(path: Path, axes: int) -> tuple[int, ...]:
    """Read the lengths in the header of an IDX file of bytes, and compare them with its size."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, 8, axes]):
        raise DataError(
            f"{path}: not an IDX file of bytes with {axes} axes; remove it, and it will be replaced"
        )
    lengths = struct.unpack(f">{axes}I", head[4:])
    expected = len(head) + math.prod(lengths)
    if found != expected:
        raise DataError(
            f"{path}: {found} bytes long, but its header asks for {expected}; the file is cut "
            f"short or damaged. Remove the folder {path.parent}, and it will be filled again"
        )
    return lengths
