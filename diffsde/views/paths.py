r"""Paths: every coordinate of every sample against t, and the curves to compare them with.

A few paths are drawn as lines. Many are drawn as an image of fixed size, whose pixels count
the paths that pass through them, so that neither time nor file size grows with lines that the
eye cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import base_of_diffusion, trajectories
from diffsde.views.figures import (
    Array,
    PathLike,
    axes_for,
    caption,
    name_of,
    written,
)
from diffsde.views.path_axes import PathAxes, largest
from diffsde.views.style import Theme, theme

__all__ = ["draw_envelopes", "envelopes", "plot_paths"]

ENVELOPES = ("sigma", "std", "both")
_FEW = 64  # up to so many paths are drawn one by one
_OVERLAID = 16  # paths of each further trajectory: thin lines that do not hide the first
_WIDEST_STEP = 4  # columns; a column of shorter steps shows one whole step
_RASTER = (600, 1000)  # height and width of the image of more paths, in pixels
_CHUNK = 1024  # paths counted at once, so that they stay in the processor's cache
_FAINTEST = 0.15  # the least opacity, so that even a lone path is visible


def plot_paths(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    envelope: str | None = "sigma",
    *,
    scale: str = "linear",
    clock: str = "t",
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Every pixel of every sample against t.

    Many paths are drawn as an image of fixed size that is stronger where more of them pass, so
    that 100,000 paths take seconds and a PDF stays small; even a path far from all others is
    visible. All paths of the first trajectory are drawn; of each of the others there are thin
    lines on top of them, at most 16, which leave the first one visible.

    Below a figure of its own, a line of text says what the envelopes are.

    Args:
        sol: a trajectory of any states, (B, …), or several.
        path: where to write the figure, if anywhere.
        envelope: curves to compare with: "sigma" for ±σᵗ, the diffusion; "std" for ±s(t), the
            standard deviation of the noise, within which two thirds of a Gaussian's paths stay;
            "both"; or None. A curve that the trajectory does not have is left out.
        scale: of the values: "linear", or "asinh" for an axis that is linear as far as the
            data reach and logarithmic beyond, so that one sees the noise and the data.
        clock: what the paths are drawn against: "t", or "log_std" for s(t) on a logarithmic
            axis, which widens the end where the data appear. A state with s(t) = 0, such as a
            denoised last one, has no place there and is left out.

    Raises:
        InputError: there is no trajectory; the envelope, the scale or the clock is unknown; or
            the clock is "log_std", and a trajectory has no s(t) that rises or falls throughout.
    """
    sols, look = trajectories(sol), theme(dark)
    spaces, curves = PathAxes(sols, scale, clock), envelopes(sols[0], envelope)
    figure, axes = axes_for(ax, look, 8, 4.5)
    top = 1.05 * max([*(largest(s.ys) for s in sols), *(c.max() for _, _, c in curves), 1e-12])
    spaces.prepare(axes, top)
    for number, one in enumerate(sols):
        _draw_paths(axes, one, look.line(number), spaces, every=number == 0)
    places = spaces.places(sols[0])
    draw_envelopes(axes, places, [(*c[:2], c[2][spaces.present(sols[0])]) for c in curves], look)
    look.legend(axes, loc="upper right" if _narrows(sols[0]) else "upper left")
    if ax is None and curves:
        caption(figure, _explained(curves), look)
    return written(figure, path)


def _narrows(sol: Trajectory) -> bool:
    """Whether the paths come closer to zero on their way, which leaves the end's corners empty."""
    return largest(sol.ys[-1]) <= largest(sol.ys[0])


def _explained(curves: list[tuple[str, str, Array]]) -> str:
    """What the envelopes are, in a sentence each."""
    said = {
        "--": "Dashed, {}: the diffusion coefficient, how strongly noise acts at time t.",
        ":": "Dotted, {}: the standard deviation of the noise in x(t).",
    }
    return "   ".join(said[style].format(label.split(",")[0]) for label, style, _ in curves)


def envelopes(sol: Trajectory, envelope: str | None) -> list[tuple[str, str, Array]]:
    """Label, line style and curve of each requested envelope that the trajectory has.

    Raises:
        InputError: the envelope is unknown.
    """
    if envelope is None:
        return []
    if envelope not in ENVELOPES:
        raise InputError(f"envelope = {envelope!r}: {name_list(str(envelope), ENVELOPES)}, or None")
    sigma = base_of_diffusion(sol)
    diffusion = "±g(t)" if sigma is None else rf"$\pm\sigma^t$, σ = {sigma:.4g}"
    curves = [
        ("sigma", diffusion, "--", sol.diffusion),
        ("std", "±s(t)", ":", sol.std),
    ]
    return [
        (label, style, curve.detach().double().cpu().numpy())
        for name, label, style, curve in curves
        if envelope in (name, "both") and curve is not None
    ]


