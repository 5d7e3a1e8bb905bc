r"""Animations: the path of a batch of images, as a film.

Frames are put together from arrays of palette indices and go to the file one by one; no
figure is drawn, and memory does not grow with the length. A film shows, for each
trajectory, its solver and its cost so far, the states x(t), the estimates E[x(0) | x(t)]
where the trajectory has them, and, if asked for, the histogram of the pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import (
    Shading,
    as_images,
    default_columns,
    mosaic,
    reached,
    shade_limits,
    trajectories,
)
from diffsde.views.movies import Frame, check_movie, open_movie
from diffsde.views.style import Theme, theme

__all__ = ["animate"]

_SHADES = 64  # few enough for a small file, more than an eye tells apart in noise
_INKS = 12  # from paper to ink, for smooth letters
_GRID_SIDE, _FILM_WIDTH = 448, 960  # pixels that a default zoom does not exceed
_LARGEST_ZOOM = 8
_MARGIN = 8
_FONT_SIZE = 13
_BARS = 32


def animate(
    sol: Trajectory | Sequence[Trajectory],
    path: str | os.PathLike[str],
    fps: float = 50,
    *,
    speed: float = 1.0,
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
) -> Path:
    """Write the whole path as a film: GIF, animated PNG, MP4 or WebM, by the path's suffix.

    Several trajectories are shown side by side, each as far as it has got by the time t of
    the one with the most saved times. From the same x and seed, they share their noise.

    In a GIF of images with one channel, a pixel is drawn anew once it has changed by more than
    3 % of the interval that the shades span, which makes the file a third as large; the last
    state is exact. The other formats keep every change.

    Args:
        sol: a trajectory of images with one channel or three, or a list of them.
        path: .gif, .png (or .apng), .mp4 or .webm; the last two need the extra `video`.
        fps: frames a second; GIF players show at most 50.
        speed: saved states per frame: 2 leaves out every other one, 0.5 shows each twice.
        hold: seconds that the last frame stays; by default a quarter of the length.
        ping_pong: after the hold, play back to the start.
        columns: images in a row; by default up to six stand in one row, more in a block.
        zoom: screen pixels per image pixel; by default what fits about 450 across.
        title: write t, the noise's standard deviation s(t), and of each solver its name and
            its score evaluations so far (NFE).
        denoised: show `sol.denoised`, on [0, 1], beside the states, if it is there.
        histogram: show the histogram of all pixels, heights as square roots of counts, over
            the interval that the frame's shades span.
        shading: which values the shades span: "envelope", ½ ± (½ + 2 s(t)), so that noise
            fills them at first and images do at last; "data", [0, 1]; or (low, high).
        cmap: colours of images with one channel: a matplotlib map or its name.
        dark: light letters on dark ground.

    Returns:
        The path written.

    Raises:
        InputError: states that are no images, an unknown format or map, a number out of its
            range, or a missing PyAV.
    """
    target = Path(path)
    check_movie(target, fps)
    sols = trajectories(sol)
    base = max(sols, key=len)
    film = _Film(
        sols,
        base,
        _Look(columns, zoom, title, denoised, histogram, shading, dark),
        _colour_map(cmap),
    )
    timeline = _timeline(len(base), fps, speed, hold, ping_pong)
    with open_movie(target, fps, len(timeline), film.palette, _SHADES, film.samples) as write:
        for index, ticks in timeline:
            write(film.draw(index), ticks, exact=index == len(base) - 1)
    return target


def _timeline(
    length: int, fps: float, speed: float, hold: float | None, ping_pong: bool
) -> list[tuple[int, int]]:
    """Which saved state to show and for how many ticks of 1 / fps seconds, in order."""
    if not speed > 0 or not math.isfinite(speed):
        raise InputError(f"speed = {speed}: expected saved states per frame, more than 0")
    if hold is not None and not 0 <= hold < math.inf:
        raise InputError(f"hold = {hold}: expected seconds, 0 or more")
    last = length - 1
    shown = [math.floor(k * speed) for k in range(math.ceil(last / speed))]
    indices, counts = np.unique(np.array(shown, dtype=np.int64), return_counts=True)
    forward = [(int(i), int(n)) for i, n in zip(indices, counts, strict=True)]
    held = len(shown) // 4 if hold is None else round(hold * fps)
    back = forward[:0:-1] if ping_pong else []
    return [*forward, (last, max(1, held)), *back]


def _colour_map(cmap: str | Colormap) -> Colormap:
    if isinstance(cmap, str):
        if cmap not in matplotlib.colormaps:
            raise InputError(f"cmap = {cmap!r}: {name_list(cmap, matplotlib.colormaps)}")
        return matplotlib.colormaps[cmap]
    return cmap


@dataclass(frozen=True)
class _Look:
    """What `animate` was asked to show."""

    columns: int | None
    zoom: int | None
    title: bool
    denoised: bool
    histogram: bool
    shading: Shading
    dark: bool

    def __post_init__(self) -> None:
        for name in ("columns", "zoom"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and number > 0):
                raise InputError(f"{name} = {number}: expected a whole number, 1 or more")


class _Part(Protocol):
    """A rectangle of the film."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, the same in every frame."""
        ...

    def draw(self, k: int) -> Frame:
        """Its pixels in frame k."""
        ...


