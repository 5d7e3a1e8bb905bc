r"""The parts of a film's frames: grids of images, lines of text, histograms, and stacks of parts.

A part is a rectangle that keeps its size for the whole film and draws its pixels frame by
frame, as indices into one table of colours or as colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, to_rgb
from numpy.typing import NDArray
from torch import Tensor

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import mosaic
from diffsde.views.kinds import as_images
from diffsde.views.movies import Frame
from diffsde.views.style import Theme

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = [
    "LINE_HEIGHT",
    "MARGIN",
    "SHADES",
    "Grid",
    "Histogram",
    "Paint",
    "Part",
    "Stack",
    "Text",
    "letters",
]

SHADES = 64  # few enough for a small file, more than the eye tells apart in noise
MARGIN = 8
_INKS = 12  # levels between paper and ink, for smooth letters
_FONT_SIZE = 13
LINE_HEIGHT = _FONT_SIZE + 5
_TINTS = 5  # between paper and the colour of a line, for smooth lines
_FAINT = 2  # of these is faint
_BARS = 32
_STRIP = 6  # height of the strip of shades below a histogram


@dataclass
class Paint:
    """Colours as indices into one table or, if any of the images has colours, as colours.

    The table holds the shades of the colour map, the inks from paper to letters, and the tints of
    every colour of lines, from faint to full.
    """

    theme: Theme
    cmap: Colormap
    indexed: bool
    table: Frame = field(init=False)

    def __post_init__(self) -> None:
        inks = np.linspace(to_rgb(self.theme.paper), to_rgb(self.theme.ink), _INKS)
        shades = self.cmap(np.linspace(0, 1, SHADES))[:, :3]
        lines = np.array([to_rgb(c) for c in self.theme.lines])
        strengths = np.arange(1, _TINTS + 1)[:, None] / _TINTS
        tints = [inks[0] + strengths * (line - inks[0]) for line in lines]
        self.table = np.round(255 * np.concatenate([shades, inks, *tints])).astype(np.uint8)

    def of(self, indices: NDArray[np.uint8]) -> Frame:
        """The pixels for these entries of the table."""
        return indices if self.indexed else self.table[indices]

    @property
    def paper(self) -> Any:
        """A pixel of background."""
        return self.of(np.array(SHADES, np.uint8))

    def blank(self, height: int, width: int) -> Frame:
        return self.of(np.full((height, width), SHADES, np.uint8))

    def ink(self, number: int) -> int:
        """The table's entry for an ink: 0 is the paper."""
        return SHADES + number

    def tint(self, number: int, cover: NDArray[np.uint8]) -> Frame:
        """The table's entries for the colour of a line where it covers pixels, 1 to 255 of 255."""
        strength = np.ceil(cover * (_TINTS / 255)).astype(np.uint8)
        return self.line(number) - _TINTS + strength

    def line(self, number: int) -> int:
        """The table's entry for the colour of a line."""
        return SHADES + _INKS + (number % len(self.theme.lines) + 1) * _TINTS - 1

    def faint_line(self, number: int) -> int:
        """The table's entry for the faint colour of a line."""
        return self.line(number) - _TINTS + _FAINT

    def images(self, states: NDArray[np.float32], low: float, high: float) -> Frame:
        """States (B, C, H, W) as pixels (B, H, W) or (B, H, W, 3)."""
        unit = np.clip((np.nan_to_num(states) - low) / (high - low), 0, 1)
        if states.shape[1] == 1:
            return self.of((unit[:, 0] * (SHADES - 1) + 0.5).astype(np.uint8))
        return np.moveaxis((255 * unit + 0.5).astype(np.uint8), 1, -1)


class Part(Protocol):
    """A rectangle of the film."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, the same in every frame."""
        ...

    def draw(self, k: int) -> Frame:
        """The pixels of frame k."""
        ...


@dataclass
class Grid:
    """Magnified images in rows and columns: in frame k, `states[shown[k]]`."""

    shape: tuple[int, ...]
    states: Tensor
    shown: list[int]
    limits: NDArray[np.float64]
    paint: Paint
    columns: int
    zoom: int
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        n, _, height, width = as_images(self.states[0], self.shape).shape
        rows = -(-n // self.columns)
        self.size = (
            (rows * (height + 1) - 1) * self.zoom,
            (self.columns * (width + 1) - 1) * self.zoom,
        )

    def draw(self, k: int) -> Frame:
        index = self.shown[k]
        state = as_images(self.states[index], self.shape)
        images = self.paint.images(state, *self.limits[index])
        sheet = mosaic(images, self.columns, 1, self.paint.paper)
        return sheet.repeat(self.zoom, 0).repeat(self.zoom, 1)


class Text:
    """A line of text, either one for all frames or one per frame."""

    def __init__(self, lines: list[str], paint: Paint) -> None:
        self.lines, self.paint = lines, paint
        longest = max({len(line): line for line in lines}.values(), key=len)
        self.size = LINE_HEIGHT, math.ceil(_font().getlength(longest + "0"))

    def draw(self, k: int) -> Frame:
        return self.paint.of(letters(self.lines[k % len(self.lines)], *self.size))


@lru_cache(maxsize=1)
def _font() -> FreeTypeFont:
    from PIL import ImageFont

    # This font comes with matplotlib and has the letters σ, ε and ᵗ.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", _FONT_SIZE)


def letters(text: str, height: int, width: int) -> NDArray[np.uint8]:
    """Text in the table's inks: indices (height, width)."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text((0, height // 2), text, fill=255, font=_font(), anchor="lm")
    inks = np.asarray(picture).astype(np.uint16) * (_INKS - 1) // 255
    return (SHADES + inks).astype(np.uint8)


@dataclass
class Histogram:
    """The histogram of a frame's pixels, above a strip of the shades that show their values."""

    sol: Trajectory
    shown: list[int]
    limits: NDArray[np.float64]
    paint: Paint
    height: int
    number: int

    @property
    def size(self) -> tuple[int, int]:
        return min(max(self.height, 90), 160), _BARS * 5

    def draw(self, k: int) -> Frame:
        index = self.shown[k]
        low, high = self.limits[index]
        values = self.sol.ys[index].detach().float().cpu().numpy()
        heights = np.sqrt(np.histogram(values, _BARS, (low, high))[0])
        return self.paint.of(self._picture(heights / max(1.0, heights.max()), low, high))

    def _picture(self, heights: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
        """Bars of these heights in [0, 1], the strip, and its two ends as numbers."""
        height, width = self.size
        room = height - _STRIP - LINE_HEIGHT
        picture = np.full((height, width), SHADES, np.uint8)
        covered = np.arange(room, 0, -1)[:, None] <= np.round(heights * room)[None]
        picture[:room][covered.repeat(width // _BARS, 1)] = self.paint.line(self.number)
        picture[room : room + _STRIP] = np.linspace(0, SHADES - 1, width).astype(np.uint8)
        left, right = (f"{value:.3g}".replace("-", "−") for value in (low, high))
        picture[-LINE_HEIGHT:] = letters(left, LINE_HEIGHT, width)
        end = math.ceil(_font().getlength(right))
        picture[-LINE_HEIGHT:, -end:] = letters(right, LINE_HEIGHT, end)
        return picture


class Stack:
    """Parts in a column or a row, with gaps between them and a margin around."""

    def __init__(
        self,
        parts: Sequence[Part],
        paint: Paint,
        *,
        down: bool,
        gap: int = MARGIN,
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
