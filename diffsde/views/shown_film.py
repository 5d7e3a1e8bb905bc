r"""Films in a notebook: what `animate` returns where no file is named."""

from __future__ import annotations

import base64
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec, Protocol, cast, overload

from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole

__all__ = ["ShownFilm", "shown_without_path"]

Given = ParamSpec("Given")
Paths = Trajectory | Sequence[Trajectory]
Target = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class ShownFilm:
    """A film that a notebook plays.

    Attributes:
        gif: the film, a GIF file.
    """

    gif: bytes
    _write: Callable[[Target], Path] = field(compare=False)

    def save(self, path: Target) -> Path:
        """Write the film; the suffix chooses the format, as in `animate`.

        Raises:
            InputError: the format is unknown, or PyAV is missing.
        """
        if Path(path).suffix.lower() != ".gif":
            return self._write(path)
        with written_whole(path) as temporary:
            temporary.write_bytes(self.gif)
        return Path(path)

    def __repr__(self) -> str:
        return f"ShownFilm({len(self.gif) / 1e6:.2g} MB; .save(path) writes it to a file)"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode("ascii")
        return f'<img alt="the film of a path" src="data:image/gif;base64,{data}">'


class Animate(Protocol[Given]):
    """A function that writes a film, or shows it where no file is named."""

    @overload
    def __call__(
        self, sol: Paths, path: None = None, *args: Given.args, **options: Given.kwargs
    ) -> ShownFilm: ...
    @overload
    def __call__(
        self, sol: Paths, path: Target, *args: Given.args, **options: Given.kwargs
    ) -> Path: ...


def shown_without_path(write: Callable[Concatenate[Paths, Target, Given], Path]) -> Animate[Given]:
    """Let a function that writes a film be called without a path: it then returns a GIF."""

    @functools.wraps(write)
    def animate(
        sol: Paths, path: Target | None = None, *args: Given.args, **options: Given.kwargs
    ) -> Path | ShownFilm:
        if path is not None:
            return write(sol, path, *args, **options)
        with TemporaryDirectory() as folder:
            gif = write(sol, Path(folder) / "film.gif", *args, **options).read_bytes()
        return ShownFilm(gif, lambda target: write(sol, target, *args, **options))

    shown: Any = animate
    shown.__signature__ = _path_is_optional(inspect.signature(write))
    return cast(Animate[Given], shown)


def _path_is_optional(signature: inspect.Signature) -> inspect.Signature:
    parameters = dict(signature.parameters)
    parameters["path"] = parameters["path"].replace(default=None)
    return signature.replace(parameters=list(parameters.values()))