class _Film:
    """All that is shown, as one part in a margin."""

    def __init__(
        self, sols: list[Trajectory], base: Trajectory, look: _Look, cmap: Colormap
    ) -> None:
        images = [as_images(s.ys[0], s.shape) for s in sols]
        self.paint = _Paint(theme(look.dark), cmap, all(i.shape[1] == 1 for i in images))
        self.length = len(base)
        columns = look.columns or max(default_columns(len(i)) for i in images)
        grids = sum(1 + (look.denoised and s.denoised is not None) for s in sols)
        zoom = look.zoom or _default_zoom([i.shape for i in images], columns, grids)
        frames = range(len(base))
        blocks = [
            self._block(
                s, i, [reached(s.ts, float(base.ts[k])) for k in frames], look, columns, zoom
            )
            for i, s in enumerate(sols)
        ]
        parts: list[_Part] = [_side_by_side(blocks, self.paint)]
        if look.title:
            parts.insert(0, _Text([_moment(base, k) for k in frames], self.paint))
        self.whole = _Stack(parts, self.paint, down=True, gap=2, margin=_MARGIN)

    def _block(
        self, sol: Trajectory, number: int, at: list[int], look: _Look, columns: int, zoom: int
    ) -> _Part:
        """One trajectory: solver and cost, states, estimates, histogram."""
        limits = shade_limits(sol, look.shading)
        states: _Part = _Grid(sol, sol.ys, at, limits, self.paint, columns, zoom)
        parts: list[_Part] = [states]
        if look.denoised and sol.denoised is not None:
            data = shade_limits(sol, "data")
            guess = _Grid(sol, sol.denoised, at, data, self.paint, columns, zoom)
            parts = [self._titled(["x(t)"], states), self._titled(["E[x(0) | x(t)]"], guess)]
        block = _side_by_side(parts, self.paint)
        if look.histogram:
            bars = _Histogram(sol, at, limits, self.paint, block.size[0], number)
            block = _Stack([block, bars], self.paint, down=False)
        return self._titled([_cost(sol, k) for k in at], block) if look.title else block

    def _titled(self, lines: list[str], part: _Part) -> _Part:
        return _Stack([_Text(lines, self.paint), part], self.paint, down=True, gap=2)

    @property
    def palette(self) -> Frame | None:
        return self.paint.table if self.paint.indexed else None

    def draw(self, k: int) -> Frame:
        return self.whole.draw(k)

    def samples(self) -> list[Frame]:
        """A few frames, more of them late, where there is more to see than noise."""
        return [self.draw(int(f * (self.length - 1))) for f in (0.0, 0.5, 0.8, 0.95, 1.0)]


