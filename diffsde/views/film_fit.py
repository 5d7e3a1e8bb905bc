r"""How large a film's images are, and how many of them form a row.

The images of one trajectory form a row if they are few and a block if they are many. Several
trajectories stand side by side; their images form the block in which they are largest when all
of it is to fit a screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffsde.views.display import default_columns

__all__ = ["WIDEST", "fit_images", "fit_plane", "is_wide"]

WIDEST = 1280  # pixels that parts side by side do not exceed, unless there is only one
_GRID_SIDE, _FILM_WIDTH = 448, 960  # pixels that a default zoom does not exceed
_LARGEST_ZOOM = 8
_PLANE_SIDE, _SMALLEST_PLANE = 420, 160  # pixels


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
