r"""How large a film's images are, and how many of them form a row.

The images of one trajectory form a row if they are few and a block if they are many. Several
trajectories stand side by side; their images form the block in which they are largest when all
of it is to fit a screen. Signals have cells that are a little wider than high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffsde.views.display import default_columns

__all__ = [
    "CELL_GAP",
    "MOST_SIGNALS",
    "WIDEST",
    "Cells",
    "fit_images",
    "fit_plane",
    "fit_signals",
    "is_wide",
]

WIDEST = 1280  # pixels that parts side by side do not exceed, unless there is only one
_GRID_SIDE, _FILM_WIDTH = 448, 960  # pixels that a default zoom does not exceed
_LARGEST_ZOOM = 8
_PLANE_SIDE, _SMALLEST_PLANE = 420, 160  # pixels
_SIGNALS_WIDTH, _SMALLEST_SIGNALS = 640, 240  # pixels of all columns of signals
_CELL_SHAPE = 1.5  # width by height, or more
_SMALLEST_CELL = 20  # pixels in either direction
MOST_SIGNALS = 16  # of a trajectory
CELL_GAP = 8  # pixels between signals


@dataclass(frozen=True)
class Cells:
    """Signals in rows: how many, how many in a row, and their size in pixels."""

    count: int
    columns: int
    height: int
    width: int


def is_wide(height: int, width: int) -> bool:
    """Whether parts of this size, such as rows of images, are stacked so that images align."""
    return width > 1.6 * height


def fit_plane(planes: int) -> int:
    """The side of each of so many squares side by side, in pixels."""
    return max(min(_PLANE_SIDE, _FILM_WIDTH // planes), _SMALLEST_PLANE)


def fit_images(
    shapes: Sequence[Sequence[int]], kinds: int, columns: int | None, zoom: int | None
) -> tuple[int, int]:
    """Images per row, and screen pixels per pixel.

    Args:
        shapes: (B, C, H, W) of each trajectory's images.
        kinds: how many blocks each trajectory has: 2 with its estimates, else 1.
        columns, zoom: what was asked for.
    """
    count, _, height, width = (max(sizes) for sizes in zip(*shapes, strict=True))

    def scale(across: int) -> float:
        h, w = -(-count // across) * (height + 1) - 1, across * (width + 1) - 1
        abreast = len(shapes) * (1 if is_wide(h, w) else kinds)
        return min(_GRID_SIDE / max(h, w), _FILM_WIDTH / (abreast * w), _LARGEST_ZOOM)

    def merit(across: int) -> tuple[int, int, float]:
        empty = -count % across
        return max(math.floor(scale(across)), 1), -empty, scale(across)

    one = columns or (default_columns(count) if len(shapes) == 1 else None)
    columns = one or max(range(1, count + 1), key=merit)
    return columns, zoom or merit(columns)[0]


def fit_signals(count: int, parts: int, columns: int | None) -> Cells:
    """Cells for signals, as large as fit.

    Args:
        count: how many signals are shown.
        parts: how many grids of them are to stand side by side.
        columns: what was asked for.
    """
    whole = max(min(_SIGNALS_WIDTH, _FILM_WIDTH // parts), _SMALLEST_SIGNALS)

    def size(across: int) -> tuple[int, int]:
        down = -(-count // across)
        width = (whole + CELL_GAP) // across - CELL_GAP
        return min((_GRID_SIDE + CELL_GAP) // down - CELL_GAP, round(width / _CELL_SHAPE)), width

    def merit(across: int) -> float:
        filled = count / (across * -(-count // across))
        return size(across)[0] * filled**3

    columns = min(columns or max(range(1, count + 1), key=merit), count)
    height, width = (max(side, _SMALLEST_CELL) for side in size(columns))
    return Cells(count, columns, height, width)