def _default_zoom(shapes: list[tuple[int, ...]], columns: int, grids: int) -> int:
    width = max(columns * w for _, _, _, w in shapes)
    height = max(-(-b // columns) * h for b, _, h, _ in shapes)
    abreast = 1 if _is_wide(height, width) else grids
    fits = min(_GRID_SIDE // max(height, width), _FILM_WIDTH // (width * abreast))
    return min(max(fits, 1), _LARGEST_ZOOM)


def _is_wide(height: int, width: int) -> bool:
    """Whether such parts, like rows of images, go one below the other, so that images align."""
    return width > 1.6 * height


def _moment(sol: Trajectory, k: int) -> str:
    noise = "" if sol.std is None else f"   s(t) = {float(sol.std[k]):.3g}"
    return f"t = {float(sol.ts[k]):.3f}{noise}"


def _cost(sol: Trajectory, k: int) -> str:
    """The solver and its evaluations, until state k if they were counted."""
    so_far = "" if sol.evaluations is None else f"{int(sol.evaluations[k])} of "
    return f"{sol.method} · {so_far}{sol.stats.nfe} NFE"


@dataclass
class _Paint:
    """Colours as indices into one table, or, if some images have colours, as colours.

    The table holds shades of the colour map, inks from paper to letters, and line colours.
    """

    theme: Theme
    cmap: Colormap
    indexed: bool
    table: Frame = field(init=False)

    def __post_init__(self) -> None:
        inks = np.linspace(to_rgb(self.theme.paper), to_rgb(self.theme.ink), _INKS)
        shades = self.cmap(np.linspace(0, 1, _SHADES))[:, :3]
        lines = [to_rgb(c) for c in self.theme.lines]
        self.table = np.round(255 * np.concatenate([shades, inks, lines])).astype(np.uint8)

    def of(self, indices: NDArray[np.uint8]) -> Frame:
        """Pixels of these entries of the table."""
        return indices if self.indexed else self.table[indices]

    @property
    def paper(self) -> Any:
        """A pixel of background."""
        return self.of(np.array(_SHADES, np.uint8))

    def blank(self, height: int, width: int) -> Frame:
        return self.of(np.full((height, width), _SHADES, np.uint8))

    def line(self, number: int) -> int:
        """The table's entry of a line colour."""
        return _SHADES + _INKS + number % len(self.theme.lines)

    def images(self, states: NDArray[np.float32], low: float, high: float) -> Frame:
        """States (B, C, H, W) as pixels (B, H, W) or (B, H, W, 3)."""
        unit = np.clip((np.nan_to_num(states) - low) / (high - low), 0, 1)
        if states.shape[1] == 1:
            return self.of((unit[:, 0] * (_SHADES - 1) + 0.5).astype(np.uint8))
        return np.moveaxis((255 * unit + 0.5).astype(np.uint8), 1, -1)


@dataclass
class _Grid:
    """Images in rows and columns, magnified."""

    sol: Trajectory
    states: Any
    at: list[int]
    limits: NDArray[np.float64]
    paint: _Paint
    columns: int
    zoom: int
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        count, _, height, width = as_images(self.states[0], self.sol.shape).shape
        rows = -(-count // self.columns)
        self.size = (
            (rows * (height + 1) - 1) * self.zoom,
            (self.columns * (width + 1) - 1) * self.zoom,
        )

    def draw(self, k: int) -> Frame:
        state = as_images(self.states[self.at[k]], self.sol.shape)
        images = self.paint.images(state, *self.limits[self.at[k]])
        sheet = mosaic(images, self.columns, 1, self.paint.paper)
        return sheet.repeat(self.zoom, 0).repeat(self.zoom, 1)


class _Text:
    """A line of text: one for all frames, or one per frame."""

    def __init__(self, lines: list[str], paint: _Paint) -> None:
        self.lines, self.paint = lines, paint
        longest = max({len(line): line for line in lines}.values(), key=len)
        self.size = _FONT_SIZE + 5, math.ceil(_font().getlength(longest + "0"))

    def draw(self, k: int) -> Frame:
        return self.paint.of(_letters(self.lines[k % len(self.lines)], *self.size))


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    # matplotlib brings this font with it; it has the letters σ, ε and ᵗ.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", _FONT_SIZE)


def _letters(text: str, height: int, width: int) -> NDArray[np.uint8]:
    """Text as entries of the table's inks, (height, width)."""
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text((0, height // 2), text, fill=255, font=_font(), anchor="lm")
    inks = np.asarray(picture).astype(np.uint16) * (_INKS - 1) // 255
    return (_SHADES + inks).astype(np.uint8)


@dataclass
class _Histogram:
    """The histogram of a frame's pixels, over a strip of the shades that mean their values."""

    sol: Trajectory
    at: list[int]
    limits: NDArray[np.float64]
    paint: _Paint
    height: int
    number: int

    _STRIP = 6

    @property
    def size(self) -> tuple[int, int]:
        return min(max(self.height, 90), 160), _BARS * 5

    def draw(self, k: int) -> Frame:
        index = self.at[k]
        low, high = self.limits[index]
        values = self.sol.ys[index].detach().float().cpu().numpy()
        heights = np.sqrt(np.histogram(values, _BARS, (low, high))[0])
        return self.paint.of(self._picture(heights / max(1.0, heights.max()), low, high))

    def _picture(self, heights: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
        height, width = self.size
        label = _FONT_SIZE + 5
        room = height - self._STRIP - label
        picture = np.full((height, width), _SHADES, np.uint8)
        above = np.arange(room, 0, -1)[:, None] <= np.round(heights * room)[None]
        picture[:room][above.repeat(width // _BARS, 1)] = self.paint.line(self.number)
        picture[room : room + self._STRIP] = np.linspace(0, _SHADES - 1, width).astype(np.uint8)
        left, right = (f"{value:.3g}".replace("-", "−") for value in (low, high))
        picture[-label:] = _letters(left, label, width)
        end = math.ceil(_font().getlength(right))
        picture[-label:, -end:] = _letters(right, label, end)
        return picture


class _Stack:
    """Parts one below the other, or side by side, with a gap between and a margin around."""

    def __init__(
        self,
        parts: Sequence[_Part],
        paint: _Paint,
        *,
        down: bool,
        gap: int = _MARGIN,
        margin: int = 0,
    ) -> None:
        self.paint, self.parts = paint, parts
        self.corners: list[tuple[int, int]] = []
        along, across = margin, 0
        for part in parts:
            height, width = part.size
            self.corners.append((along, margin) if down else (margin, along))
            along += (height if down else width) + gap
            across = max(across, width if down else height)
        extent = along - gap + margin, across + 2 * margin
        self.size = extent if down else (extent[1], extent[0])

    def draw(self, k: int) -> Frame:
        canvas = self.paint.blank(*self.size)
        for (y, x), part in zip(self.corners, self.parts, strict=True):
            height, width = part.size
            canvas[y : y + height, x : x + width] = part.draw(k)
        return canvas


def _side_by_side(parts: Sequence[_Part], paint: _Paint) -> _Part:
    """Parts of one size, abreast unless they are wide."""
    return parts[0] if len(parts) == 1 else _Stack(parts, paint, down=_is_wide(*parts[0].size))
