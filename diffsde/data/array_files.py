r"""Arrays in NumPy's files: images, points or signals.

An ``.npy`` file holds the samples, an ``.npz`` file samples and perhaps labels, by these names:

| array   | names                                                                  |
|---------|------------------------------------------------------------------------|
| samples | images, image, x, data, samples, arr_0; points; signals                |
| labels  | labels, label, y, targets, target; whole numbers from 0, one a sample  |

Each name may be combined with train, and test or val, as in ``x_train`` and ``test_labels``.

What an array means follows from its type and shape:

| dtype  | shape                         | is                                     |
|--------|-------------------------------|----------------------------------------|
| uint8  | (N, H, W)                     | grey images                            |
| uint8  | (N, H, W, C) or (N, C, H, W)  | images, C = 1 or 3                     |
| floats | (N, D)                        | points                                 |
| floats | (N, C, L), named signals      | signals                                |

All else is refused: floats may be images of any range, and two axes of length 3 may both be
colours.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy
import torch
from numpy.lib import format as npy
from torch import Tensor

from diffsde.data.samples import Contents
from diffsde.errors import DataError

__all__ = ["SUFFIXES", "read_array_file"]

SUFFIXES = (".npy", ".npz")

_SAMPLES = {"images", "image", "x", "data", "samples", "arr_0", "points", "signals"}
_LABELS = {"labels", "label", "y", "targets", "target"}
_TRAIN, _TEST = ("train",), ("test", "val", "valid")
_COLOURS = (1, 3)
_LONGEST_HEADER = 2**14  # bytes
_MOST_PACKED = 1100  # deflate makes no more bytes of one

_Array = numpy.ndarray[Any, Any]


def read_array_file(path: str | os.PathLike[str], train: bool) -> Contents:
    """Read the samples and labels of an ``.npy`` or ``.npz`` file.

    Raises:
        DataError: the file is missing or damaged, or its arrays are none that this module names.
    """
    where = Path(path)
    if not where.is_file():
        raise DataError(f"{where}: no such file")
    try:
        arrays = _read_npy(where) if where.suffix == ".npy" else _read_npz(where)
    except DataError:
        raise
    # Of a damaged file NumPy and zipfile raise errors of many kinds.
    except Exception as error:
        raise DataError(
            f"{where}: not a readable {where.suffix} file ({type(error).__name__}: {error}); "
            "write it again with numpy.save or numpy.savez"
        ) from error
    name, labels_name = _chosen(where, arrays, train)
    samples = _as_samples(where, name, arrays[name])
    if labels_name is None:
        return Contents(where.stem, samples)
    return Contents(where.stem, samples, _as_labels(where, labels_name, arrays, len(samples)))


# -- bytes -> arrays ------------------------------------------------------------------


def _read_npy(path: Path) -> dict[str, _Array]:
    with path.open("rb") as file:
        return {"data": _read_array(file, path.stat().st_size)}


def _read_npz(path: Path) -> dict[str, _Array]:
    arrays, length = {}, path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > _MOST_PACKED * min(info.compress_size, length) + 1000:
                raise ValueError(f"{info.filename} claims {info.file_size} bytes")
            with archive.open(info) as file:
                name = info.filename.removesuffix(".npy")
                arrays[name] = _read_array(file, info.file_size)
    return arrays


def _read_array(file: IO[bytes], length: int) -> _Array:
    """Read an array, once its header is known to agree with the number of bytes there are."""
    # A damaged header may itself claim to be 4 GB long: no more than this is read of it.
    head = io.BytesIO(file.read(_LONGEST_HEADER))
    version = npy.read_magic(head)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(head)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could be code")
    found = length - head.tell()
    expected = math.prod(shape) * dtype.itemsize
    if found != expected or min(shape, default=1) < 0:
        raise ValueError(f"its header asks for {expected} bytes, but there are {found}")
    contents = bytearray(head.read())
    contents += file.read(expected - len(contents))
    values = numpy.frombuffer(contents, dtype)
    return values.reshape(shape, order="F" if by_columns else "C")


# -- which array is which ---------------------------------------------------------------


def _chosen(path: Path, arrays: Mapping[str, _Array], train: bool) -> tuple[str, str | None]:
    """The names of the samples and of the labels."""
    samples = _of_part(arrays, _SAMPLES, train)
    labels = _of_part(arrays, _LABELS, train)
    if len(samples) != 1 or len(labels) > 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise DataError(
            f"{path}: arrays {found}: expected one of samples, such as images, points or signals, "
            f"and at most one of labels{'' if train else ', to test with'}; name them so, as in "
            "numpy.savez(path, images=x, labels=y)"
        )
    return samples[0], labels[0] if labels else None


def _of_part(arrays: Mapping[str, _Array], names: set[str], train: bool) -> list[str]:
    """The arrays with these names of the wanted part; of the whole, where there are no parts."""
    for part in (_TRAIN if train else _TEST) + ("",):
        found = [name for name in arrays if _part_and_name(name) in {(part, n) for n in names}]
        if found:
            return found
    return []


def _part_and_name(name: str) -> tuple[str, str]:
    """("train", "images") of train_images, x_train and the like; ("", "images") of images."""
    words = name.lower()
    for part in (*_TRAIN, *_TEST):
        match = re.fullmatch(rf"{part}_(\w+)|(\w+)_{part}", words)
        if match:
            return part, match[1] or match[2]
    return "", words


# -- what an array means ----------------------------------------------------------------


def _as_samples(path: Path, name: str, array: _Array) -> Tensor:
    role = _part_and_name(name)[1]
    if array.dtype == numpy.uint8:
        return torch.from_numpy(_as_images(path, array))
    if array.dtype.kind == "f" and (array.ndim, role) in ((2, role), (3, "signals")):
        return torch.from_numpy(array.astype(numpy.float32))
    raise DataError(f"{path}: {_described(array)}: {_refusal(array)}")


def _refusal(array: _Array) -> str:
    """What this is not, and what to do."""
    if array.dtype.kind == "f":
        kinds = "images are uint8"
        fix = "255 * x" if _within_one(array) else "255 * (x - low) / (high - low)"
        if array.ndim == 3:
            kinds = "images are uint8, and signals are in an .npz file under that name"
            also = ", or numpy.savez(path, signals=x)"
        else:
            kinds, also = "images are uint8, and points have two axes", ""
        return f"{kinds}; save ({fix}).round().astype('uint8'){also}"
    if array.dtype.kind in "iub":
        return "images are uint8, 0 to 255; save x.astype('uint8') if that is its range"
    return "expected numbers: uint8 for images, floats for points and signals"


def _within_one(array: _Array) -> bool:
    return bool(array.size and array.min() >= 0 and array.max() <= 1)


def _as_images(path: Path, array: _Array) -> _Array:
    """uint8 (N, C, H, W)."""
    first, last = (array.ndim == 4 and array.shape[axis] in _COLOURS for axis in (1, 3))
    if array.ndim == 3 and array.shape[-1] not in _COLOURS:
        return numpy.ascontiguousarray(array[:, None])
    if last and not first:
        return numpy.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if first and not last:
        return numpy.ascontiguousarray(array)
    raise DataError(
        f"{path}: {_described(array)}: expected images (N, H, W), (N, H, W, C) or (N, C, H, W), "
        "where one axis alone, the second or the last, is 1 or 3 channels; reshape it, or build "
        "diffsde.data.ImageData yourself"
    )


def _as_labels(path: Path, name: str, arrays: Mapping[str, _Array], count: int) -> Tensor:
    labels = arrays[name]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    good = labels.dtype.kind in "iu" and labels.shape == (count,)
    if not good or labels.min(initial=0) < 0:
        raise DataError(
            f"{path}: {name} {_described(arrays[name])}: expected {count} whole numbers from 0, "
            "one for each sample"
        )
    return torch.from_numpy(labels.astype(numpy.int64))


def _described(array: _Array) -> str:
    return f"{array.dtype} of shape {array.shape}"