def draw_envelopes(
    axes: Axes, places: Array, curves: list[tuple[str, str, Array]], look: Theme
) -> None:
    """The curves and their mirror images, at places on the axis of time."""
    for label, style, curve in curves:
        for sign, name in ((1, label), (-1, None)):
            axes.plot(places, sign * curve, style, color=look.ink, linewidth=1.3, label=name)


def _draw_paths(axes: Axes, sol: Trajectory, colour: str, spaces: PathAxes, *, every: bool) -> None:
    """The paths of one trajectory, all of them or a few, within the limits of the axes."""
    places, values = spaces.places(sol), spaces.values(sol)
    count = values.shape[1]
    what = f"{count:,} paths"
    if count > _OVERLAID and not every:
        what = f"{_OVERLAID} of {what}"
        values = values[:, np.linspace(0, count - 1, _OVERLAID).astype(int)]
    axes.plot([], [], color=colour, linewidth=2, label=name_of(sol, what))
    if values.shape[1] <= _FEW:
        width = 0.8 if every else 0.6
        segments = [np.column_stack([places, path]) for path in values.T]
        axes.add_collection(LineCollection(segments, colors=colour, alpha=0.8, linewidths=width))
    else:
        _draw_counts(axes, places, values, colour, spaces)


def _draw_counts(
    axes: Axes, places: Array, values: NDArray[np.float32], colour: str, spaces: PathAxes
) -> None:
    """Paths (T, P) as an image, more opaque where more of them pass."""
    ends = spaces.spaced_values(np.array(axes.get_ylim()))
    xs, ys = spaces.spaced_places(places), spaces.spaced_values(values)
    picture = np.empty((*_RASTER, 4))
    picture[..., :3] = to_rgb(colour)
    picture[..., 3] = _opacity(_passes(xs, ys, (float(ends[0]), float(ends[1])), _RASTER))
    # An image has its own even axes, so where the plot's are not, it is laid over all of it.
    where = {"extent": (places[0], places[-1], *axes.get_ylim())}
    axes.imshow(
        picture,
        **(where if spaces.even else {"extent": (0, 1, 0, 1), "transform": axes.transAxes}),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        zorder=1,  # above the grid
    )


def _passes(
    ts: Array, values: NDArray[np.float32], ylim: tuple[float, float], size: tuple[int, int]
) -> NDArray[np.int64]:
    """How many paths pass through each pixel of an image of `size`; rows from low to high."""
    height, width = size
    edges = np.linspace(ts[0], ts[-1], width + 1)
    steps = np.abs(np.diff(ts)) / abs(edges[1] - edges[0])  # in columns
    if steps.max() > _WIDEST_STEP or len(steps) > width:
        return _crossed(ts, values, edges, ylim, height)
    # Columns that hold a step and a half, or half a step, would be darker and lighter in turn.
    middle = 0.5 * (edges[:-1] + edges[1:])
    step = np.searchsorted(*((ts, middle) if ts[0] < ts[-1] else (-ts, -middle))) - 1
    return _crossed(ts, values, ts, ylim, height)[:, np.clip(step, 0, len(steps) - 1)]


def _crossed(
    ts: Array, values: NDArray[np.float32], edges: Array, ylim: tuple[float, float], height: int
) -> NDArray[np.int64]:
    """How many paths pass through each row of the columns between these edges: (height, columns).

    In each column a path covers the rows between its heights at the two edges. It adds one at the
    first of these rows and subtracts one after the last; a cumulative sum over the rows then counts
    all paths at once.
    """
    (low, high), width = ylim, len(edges) - 1
    forward = ts if ts[0] <= ts[-1] else -ts
    left = np.clip(np.searchsorted(forward, edges if forward is ts else -edges) - 1, 0, len(ts) - 2)
    share = ((edges - ts[left]) / (ts[left + 1] - ts[left])).astype(np.float32)[:, None]
    steps = np.zeros(width * (height + 1), np.int64)
    column = (np.arange(width) * (height + 1))[:, None]
    for start in range(0, values.shape[1], _CHUNK):
        chunk = np.nan_to_num(values[:, start : start + _CHUNK])
        heights = chunk[left] + share * (chunk[left + 1] - chunk[left])
        scaled = np.clip((heights - low) * (height / (high - low)), -1, height + 1)
        rows = np.floor(scaled).astype(np.int32)
        first = np.clip(np.minimum(rows[:-1], rows[1:]), 0, height)
        after = np.clip(np.maximum(rows[:-1], rows[1:]) + 1, 0, height)
        steps += np.bincount((column + first).ravel(), minlength=steps.size)
        steps -= np.bincount((column + after).ravel(), minlength=steps.size)
    return steps.reshape(width, height + 1).cumsum(1)[:, :height].T


def _opacity(counts: NDArray[np.int64]) -> Array:
    """That of translucent lines whose own opacity makes the median covered pixel half opaque."""
    covered = counts[counts > 0]
    if not covered.size:
        return np.zeros(counts.shape)
    opacity = 1 - 0.5 ** (counts / np.median(covered))
    return np.where(counts > 0, np.maximum(opacity, _FAINTEST), 0)
