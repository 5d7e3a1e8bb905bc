"""Any data set of torchvision that pairs images with something, by its name."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor
from torchvision import datasets

from diffsde.data.named_sets import DATASETS, cache_folder
from diffsde.data.pictures import Sides, as_tensor, stacked
from diffsde.data.samples import Contents, as_labels
from diffsde.errors import DataError, InputError

__all__ = ["VisionSet", "find_set", "read_set", "set_names"]

_TRAIN = ("train", "trainval", "train-standard")
_TEST = ("test", "val", "valid")
_LIST = "https://docs.pytorch.org/vision/stable/datasets.html"


class VisionSet(NamedTuple):
    """A data set of torchvision.

    Attributes:
        cls: its class.
        split: the name of the part to read, if it was given.
    """

    cls: type[Any]
    split: str | None


def find_set(name: str) -> VisionSet | None:
    """The set of this name: that of its class in letters of any size, with or without hyphens.

    A split of its own may follow a colon, as in "emnist:letters".
    """
    first, _, split = name.partition(":")
    cls = _sets().get(_plain(first))
    return None if cls is None else VisionSet(cls, split or None)


def set_names() -> list[str]:
    """The names of all sets."""
    return sorted(_sets())


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


@functools.cache
def _sets() -> dict[str, type[Any]]:
    """The classes with parts for training and for tests, by their plain names."""
    found = {}
    for name in datasets.__all__:
        cls = getattr(datasets, name)
        parameters = _parameters(cls) if _is_other(cls) else set()
        if "root" in parameters and parameters & {"train", "split"}:
            found[_plain(name)] = cls
    return found


def _is_other(cls: Any) -> bool:
    return inspect.isclass(cls) and cls not in DATASETS.values()


def _parameters(cls: type[Any]) -> set[str]:
    """What the constructor takes, and what it hands on to those it inherits from."""
    every = (inspect.signature(base).parameters for base in cls.__mro__[:-1] if _is_own(base))
    return {name for parameters in every for name in parameters}


def _is_own(base: type[Any]) -> bool:
    return "__init__" in vars(base)


def read_set(
    found: VisionSet, root: str | os.PathLike[str] | None, train: bool, sides: Sides | None
) -> Contents:
    """Read images and, where they are whole numbers, labels; downloaded if there is a network.

    Raises:
        DataError: the files are missing or damaged, or it does not hold one image an entry.
        InputError: it has no such split.
    """
    folder = Path(root) if root is not None else cache_folder()
    entries = _opened(found, folder, train)
    labels: list[Any] = []
    contents = stacked(found.cls.__name__, _pictures(found.cls.__name__, entries, labels, sides))
    if not all(_is_whole(label) for label in labels):
        return contents
    names = getattr(entries, "classes", ())
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return contents._replace(
        labels=as_labels([int(label) for label in labels]),
        class_names=tuple(names) if named else (),
    )


def _pictures(
    name: str, entries: Any, labels: list[Any], sides: Sides | None
) -> Iterator[tuple[str, Tensor]]:
    """What to call each picture, and its pixels; labels are added to the list on the way."""
    for index in range(len(entries)):
        entry = entries[index]
        if not (isinstance(entry, tuple) and entry and isinstance(entry[0], Image.Image)):
            raise DataError(
                f"{name}: entry {index} is {type(entry).__name__}, not an image and its label: "
                "choose a data set of images"
            )
        labels.append(entry[1] if len(entry) == 2 else None)
        yield f"{name}, image {index}", as_tensor(entry[0], sides)


def _is_whole(label: Any) -> bool:
    return hasattr(label, "__index__") and not isinstance(label, bool)


def _opened(found: VisionSet, folder: Path, train: bool) -> Any:
    """The data set of the wanted part."""
    parameters, cls = _parameters(found.cls), found.cls
    settings: dict[str, Any] = {"download": True} if "download" in parameters else {}
    if "train" in parameters:
        settings["train"] = train
    splits = _splits(found, parameters, train)
    for i, split in enumerate(splits):
        part = {} if split is None else {"split": split}
        try:
            return cls(str(folder), **settings, **part)
        except Exception as error:
            # Which splits there are is known to the constructor alone.
            if not (isinstance(error, ValueError) and "Unknown value" in str(error)):
                raise _missing(cls, folder, error) from error
            if i + 1 == len(splits):
                raise InputError(
                    f"{cls.__name__} has no part {' or '.join(map(str, splits))}: {error} Name "
                    "one of them after a colon, as in emnist:letters"
                ) from error
    raise AssertionError("unreachable")


def _splits(found: VisionSet, parameters: set[str], train: bool) -> tuple[str | None, ...]:
    if "split" not in parameters:
        if found.split is not None:
            raise InputError(f"{found.cls.__name__} has no splits: leave :{found.split} out")
        return (None,)
    if found.split is not None:
        return (found.split,)
    return _TRAIN if train else _TEST


def _missing(cls: type[Any], folder: Path, error: Exception) -> DataError:
    addresses = [
        value
        for base in cls.__mro__
        for value in vars(base).values()
        if isinstance(value, str) and value.startswith("http")
    ]
    return DataError(
        f"{cls.__name__}: not in {folder}, or damaged, and torchvision could not download it "
        f"({type(error).__name__}: {error}). Connect to a network, or put its files there"
        f"{''.join(f', from {address}' for address in addresses[:1])}, as {_LIST} says"
    )
