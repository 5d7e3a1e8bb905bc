r"""Images on a sheet: a batch, or a batch at a few times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import (
    Shading,
    as_images,
    default_columns,
    mosaic,
    reached,
    shade_limits,
)
from diffsde.views.figures import PathLike, figure_of, written
from diffsde.views.style import Theme, theme

__all__ = ["film_strip", "plot_images"]

_SHEET_SIDE = 900  # screen pixels that a sheet of images does not exceed


def plot_images(
    x: Tensor,
    path: PathLike = None,
    *,
    columns: int | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Images in a grid.

    Args:
        x: (B, C, H, W) with C = 1 or 3, shown on [0, 1].
        path: where to write the figure, too.
        columns: images in a row; by default up to six stand in one row, more in a block.

    Raises:
        InputError: x is not such a batch.
    """
    states = as_images(x, ())
    across = columns or default_columns(len(states))
    figure, _ = _sheet(_pixels(states, 0, 1), across, ax, theme(dark))
    return written(figure, path)


def film_strip(
    sol: Trajectory,
    path: PathLike = None,
    *,
    frames: int = 9,
    times: Sequence[float] | None = None,
    images: int = 4,
    denoised: bool = False,
    shading: Shading = "envelope",
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The first images of a batch, a row each, at a few times from left to right.

    Args:
        sol: a trajectory of images.
        path: where to write the figure, too.
        frames: how many saved states to show, spread evenly from the first to the last.
        times: show these times instead: the states reached by then.
        images: how many samples.
        denoised: below each row, a row of the estimates E[x(0) | x(t)], on [0, 1].
        shading: which values the shades span, as in `animate`.

    Raises:
        InputError: the states are no images, or `denoised` is asked for and not there.
    """
    if denoised and sol.denoised is None:
        raise InputError(
            "denoised=True: this trajectory has no denoised estimates; ask the solve for them"
        )
    if times is None:
        shown = np.linspace(0, len(sol) - 1, min(frames, len(sol))).round().astype(int).tolist()
    else:
        shown = [reached(sol.ts, t) for t in times]
    limits = shade_limits(sol, shading)
    columns = []
    for k in shown:
        rows = [_pixels(as_images(sol.ys[k], sol.shape)[:images], *limits[k])]
        if denoised and sol.denoised is not None:
            rows.append(_pixels(as_images(sol.denoised[k], sol.shape)[:images], 0, 1))
        columns.append(np.stack(rows, 1).reshape(-1, *rows[0].shape[1:]))
    tiles = np.stack(columns, 1)
    width = tiles.shape[3]
    sheet = tiles.reshape(-1, *tiles.shape[2:])
    figure, axes = _sheet(sheet, len(shown), ax, theme(dark), heading=0.25)
    labels = [f"t = {float(sol.ts[k]):.2g}" for k in shown]
    axes.set_xticks(np.arange(len(shown)) * (width + 1) + (width - 1) / 2, labels)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    return written(figure, path)


def _pixels(states: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """States (B, C, H, W) as colours (B, H, W, 3) in [0, 1]."""
    unit = np.clip((np.nan_to_num(states) - low) / (high - low), 0, 1)
    colours = np.moveaxis(unit, 1, -1)
    return np.asarray(np.broadcast_to(colours, (*colours.shape[:3], 3)), dtype=np.float32)


def _sheet(
    tiles: NDArray[np.float32], columns: int, ax: Axes | None, look: Theme, heading: float = 0.0
) -> tuple[Figure, Axes]:
    """Tiles (N, H, W, 3) in rows: in a figure of their own, a whole number of screen pixels
    per pixel, with `heading` inches above; or in the caller's axes."""
    sheet = mosaic(tiles, columns, 1, to_rgb(look.paper))
    height, width = sheet.shape[:2]
    if ax is None:
        zoom = min(max(_SHEET_SIDE // max(height, width), 1), 8)
        # A little more than whole pixels, which matplotlib would else cut off.
        inches = [(side * zoom + 0.01) / 100 for side in (width, height)]
        figure = look.figure(inches[0], inches[1] + heading)
        figure.set_layout_engine("none")
        figure.set_dpi(100)
        filled = height * zoom / (height * zoom + 100 * heading)
        axes = look.dress(figure.add_axes((0.0, 0.0, 1.0, filled)))
    else:
        figure, axes = figure_of(ax), ax
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure, axes
