r"""Where output goes, checked before anything is computed: samples must not be lost to a typo."""

from __future__ import annotations

import tempfile
from pathlib import Path

from diffsde.errors import InputError

__all__ = ["check_file", "check_folder"]


def check_folder(path: Path) -> None:
    """Refuse a folder that is a file, or cannot be made or written to."""
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path}: a file is in the way; give a folder")
    _check_writable(path, next(p for p in (path, *path.absolute().parents) if p.exists()))


def check_file(path: Path) -> None:
    """Refuse a file that is a folder, has no folder to be in, or cannot be written."""
    if path.is_dir():
        raise InputError(f"--out {path}: a folder is in the way; give a file, such as {path}/NAME")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: no folder {path.parent}; make it first")
    _check_writable(path, path.parent)


def _check_writable(path: Path, folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--out {path}: cannot write in {folder} ({error.strerror})") from error
