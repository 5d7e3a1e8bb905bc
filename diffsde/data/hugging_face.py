"""A data set of images from the Hugging Face hub, by the package `datasets`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from PIL import Image
from torch import Tensor

from diffsde.data.pictures import Sides, as_tensor, stacked
from diffsde.data.samples import Contents, as_labels
from diffsde.errors import DataError
from diffsde.system.packages import optional_package

__all__ = ["PREFIX", "read_hub"]

PREFIX = "hf:"

_TRAIN, _TEST = ("train",), ("test", "validation")


def read_hub(
    name: str, root: str | os.PathLike[str] | None, train: bool, sides: Sides | None
) -> Contents:
    """Read the first column of images, and the first of class labels.

    Args:
        name: "hf:OWNER/NAME", or "hf:OWNER/NAME:CONFIGURATION".
        root: the folder where `datasets` keeps what it downloads; its own if left out.
        train: training images, or those for tests or validation.
        sides: crop and resize each image.

    Raises:
        InputError: `datasets` is not installed.
        DataError: the data set cannot be read, or has no images.
    """
    rows = _opened(name, root, train)
    image, label = (_column(rows, kind) for kind in ("Image", "ClassLabel"))
    if image is None:
        raise DataError(f"{name}: no column of images among {', '.join(rows.column_names)}")
    rows = rows.select_columns([image] if label is None else [image, label])
    labels: list[int | None] = []
    found = stacked(name, _pictures(name, rows, image, label, labels, sides))
    known = [value for value in labels if value is not None and value >= 0]
    if label is None or len(known) < len(labels):
        return found
    return found._replace(labels=as_labels(known), class_names=tuple(rows.features[label].names))


def _pictures(
    name: str,
    rows: Any,
    image: str,
    label: str | None,
    labels: list[int | None],
    sides: Sides | None,
) -> Iterator[tuple[str, Tensor]]:
    """What to call each picture, and its pixels; labels are added to the list on the way."""
    for index, row in enumerate(rows):
        if not isinstance(row[image], Image.Image):
            raise DataError(f"{name}: row {index} has no image in column {image}")
        labels.append(None if label is None else row[label])
        yield f"{name}, image {index}", as_tensor(row[image], sides)


def _column(rows: Any, kind: str) -> str | None:
    """The first column of that kind of `datasets`' features."""
    kinds = {column: type(feature).__name__ for column, feature in rows.features.items()}
    return next((column for column, found in kinds.items() if found == kind), None)


def _opened(name: str, root: str | os.PathLike[str] | None, train: bool) -> Any:
    package = optional_package("datasets", "huggingface")
    where, _, configuration = name.removeprefix(PREFIX).partition(":")
    cache = None if root is None else os.fspath(root)
    try:
        parts = package.load_dataset(where, configuration or None, cache_dir=cache)
    # Without a network, or for an unknown name, it raises errors of many kinds.
    except Exception as error:
        raise DataError(
            f"{name}: Hugging Face's datasets could not read it ({type(error).__name__}: {error}). "
            "Check the name, as in hf:OWNER/NAME or hf:OWNER/NAME:CONFIGURATION, and the network"
        ) from error
    for part in _TRAIN if train else _TEST:
        if part in parts:
            return parts[part]
    raise DataError(f"{name}: no part {' or '.join(_TRAIN if train else _TEST)} in {list(parts)}")
