r"""Images on a sheet: a batch in a grid, or the path of a batch at a few times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from diffsde.equations.ranges import UNIT, Range, checked_range
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.decoding import Decode, decoded
from diffsde.views.display import (
    Shading,
    check_not_empty,
    default_columns,
    mosaic,
    reached,
    shade_limits,
)
from diffsde.views.figures import PathLike, figure_of, written
from diffsde.views.kinds import SIGNALS, as_images, kind_of
from diffsde.views.signals import strip_of_signals
from diffsde.views.style import Theme, theme

__all__ = ["film_strip", "pixels", "plot_images"]

_SHEET_SIDE = 900  # screen pixels that a sheet of images does not exceed, unless unmagnified
_LARGEST_ZOOM = 8
_DPI = 100


def plot_images(
    x: Tensor | Trajectory,
    path: PathLike = None,
    *,
    columns: int | None = None,
    zoom: int | None = None,
    data_range: Range | None = None,
    decode: Decode | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Images in a grid.

    Args:
        x: (B, C, H, W) with C = 1 or 3; or a trajectory, for its last images.
        data_range: the values shown as black and as white, for images x; (0, 1) if left out. A
            trajectory knows its own.
        decode: for a trajectory of latents, as in `animate`.
        path: where to write the figure, if anywhere.
        columns: images per row; by default up to six images form one row, more form a block.
        zoom: screen pixels per image pixel; by default the sheet is at most 900 pixels across.

    Raises:
        InputError: x does not have such a shape, or data_range is no range. `plot_signals` shows
            signals and points.
    """
    if decode is not None:
        x = _last_decoded(x, decode)
    if isinstance(x, Trajectory):
        check_not_empty(x)
    states = as_images(x.final, x.shape) if isinstance(x, Trajectory) else as_images(x, ())
    limits = _limits_of(x, data_range)
    across = columns or default_columns(len(states))
    figure, _ = _sheet(pixels(states, *limits), across, ax, theme(dark), zoom=zoom)
    return written(figure, path)


def _last_decoded(x: Tensor | Trajectory, decode: Decode) -> Trajectory:
    if not isinstance(x, Trajectory):
        raise InputError("decode: x is no trajectory; show plot_images(decode(x), data_range=…)")
    return decoded(replace(x, denoised=None), decode, frames=[-1])


def _limits_of(x: Tensor | Trajectory, data_range: Range | None) -> Range:
    if not isinstance(x, Trajectory):
        return checked_range(UNIT if data_range is None else data_range)
    if data_range is not None:
        raise InputError("data_range: this trajectory knows its own; leave it out")
    return x.data_range


def film_strip(
    sol: Trajectory,
    path: PathLike = None,
    *,
    frames: int = 9,
    times: Sequence[float] | None = None,
    n: int = 4,
    denoised: bool = False,
    shading: Shading = "envelope",
    decode: Decode | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The first samples of a batch, one per row, at a few times from left to right.

    Args:
        sol: a trajectory of images; or of signals or points, which are drawn as lines.
        path: where to write the figure, if anywhere.
        frames: how many saved states to show, spread evenly from the first to the last.
        times: instead of those, show the states that the solve has reached by these times.
        n: how many samples to show.
        denoised: show a row of the estimates E[x(0) | x(t)], on the data's range, below each row.
        shading: the values that the shades span, as in `animate`.
        decode: for a trajectory of latents, as in `animate`; only what is shown is decoded.

    Raises:
        InputError: the states are neither images nor signals, or `denoised` is asked for and
            the trajectory has no estimates.
    """
    check_not_empty(sol)
    if denoised and sol.denoised is None:
        raise InputError(
            "denoised=True: this trajectory has no denoised estimates; ask the solve for them"
        )
    if times is None:
        shown = np.linspace(0, len(sol) - 1, min(frames, len(sol))).round().astype(int).tolist()
    else:
        shown = [reached(sol.ts, t) for t in times]
    if decode is not None:
        wanted = sol if denoised else replace(sol, denoised=None)
        sol = decoded(wanted.sample(slice(n)), decode, frames=shown)
        shown = list(range(len(shown)))
    if kind_of(sol) == SIGNALS:
        return strip_of_signals(sol, path, shown, n, denoised, shading, ax, dark)
    estimates = sol.denoised if denoised else None
    limits = shade_limits(sol, shading)
    tiles = np.stack([_strip_column(sol, estimates, k, limits[k], n) for k in shown], 1)
    width = tiles.shape[3]
    sheet = tiles.reshape(-1, *tiles.shape[2:])
    figure, axes = _sheet(sheet, len(shown), ax, theme(dark), heading=0.25)
    labels = [f"t = {float(sol.ts[k]):.2g}" for k in shown]
    axes.set_xticks(np.arange(len(shown)) * (width + 1) + (width - 1) / 2, labels)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    return written(figure, path)


def _strip_column(
    sol: Trajectory, estimates: Tensor | None, k: int, limits: NDArray[np.float64], n: int
) -> NDArray[np.float32]:
    """The first n images of frame k, each above its estimate if there are any: (N, H, W, 3)."""
    rows = [pixels(as_images(sol.ys[k], sol.shape)[:n], *limits)]
    if estimates is not None:
        rows.append(pixels(as_images(estimates[k], sol.shape)[:n], *sol.data_range))
    return np.stack(rows, 1).reshape(-1, *rows[0].shape[1:])


def pixels(states: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """States (B, C, H, W) as colours (B, H, W, 3) in [0, 1]."""
    unit = np.clip((np.nan_to_num(states) - low) / (high - low), 0, 1)
    colours = np.moveaxis(unit, 1, -1)
    return np.asarray(np.broadcast_to(colours, (*colours.shape[:3], 3)), dtype=np.float32)


def _sheet(
    tiles: NDArray[np.float32],
    columns: int,
    ax: Axes | None,
    look: Theme,
    heading: float = 0.0,
    zoom: int | None = None,
) -> tuple[Figure, Axes]:
    """Tiles (N, H, W, 3) in rows, in the caller's axes or in a figure of their own size."""
    sheet = mosaic(tiles, columns, 1, to_rgb(look.paper))
    if ax is None:
        height, width = sheet.shape[:2]
        figure, axes = _fitting_figure(height, width, look, heading, zoom)
    else:
        figure, axes = figure_of(ax), ax
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure, axes


def _fitting_figure(
    height: int, width: int, look: Theme, heading: float, zoom: int | None
) -> tuple[Figure, Axes]:
    """A figure with a whole number of screen pixels per pixel, and `heading` inches on top."""
    zoom = zoom or min(max(_SHEET_SIDE // max(height, width), 1), _LARGEST_ZOOM)
    # A little more than whole pixels, because matplotlib would cut off the last one otherwise.
    inches = [(side * zoom + 0.01) / _DPI for side in (width, height)]
    figure = look.figure(inches[0], inches[1] + heading)
    figure.set_layout_engine("none")
    figure.set_dpi(_DPI)
    filled = height * zoom / (height * zoom + _DPI * heading)
    return figure, look.dress(figure.add_axes((0.0, 0.0, 1.0, filled)))
