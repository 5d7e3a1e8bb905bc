r"""Plots: what a solve did, as figures.

Every function returns its matplotlib figure; with `path` it also writes it, in the format
that the suffix names, and with `ax` it draws into the caller's axes instead of a figure of
its own. Figures belong to no global state: nothing stays open, and threads may plot.

The time axis runs as the solve did: from 1 down to ε for a reverse one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray
from torch import Tensor

from diffsde.display import (
    Shading,
    as_images,
    base_of_diffusion,
    default_columns,
    mosaic,
    reached,
    shade_limits,
    trajectories,
)
from diffsde.errors import InputError, name_list
from diffsde.files import written_whole
from diffsde.style import Theme, theme
from diffsde.trajectory import Trajectory

__all__ = [
    "film_strip",
    "plot_bands",
    "plot_convergence",
    "plot_images",
    "plot_losses",
    "plot_marginals",
    "plot_paths",
    "plot_steps",
    "plot_work_precision",
]

PathLike = str | os.PathLike[str] | None
Array = NDArray[np.float64]
Density = Callable[[Tensor, float], Tensor]

ENVELOPES = ("sigma", "std", "both")
_SHEET_SIDE = 900  # screen pixels that a sheet of images does not exceed
_FEW = 64  # paths that are drawn one by one
_RASTER = (600, 1000)  # pixels of a picture of more paths
_CHUNK = 1024  # paths drawn at once, so that they stay in the processor's cache
_FAINTEST = 0.15  # opacity of a lone path: none is lost
_LINEAR = 0.5  # half the data's range: where the value axis of marginals turns logarithmic
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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
    return _written(figure, path)


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
    return _written(figure, path)


def plot_paths(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    envelope: str | None = "sigma",
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Every pixel of every sample against t.

    Many paths are drawn into a picture of fixed size, stronger where more of them pass, so
    that 100,000 take seconds and a PDF stays small; even a path far from all others stays
    visible. Over the paths of the first trajectory, others lay some of theirs as lines.

    Args:
        sol: a trajectory of any states, or several.
        path: where to write the figure, too.
        envelope: curves to compare with: "sigma" for ±σᵗ, the diffusion; "std" for ±s(t),
            the standard deviation of the noise, which two thirds of a Gaussian's paths keep
            within; "both"; or None. A trajectory that has no such curve is drawn without.

    Raises:
        InputError: no trajectory, or an unknown envelope.
    """
    sols, look = trajectories(sol), theme(dark)
    curves = _envelopes(sols[0], envelope)
    figure, axes = _axes(ax, look, 8, 4.5)
    top = 1.05 * max([*(_largest(s) for s in sols), *(c.max() for _, _, c in curves), 1e-12])
    _time_axis(axes, sols[0])
    axes.set_ylim(-top, top)
    axes.set_ylabel("x(t)")
    for number, one in enumerate(sols):
        _draw_paths(axes, one, look.line(number), every=number == 0)
    _draw_envelopes(axes, sols[0], curves, look)
    look.legend(axes, loc="upper right")
    return _written(figure, path)


