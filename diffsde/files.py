"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_leftovers", "written_whole"]


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of a temporary file that becomes `path` if the block succeeds.

    The temporary file lies beside `path`, has its suffix, and is flushed to the
    disk before it is renamed; a reader sees the old file or the new one, never a
    part. If the block fails, the temporary file is removed and `path` is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed within `written_whole(path)` left beside `path`.

    The path's name may be a pattern, as `glob` takes it. None of those files may be written
    by another process at the time.
    """
    target = Path(path)
    for temporary in target.parent.glob(f".{target.stem}.{'[0-9a-f]' * 32}{target.suffix}"):
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a folder, without which a new name may not survive a loss of power."""
    if os.name == "nt":  # where a folder cannot be opened, and renames are flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
