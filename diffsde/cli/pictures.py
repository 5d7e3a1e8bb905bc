r"""The files that `sample` writes: images, trajectories, a film, a plot of paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffsde
from diffsde.cli.solving import Solved
from diffsde.errors import InputError
from diffsde.system.files import written_whole

__all__ = ["Pictures", "check_page", "image_shape"]

_SLIDE = (6.4, 3.6)  # inches: 16:9, so small that letters of 10 points are large on it
_SLIDE_DPI = 300
_GIF_FPS = 50


@dataclass(frozen=True)
class Pictures:
    """What to write, and how it looks.

    Attributes:
        folder: for all files.
        film: the file of the film, if there is one.
        paths: whether to plot the paths.
        zoom: pixels of a picture for each pixel of an image; by default whatever fits.
        fps: the film's frames per second; by default the film chooses.
        dark: light letters on a dark background.
        decode: from a model's latents to images; None where its states are images.
    """

    folder: Path
    film: Path | None
    paths: bool
    zoom: int | None
    fps: float | None
    dark: bool
    decode: Any

    @classmethod
    def checked(
        cls,
        folder: Path,
        model: diffsde.ScoreModel,
        *,
        film: str | None,
        fps: float | None,
        paths: bool,
        size: int | None,
        dark: bool,
    ) -> Pictures:
        """The pictures that options ask for, of a model's images, if they can be made here."""
        file = None if film is None else folder / f"samples.{'apng' if film == 'png' else film}"
        if fps is not None:
            _check_fps(fps, film)
        if file is not None:
            from diffsde.views.movies import check_movie

            check_movie(file, fps or _GIF_FPS)
        zoom = None if size is None else _zoom(size, image_shape(model))
        return cls(folder, file, paths, zoom, fps, dark, model.decoder)

    def write(self, solved: Solved, written: list[Path]) -> None:
        """Write the files, and add each to `written`: the trajectories first."""
        from diffsde.views.last_states import plot_last_states

        if not solved.runs:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {"samples": solved.sols[0]}
        if len(solved.runs) > 1:
            names = {f"samples-{run.name}": run.sol for run in solved.runs}
        for name, sol in names.items():
            written.append(sol.save(self.folder / f"{name}.safetensors"))
        for name, sol in names.items():
            path = self.folder / f"{name}.png"
            plot_last_states(sol, path, zoom=self.zoom, dark=self.dark, decode=self.decode)
            written.append(path)
        self._write_views(solved.sols, written)

    def _write_views(self, sols: list[diffsde.Trajectory], written: list[Path]) -> None:
        if self.paths:
            path = self.folder / "paths.png"
            _plot_slide(sols, path, self.dark)
            written.append(path)
        if self.film is not None:
            speed: dict[str, Any] = {} if self.fps is None else {"fps": self.fps}
            shown = sols if len(sols) > 1 else sols[0]
            look: dict[str, Any] = {"zoom": self.zoom, "dark": self.dark, "decode": self.decode}
            diffsde.animate(shown, self.film, **look, **speed)
            written.append(self.film)


def image_shape(model: diffsde.ScoreModel) -> tuple[int, ...]:
    """(C, H, W) of an image: what a model draws, or what its decoder makes of that."""
    return diffsde.views.image_shape(model.shape, model.decoder)


def check_page(n: int, shape: Sequence[int], runs: int, estimates: bool) -> None:
    """Refuse what does not fit on an explorer's page, by making one of a path without steps."""
    import torch

    from diffsde.views.explorer import explorer_page

    states = torch.zeros(2, n, *shape)
    times, estimated = torch.tensor([1.0, 0.0]), states if estimates else None
    blank = diffsde.Trajectory(times, states, "", shape=tuple(shape), denoised=estimated)
    explorer_page([blank] * runs)


def _check_fps(fps: float, film: str | None) -> None:
    if film is None:
        raise InputError(f"--fps {fps:g} is for a film: give --animate or --format too")
    if not (0 < fps < math.inf):
        raise InputError(f"--fps {fps:g}: expected frames per second, more than 0")


def _zoom(size: int, shape: Sequence[int]) -> int:
    if len(shape) != 3:
        raise InputError(f"--size {size}: the model draws samples of shape {shape}, not images")
    side = max(shape[-2:])
    if size < side:
        raise InputError(f"--size {size}: expected {side} or more, the side of the model's images")
    return size // side


def _plot_slide(sols: list[diffsde.Trajectory], path: Path, dark: bool) -> None:
    figure = diffsde.plot_paths(sols, dark=dark)
    figure.set_size_inches(_SLIDE)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=_SLIDE_DPI)