def plot_bands(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    envelope: str | None = "std",
    *,
    coverage: Sequence[float] = (0.5, 0.9),
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Quantiles of all values over t: the median, and bands around it.

    The first trajectory's bands are filled, those of others drawn as dashed edges: equal
    marginals show as edges that meet.

    Args:
        sol: a trajectory of any states, or several.
        path: where to write the figure, too.
        envelope: as in `plot_paths`.
        coverage: the share of values in each band, between 0 and 1.

    Raises:
        InputError: no trajectory, an unknown envelope, a share out of range.
    """
    wrong = [c for c in coverage if not 0 < c < 1]
    if wrong:
        raise InputError(f"coverage = {wrong[0]}: expected shares between 0 and 1")
    sols, look = trajectories(sol), theme(dark)
    curves = _envelopes(sols[0], envelope)
    figure, axes = _axes(ax, look, 8, 4.5)
    for number, one in enumerate(sols):
        _draw_bands(axes, one, coverage, look.line(number), filled=number == 0)
    _time_axis(axes, sols[0])
    axes.set_ylabel("x(t)")
    _draw_envelopes(axes, sols[0], curves, look)
    look.legend(axes, loc="upper right")
    return _written(figure, path)


def plot_marginals(
    sol: Trajectory,
    path: PathLike = None,
    *,
    exact: Density | Trajectory | None = None,
    bins: int = 160,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The density of all values at every t, as a heat map, with quantiles over it.

    The value axis is linear near zero and logarithmic far out (asinh), so that the noise of
    the first times and the data of the last are both seen. Each time's density is drawn
    relative to its own peak. The lines are the quantiles 5, 25, 50, 75 and 95 %, dashed
    those of `exact`: equal marginals show as dashes that lie on lines.

    Args:
        sol: a trajectory of any states.
        path: where to write the figure, too.
        exact: what to compare with: a density `(x, t) -> p(x)` of one value, x of shape
            (N,), or another trajectory, such as the forward process or another solver's.
        bins: of the values.
    """
    look = theme(dark)
    figure, axes = _axes(ax, look, 8, 4.5)
    others = [] if exact is None else _other_quantiles(exact, sol)
    quantiles = _quantiles(sol, _QUANTILES)
    top = 1.6 * max(np.nanmax(np.abs(q)) for q in [quantiles, *(q for _, q in others)])
    edges = np.sinh(np.linspace(-1, 1, bins + 1) * np.arcsinh(top / _LINEAR)) * _LINEAR
    counts = np.stack([np.histogram(frame, edges, density=True)[0] for frame in _values(sol)])
    density = counts / counts.max(1, keepdims=True)
    times = _times(sol)
    axes.set_yscale("asinh", linear_width=_LINEAR)
    axes.set_yticks(_asinh_ticks(top))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.pcolormesh(
        times,
        (edges[1:] + edges[:-1]) / 2,
        density.T,
        cmap=look.density_map(),
        shading="nearest",
        rasterized=True,
    )
    for number, line in enumerate(quantiles):
        label = _name(sol, "quantiles") if number == 0 else None
        axes.plot(times, line, color=look.ink, linewidth=0.9, label=label)
    for ts, lines in others:
        name = _name(exact, "quantiles") if isinstance(exact, Trajectory) else "exact quantiles"
        for number, line in enumerate(lines):
            label = name if number == 0 else None
            axes.plot(ts, line, "--", color=look.line(1), linewidth=1.8, label=label)
    _time_axis(axes, sol)
    axes.grid(False)
    axes.set_ylabel("x(t)")
    look.legend(axes, loc="upper right")
    return _written(figure, path)


def plot_steps(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The step size |Δt| against t, and how many steps a solver has taken by then (dashed).

    It reads the saved times: with everything saved, those are the solver's steps. Where
    steps are small, the solver spends its evaluations; the legend says how many in all.
    """
    sols, look = trajectories(sol), theme(dark)
    figure, axes = _axes(ax, look, 8, 4)
    taken = axes.twinx()
    if ax is None:
        look.dress(taken).grid(False)
    for number, one in enumerate(sols):
        ts, colour, stats = _times(one), look.line(number), one.stats
        rejected = f", {stats.rejected} rejected" if stats.rejected else ""
        label = f"{one.method}: {stats.steps} steps{rejected}, {stats.nfe} NFE"
        # The step that leads away from each time; the last one is repeated to its end.
        sizes = np.abs(np.diff(ts))
        sizes = np.append(sizes, sizes[-1:])
        axes.step(ts[: len(sizes)], sizes, where="post", color=colour, linewidth=1.5, label=label)
        taken.plot(ts, np.arange(len(ts)), "--", color=colour, linewidth=1)
    _time_axis(axes, sols[0])
    axes.set_yscale("log")
    axes.set_ylabel("step size |Δt|")
    taken.set_ylabel("steps taken (dashed)")
    taken.set_ylim(bottom=0)
    look.legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return _written(figure, path)


def plot_work_precision(
    table: Iterable[Mapping[str, Any]],
    path: PathLike = None,
    *,
    x: str = "nfe",
    y: str = "error",
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Error against work, a line per method, both axes logarithmic: lower left is better.

    Args:
        table: rows with `method`, `x` and `y`.
        path: where to write the figure, too.
        x, y: the columns to plot.

    Raises:
        InputError: a row lacks a column.
    """
    look = theme(dark)
    figure, axes = _axes(ax, look, 7, 4.5)
    _log_lines(axes, _lines(table, x, y), look)
    names = {"nfe": "score evaluations (NFE)", "seconds": "seconds"}
    axes.set(xlabel=names.get(x, x), ylabel=y)
    look.legend(axes)
    return _written(figure, path)


def plot_convergence(
    table: Iterable[Mapping[str, Any]],
    path: PathLike = None,
    *,
    x: str = "steps",
    y: str = "error",
    orders: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Error against the number of steps, both logarithmic, with slopes.

    The legend gives each method's order as fitted to all of its points; a dotted line of
    the order in `orders` begins at its first point.

    Args:
        table: rows with `method`, `x` and `y`.
        path: where to write the figure, too.
        x, y: the columns to plot; x counts steps.
        orders: the orders that methods should have, by name.

    Raises:
        InputError: a row lacks a column.
    """
    look = theme(dark)
    figure, axes = _axes(ax, look, 7, 4.5)
    lines = _lines(table, x, y)
    named = {f"{name} (order {_slope(line):.2f})": line for name, line in lines.items()}
    _log_lines(axes, named, look)
    for number, (name, (steps, errors)) in enumerate(lines.items()):
        if orders and name in orders:
            expected = errors[0] * (steps / steps[0]) ** -orders[name]
            axes.plot(steps, expected, ":", color=look.line(number), linewidth=1.2)
    if orders:
        axes.plot([], [], ":", color=look.ink, linewidth=1.2, label="expected order")
    axes.set(xlabel=x, ylabel=y)
    look.legend(axes)
    return _written(figure, path)


def plot_losses(
    losses: Sequence[tuple[int, float]],
    path: PathLike = None,
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The training loss against the number of updates.

    Args:
        losses: pairs of update and loss.
        path: where to write the figure, too.
    """
    look = theme(dark)
    figure, axes = _axes(ax, look, 6, 4)
    updates, values = zip(*losses, strict=True) if losses else ((), ())
    axes.plot(updates, values, color=look.line(0), linewidth=1.5)
    axes.set(xlabel="update", ylabel="loss", yscale="log")
    axes.yaxis.set_major_formatter(_plain())
    axes.yaxis.set_minor_formatter(_plain())
    return _written(figure, path)


def _axes(ax: Axes | None, look: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    """The caller's axes as they are, or our own in our style."""
    if ax is None:
        figure = look.figure(width, height)
        return figure, look.dress(figure.add_subplot())
    return _figure_of(ax), ax


def _figure_of(ax: Axes) -> Figure:
    figure: Any = ax.figure
    while not isinstance(figure, Figure):  # axes may lie in a subfigure
        figure = figure.figure
    return figure


def _written(figure: Figure, path: PathLike) -> Figure:
    if path is not None:
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return figure


def _time_axis(axes: Axes, sol: Trajectory) -> None:
    """t from left to right as it was solved."""
    first, last = float(sol.ts[0]), float(sol.ts[-1])
    if first != last:
        axes.set_xlim(first, last)
    axes.set_xlabel("t")


def _times(sol: Trajectory) -> Array:
    times: Array = sol.ts.detach().double().cpu().numpy()
    return times


def _values(sol: Trajectory) -> NDArray[np.float32]:
    """All values of all samples: (T, P)."""
    values: NDArray[np.float32] = sol.ys.detach().float().cpu().reshape(len(sol), -1).numpy()
    return values


def _name(sol: Trajectory, what: str) -> str:
    return f"{sol.method}, {what}" if sol.method else what


def _largest(sol: Trajectory) -> float:
    """The largest absolute value that is finite."""
    low, high = sol.ys.detach().aminmax()
    if not bool(torch.isfinite(high - low)):
        low, high = torch.nan_to_num(sol.ys.detach(), posinf=0, neginf=0).aminmax()
    return max(-float(low), float(high))


# Curves to compare with.


def _envelopes(sol: Trajectory, envelope: str | None) -> list[tuple[str, str, Array]]:
    """Label, line style and curve of each envelope that is asked for and there."""
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


def _draw_envelopes(
    axes: Axes, sol: Trajectory, curves: list[tuple[str, str, Array]], look: Theme
) -> None:
    for label, style, curve in curves:
        for sign, name in ((1, label), (-1, None)):
            axes.plot(_times(sol), sign * curve, style, color=look.ink, linewidth=1.3, label=name)


# Many paths.


def _draw_paths(axes: Axes, sol: Trajectory, colour: str, every: bool) -> None:
    """The paths of one trajectory between the axes' limits: all of them, or a few."""
    ts, values = _times(sol), _values(sol)
    count = values.shape[1]
    if count > _FEW and not every:
        values = values[:, np.linspace(0, count - 1, _FEW).astype(int)]
    what = f"{count:,} paths" if every or count <= _FEW else f"{_FEW} of {count:,} paths"
    axes.plot([], [], color=colour, linewidth=2, label=_name(sol, what))
    if values.shape[1] <= _FEW:
        segments = [np.column_stack([ts, path]) for path in values.T]
        axes.add_collection(LineCollection(segments, colors=colour, alpha=0.8, linewidths=0.8))
        return
    picture = np.empty((*_RASTER, 4))
    picture[..., :3] = to_rgb(colour)
    picture[..., 3] = _opacity(_passes(ts, values, axes.get_ylim(), _RASTER))
    extent = (ts[0], ts[-1], *axes.get_ylim())
    axes.imshow(
        picture,
        extent=extent,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        zorder=1,  # above the grid
    )


def _passes(
    ts: Array, values: NDArray[np.float32], ylim: tuple[float, float], size: tuple[int, int]
) -> NDArray[np.int64]:
    """How many paths pass each pixel of a picture of `size`, rows from low values to high.

    In each column of pixels a path covers the rows from where it enters to where it leaves.
    That adds one at the first row and takes one away after the last; a running sum over
    the rows then gives all paths at once.
    """
    height, width = size
    low, high = ylim
    edges = np.linspace(ts[0], ts[-1], width + 1)
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
    """As of translucent lines, laid so thick that half of what is covered is half opaque."""
    covered = counts[counts > 0]
    if not covered.size:
        return np.zeros(counts.shape)
    opacity = 1 - 0.5 ** (counts / np.median(covered))
    return np.where(counts > 0, np.maximum(opacity, _FAINTEST), 0)


# Quantiles.


def _draw_bands(
    axes: Axes, sol: Trajectory, coverage: Sequence[float], colour: str, filled: bool
) -> None:
    """The median and central bands: filled, or, to lie over filled ones, their edges."""
    ts, style = _times(sol), "-" if filled else "--"
    for share in sorted(coverage, reverse=True):
        low, high = _quantiles(sol, (0.5 - share / 2, 0.5 + share / 2))
        if filled:
            axes.fill_between(ts, low, high, color=colour, alpha=0.25, linewidth=0)
        else:
            axes.plot(ts, low, style, ts, high, style, color=colour, linewidth=1.2)
    (median,) = _quantiles(sol, (0.5,))
    shares = " and ".join(f"{share:.0%}" for share in sorted(coverage))
    label = _name(sol, f"median, and {shares} of values")
    axes.plot(ts, median, style, color=colour, linewidth=1.5, label=label)


def _quantiles(sol: Trajectory, shares: Sequence[float]) -> Array:
    """Quantiles of all values at every saved time: (len(shares), T)."""
    return np.stack([np.quantile(frame, shares) for frame in _values(sol)], 1)


def _other_quantiles(exact: Density | Trajectory, sol: Trajectory) -> list[tuple[Array, Array]]:
    if isinstance(exact, Trajectory):
        return [(_times(exact), _quantiles(exact, _QUANTILES))]
    if not callable(exact):
        raise InputError(
            f"exact = {type(exact).__name__}: expected a density (x, t) -> p(x), or a Trajectory"
        )
    return [(_times(sol), _exact_quantiles(exact, sol))]


def _exact_quantiles(density: Density, sol: Trajectory) -> Array:
    """Quantiles of a density, summed up on a fine grid around the values seen at each time."""
    columns = []
    for t, frame in zip(_times(sol), _values(sol), strict=True):
        low, high = float(frame.min()), float(frame.max())
        room = 0.5 * (high - low) + 1e-6
        grid = torch.linspace(low - room, high + room, 4001, dtype=torch.float64)
        mass = torch.as_tensor(density(grid, float(t))).detach().double().reshape(-1)
        if mass.shape != grid.shape:
            raise InputError(
                f"exact gave {tuple(mass.shape)} for {tuple(grid.shape)} values: expected one "
                "density for each"
            )
        total = mass.cumsum(0)
        columns.append(np.interp(_QUANTILES, (total / total[-1]).numpy(), grid.numpy()))
    return np.stack(columns, 1)


def _asinh_ticks(top: float) -> list[float]:
    """0 and ±1, ±3, ±10, … in the two decades below `top`."""
    decade = int(np.floor(np.log10(top)))
    ticks = [m * 10.0**k for k in (decade - 1, decade) for m in (1, 3) if m * 10.0**k < top]
    return [*(-t for t in reversed(ticks)), 0.0, *ticks]


# Tables.


def _lines(table: Iterable[Mapping[str, Any]], x: str, y: str) -> dict[str, tuple[Array, Array]]:
    """The columns x and y of each method's rows, sorted by x."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        missing = [name for name in ("method", x, y) if name not in row]
        if missing:
            raise InputError(
                f"a row has no {missing[0]!r}. Its columns: {', '.join(map(str, row))}"
            )
        points.setdefault(str(row["method"]), []).append((float(row[x]), float(row[y])))
    arrays = {name: np.array(sorted(pairs)).T for name, pairs in points.items()}
    return {name: (columns[0], columns[1]) for name, columns in arrays.items()}


def _slope(line: tuple[Array, Array]) -> float:
    """The order p of errors ~ steps⁻ᵖ, by least squares of the logarithms."""
    steps, errors = line
    good = (errors > 0) & np.isfinite(errors)
    if good.sum() < 2:
        return float("nan")
    return float(-np.polyfit(np.log(steps[good]), np.log(errors[good]), 1)[0])


def _log_lines(axes: Axes, lines: Mapping[str, tuple[Array, Array]], look: Theme) -> None:
    markers = "osD^vPX"
    for number, (name, (x, y)) in enumerate(lines.items()):
        axes.plot(
            x,
            y,
            marker=markers[number % len(markers)],
            color=look.line(number),
            markersize=4,
            linewidth=1.5,
            label=name,
        )
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(_plain())
    axes.xaxis.set_minor_formatter(_plain())


def _plain() -> LogFormatter:
    """10, 20, 50 instead of powers, where an axis spans few of them."""
    return LogFormatter(minor_thresholds=(1.5, 0.5))


# Sheets of images.


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
        figure, axes = _figure_of(ax), ax
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure, axes
