"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_leftovers", "written_whole"]

_UNFINISHED = "unfinished"


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of a temporary file that becomes `path` if the block succeeds.

    The temporary file has the name of `path` in a hidden folder beside it, and is flushed to
    the disk before it is renamed; a reader sees the old file or the new one, never a part. If
    the block fails, the temporary file is removed and `path` is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder, because a writer may have temporary files of its own, as safetensors does.
    folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    temporary = folder / target.name
    try:
        usual = folder / "mode"
        usual.touch()
        yield temporary
        shutil.copymode(usual, temporary)  # some writers let nobody else read what they write
        _flush(temporary)
        temporary.replace(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed within `written_whole(path)` left beside `path`.

    The path's name may be a pattern, as `glob` takes it. None of those files may be written
    by another process at the time.
    """
    target = Path(path)
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        shutil.rmtree(folder)


def _prefix(target: Path) -> str:
    return f".{target.name}.{_UNFINISHED}-"


def _flush(path: Path) -> None:
    """Flush a file, or a folder, without which a new name may not survive a loss of power."""
    if os.name == "nt" and path.is_dir():  # which cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
