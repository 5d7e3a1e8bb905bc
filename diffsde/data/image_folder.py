"""A folder of image files: which files are read, and which classes they belong to."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from diffsde.data.image_files import SUFFIXES, read_image
from diffsde.data.pictures import Sides, stacked
from diffsde.data.samples import Contents, as_labels
from diffsde.errors import DataError

__all__ = ["read_folder"]

_TRAIN = "train"
_TEST = ("test", "val", "valid", "validation")
_STRAY = {"thumbs.db", "desktop.ini"}


def read_folder(root: str | os.PathLike[str], train: bool, sides: Sides | None) -> Contents:
    """Read all images in a folder and below it.

    Images whose sub-folders are called train, and test, val, valid or validation, are parts of
    the set: one of them is read. Otherwise, if all images lie in sub-folders, each of these is a
    class. Hidden files are skipped, and a warning says so.

    Raises:
        DataError: there are no images, or one is damaged or of another size than the first.
    """
    folder = Path(root).expanduser()
    paths = _image_files(folder)
    part = _part_of(folder, paths, train)
    paths = [path for path in paths if part in path.parents]
    # Each is resized at once: a folder of photographs would not fit in memory.
    found = stacked(folder.name, ((str(path), read_image(path, sides)) for path in paths))
    return _labelled(found, [path.relative_to(part).parts for path in paths])


def _image_files(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of images")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hidden = {path for path in files if _is_hidden(path.relative_to(folder))}
    shown = [path for path in files if path not in hidden]
    paths = [path for path in shown if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise DataError(
            f"{folder}: no images found (looked for {', '.join(sorted(SUFFIXES))} "
            "in this folder and those below)"
        )
    others = [path for path in shown if path.suffix.lower() not in SUFFIXES]
    _say_skipped(folder, sorted(hidden), others)
    return paths


def _is_hidden(path: Path) -> bool:
    """Whether this is what a system or an editor left behind."""
    stray = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return stray or path.name.lower() in _STRAY


def _say_skipped(folder: Path, hidden: Sequence[Path], others: Sequence[Path]) -> None:
    words = []
    if hidden:
        words.append(f"{len(hidden)} hidden ({', '.join(path.name for path in hidden[:3])})")
    if others:
        kinds = Counter(path.suffix or "no suffix" for path in others).most_common(3)
        words.append(f"{len(others)} of other kinds ({', '.join(kind for kind, _ in kinds)})")
    if words:
        warnings.warn(f"{folder}: skipped files, {' and '.join(words)}", stacklevel=2)


def _part_of(folder: Path, paths: Sequence[Path], train: bool) -> Path:
    """The sub-folder of the wanted part; the folder itself if it is not divided into parts."""
    tops = {path.relative_to(folder).parts[0] for path in paths}
    if _TRAIN not in tops or not tops <= {_TRAIN, *_TEST}:
        return folder
    wanted = [name for name in ((_TRAIN,) if train else _TEST) if name in tops]
    if not wanted:
        raise DataError(f"{folder}: only training images; put test images in {folder / _TEST[0]}")
    return folder / wanted[0]


def _labelled(found: Contents, parts: Sequence[tuple[str, ...]]) -> Contents:
    """With each first sub-folder as a class, if every image lies in one."""
    if any(len(names) == 1 for names in parts):
        return found
    classes = sorted({names[0] for names in parts})
    number = {name: label for label, name in enumerate(classes)}
    labels = as_labels([number[names[0]] for names in parts])
    return found._replace(labels=labels, class_names=tuple(classes))
