"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffsde.errors import FileError, InputError

__all__ = ["check_file", "check_folder", "check_target", "remove_leftovers", "written_whole"]

_UNFINISHED = "unfinished"
_LONGEST = 160  # bytes of a name that are repeated in that of its hidden folder


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of a temporary file that becomes `path` if the block succeeds.

    The temporary file has the suffix of `path`, lies in a hidden folder beside it, and is flushed
    to the disk before it is renamed; a reader sees the old file or the new one, never a part. If
    the block fails, the temporary file is removed and `path` is left alone. A symbolic link stays
    one, and what it points to is written.

    Raises:
        InputError: `path` is a folder or a device.
        FileError: it cannot be written, for whatever reason the system gives.
    """
    target = check_target(path)
    try:
        with _replaced(target) as temporary:
            yield temporary
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            f"{path}: it cannot be written ({error.strerror or error}). Whatever had this name "
            "before is as it was. Free some space, allow writing there, or give another path"
        ) from error


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """The name of a file in a hidden folder beside the target, which takes its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder, because a writer such as safetensors may have temporary files of its own.
    folder = Path(tempfile.mkdtemp(prefix=_prefix(target.name), dir=target.parent))
    # A short name, because such files have longer ones, and names end at 255 bytes.
    temporary = folder / f"file{target.suffix}"
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


def check_target(path: str | os.PathLike[str]) -> Path:
    """Where a file will be written: the path itself, or what it points to if it is a link.

    Raises:
        InputError: a folder is in the way, or something else that is no file; or there can be no
            file of that name.
    """
    _check_name(path, str(path))
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path}: a folder is in the way; give a file, such as {target}/NAME")
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: not a file but a device or a pipe; give another path")
    return target


def check_folder(path: str | os.PathLike[str], name: str) -> Path:
    """The folder, once it has been seen that files can be written to it; nothing is created.

    Args:
        path: the folder, which need not exist.
        name: what the caller calls it, for the error.

    Raises:
        InputError: a file is in the way, or nothing can be written there.
    """
    folder = Path(path)
    _check_name(folder, f"{name} = {folder}")
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
    _check_name(file, f"{name} = {file}")
    if file.is_dir():
        raise InputError(
            f"{name} = {file}: a folder is in the way; give a file, such as {file}/NAME"
        )
    if not file.parent.is_dir():
        raise InputError(f"{name} = {file}: no folder {file.parent}; make it first")
    _check_writable(file, file.parent, name)
    return file


def _check_name(path: str | os.PathLike[str], said: str) -> None:
    """Refuse what can name no file: too long, a circle of links, in a folder that is closed."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{said:.300}: no file can have this name ({why})") from error


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
    for folder in target.parent.glob(f"{_prefix(target.name)}*"):
        shutil.rmtree(folder)


def _prefix(name: str) -> str:
    """How the hidden folder of a file begins; its whole name would be longer than names may be."""
    short = name.encode()[:_LONGEST].decode(errors="ignore")
    return f".{short}.{_UNFINISHED}-"


def _flush(path: Path) -> None:
    """Flush a file, or a folder, so that a new name in it survives a loss of power."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
