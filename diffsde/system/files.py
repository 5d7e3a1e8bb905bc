"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffsde.errors import InputError

__all__ = ["check_file", "check_folder", "remove_leftovers", "written_whole"]

_UNFINISHED = "unfinished"


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of a temporary file that becomes `path` if the block succeeds.

    The temporary file has the name of `path`, in a hidden folder beside it, and is flushed to
    the disk before it is renamed; a reader sees the old file or the new one, never a part. If
    the block fails, the temporary file is removed and `path` is left alone.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder, because a writer such as safetensors may have temporary files of its own.
    folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    temporary = folder / target.name
    try:
        usual = folder / "mode"
        usual.touch()
        yield temporary
        shutil.copymode(usual, temporary)  # some writers make files that only the owner can read
        _flush(temporary)
        temporary.replace(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(path: str | os.PathLike[str], name: str) -> Path:
    """The folder, once it has been seen that files can be written to it; nothing is created.

    Args:
        path: the folder, which need not exist.
        name: what the caller calls it, for the error.

    Raises:
        InputError: a file is in the way, or nothing can be written there.
    """
    folder = Path(path)
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(
            f"{name} = {folder}: a file is in the way, so diffsde cannot write there; give a folder"
        )
    _check_writable(folder, existing, name)
    return folder


def check_file(path: str | os.PathLike[str], name: str) -> Path:
    """The file, once it has been seen that it can be written; nothing is created.

    Args:
        path: the file, whose folder must exist.
        name: what the caller calls it, for the error.

    Raises:
        InputError: a folder is in the way, there is no folder for it, or it cannot be written.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(
            f"{name} = {file}: a folder is in the way; give a file, such as {file}/NAME"
        )
    if not file.parent.is_dir():
        raise InputError(f"{name} = {file}: no folder {file.parent}; make it first")
    _check_writable(file, file.parent, name)
    return file


def _check_writable(path: Path, folder: Path, name: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{name} = {path}: nothing can be written there, because diffsde cannot write in "
            f"{folder} ({error.strerror})"
        ) from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the files that processes killed within `written_whole(path)` left beside `path`.

    The last part of the path may be a `glob` pattern. No other process may be writing these
    files at the time.
    """
    target = Path(path)
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        shutil.rmtree(folder)


def _prefix(target: Path) -> str:
    return f".{target.name}.{_UNFINISHED}-"


def _flush(path: Path) -> None:
    """Flush a file, or a folder, so that a new name in it survives a loss of power."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
