r"""Animations: the path of a batch of images, signals or points as a film.

Every frame is assembled from arrays of palette indices and goes straight to the file; no
figure is drawn, and memory does not grow with the film's length. `film_layout` decides what
a film shows and where, `film_parts` draws the parts, and `movies` writes the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.colors import Colormap

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.decoding import Decode, decoded_all
from diffsde.views.display import Shading
from diffsde.views.film_layout import Film, Look
from diffsde.views.film_parts import SHADES
from diffsde.views.movies import check_movie, open_movie
from diffsde.views.pace import choose_pace
from diffsde.views.shown_film import shown_without_path

__all__ = ["animate"]


@shown_without_path
def animate(
    sol: Trajectory | Sequence[Trajectory],
    path: str | os.PathLike[str],
    fps: float | None = None,
    *,
    speed: float | None = None,
    duration: float | None = None,
    hold: float | None = None,
    ping_pong: bool = False,
    columns: int | None = None,
    zoom: int | None = None,
    title: bool = True,
    denoised: bool = True,
    histogram: bool = False,
    shading: Shading = "envelope",
    cmap: str | Colormap = "gray",
    dark: bool = False,
    decode: Decode | None = None,
) -> Path:
    """Write the whole path as a film: GIF, animated PNG, MP4 or WebM, depending on the suffix.

    Several trajectories are shown side by side. The one with the most saved times sets the
    clock; each of the others shows the state that it has reached by the same t. Trajectories
    solved from the same x and seed share their noise.

    By default the film lasts as long as one can watch. It shows 50 saved states per second; a
    short path is slowed until it fills 6 seconds, and a long one skips states so that it ends
    after 12. The last frame stays for 2 seconds more. `fps`, `speed` and `duration` change that:
    their product is the number of steps, so two of them settle the third.

    In a GIF of images with one channel, a pixel is redrawn only after it has changed by more
    than 3 % of the interval that the shades span, which cuts the file to a third of its size;
    the last state is exact. The other formats keep every change.

    Args:
        sol: a trajectory of images with one or three channels, of points (B, 2), or of signals
            (B, C, L), as which all other points (B, D) are shown; or a list of trajectories of
            one of these. Of signals, the first 16 are shown.
        path: a file ending in .gif, .png (or .apng), .mp4 or .webm; the last two need the
            extra `video`. Without it, the film is a GIF that a notebook plays.
        fps: frames per second; GIF players show at most 50. Alone, it shows every saved state
            for one frame.
        speed: saved states per frame: 2 skips every other one, 0.5 shows each one twice.
        duration: seconds from the first frame to the last, without the hold.
        hold: how many seconds the last frame stays; 2 by default.
        ping_pong: after the hold, play back to the start in the same time.
        columns: images or signals per row; by default up to six images form one row, more form a
            block, and several trajectories form blocks that fit side by side.
        zoom: screen pixels per image pixel; by default the grid is about 450 pixels across.
        title: show t, the noise's standard deviation s(t), and for each trajectory "SDE" or
            "flow", the solver's name and the number of score evaluations so far (NFE).
        denoised: also show `sol.denoised`, on the data's range, beside the states, if there is one.
        histogram: show a histogram of all pixels over the interval that the frame's shades
            span; the bars' heights are square roots of counts.
        shading: the values that the shades span: "envelope" for the data's range and 2 s(t)
            on either side, in which first the noise and finally the images fill the shades;
            "data" for that range alone; or (low, high). For points and signals, what the view
            spans: the data and 2.5 s(t) on all sides, the data alone, or the interval.
        cmap: the colours of images with one channel: a matplotlib colour map or its name.
        dark: light letters on a dark background.
        decode: for a trajectory of latents: from a batch of them to images, such as a pipeline's
            `model.decoder`; see `decoded`.

    Returns:
        The path of the file; without one a `ShownFilm`, whose `save(path)` writes it.

    Raises:
        InputError: the states are neither images nor signals nor points, the format or colour
            map is unknown, a number is out of range, `speed` and `duration` are both given,
            `zoom` or `histogram` are given for points or signals, `columns` for points, or PyAV
            is missing.
    """
    target = Path(path)
    check_movie(target, fps)
    sols = decoded_all(sol, decode)
    pace = choose_pace(
        max(map(len, sols)), fps=fps, speed=speed, duration=duration, hold=hold,
        ping_pong=ping_pong,
    )  # fmt: skip
    look = Look(columns, zoom, title, denoised, histogram, shading, _colour_map(cmap), dark)
    film = Film(sols, look)
    with open_movie(target, pace.fps, len(pace.shown), film.palette, SHADES, film.samples) as write:
        for index, ticks in pace.shown:
            write(film.draw(index), ticks, exact=index == film.length - 1)
    return target


def _colour_map(cmap: str | Colormap) -> Colormap:
    if not isinstance(cmap, str):
        return cmap
    if cmap not in matplotlib.colormaps:
        raise InputError(f"cmap = {cmap!r}: {name_list(cmap, matplotlib.colormaps)}")
    return matplotlib.colormaps[cmap]
