r"""Comparisons: the steps, evaluations, errors and losses of solvers and of training runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import trajectories
from diffsde.views.figures import Array, PathLike, axes_for, time_axis, times_of, written
from diffsde.views.style import Theme, theme

__all__ = ["plot_convergence", "plot_losses", "plot_steps", "plot_work_precision"]

_INSIDE = 12  # lines that a legend inside the axes has room for
_COLUMN = 20  # lines in a column of a legend beside the axes


def plot_steps(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The step size |Δt| against t, and the number of score evaluations (NFE) by then, dashed.

    The steps are those between saved times, which are the solver's own if every state was
    saved. A rejected step shows as a jump in the NFE. If one of the trajectories, such as a
    user's own, has no count of its evaluations, the dashed lines count steps instead.

    Args:
        sol: a trajectory of any states, or several.
        path: where to write the figure, if anywhere.
    """
    sols, look = trajectories(sol), theme(dark)
    figure, axes = axes_for(ax, look, 8, 4)
    spent = axes.twinx()
    if ax is None:
        look.dress(spent).grid(False)
    counts = [one.evaluations for one in sols if one.evaluations is not None]
    counted = len(counts) == len(sols)
    for number, one in enumerate(sols):
        _draw_step_sizes(axes, one, look.line(number))
        dashed = counts[number].numpy() if counted else np.arange(len(one))
        spent.plot(times_of(one), dashed, "--", color=look.line(number), linewidth=1)
    time_axis(axes, sols[0])
    axes.set_yscale("log")
    axes.set_ylabel("step size |Δt|")
    spent.set_ylabel("NFE (dashed)" if counted else "steps taken (dashed)")
    spent.set_ylim(bottom=0)
    look.legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return written(figure, path)


def plot_work_precision(
    table: Iterable[Mapping[str, Any]],
    path: PathLike = None,
    *,
    x: str = "nfe",
    y: str = "error",
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Error against work on logarithmic axes, a line per method: further down and left is better.

    With more than a dozen lines the legend stands beside the axes and the figure is wider.

    Args:
        table: rows with the columns `method`, `x` and `y`.
        path: where to write the figure, if anywhere.
        x, y: the names of the columns to plot.

    Raises:
        InputError: a row lacks a column.
    """
    look, lines = theme(dark), _lines(table, x, y)
    columns = math.ceil(len(lines) / _COLUMN) if len(lines) > _INSIDE else 0
    figure, axes = axes_for(ax, look, 7 + 2 * columns, 4.5)
    _log_lines(axes, lines, look)
    names = {"nfe": "score evaluations (NFE)", "seconds": "seconds"}
    axes.set(xlabel=names.get(x, x), ylabel=y)
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1), "ncols": columns} if columns else {}
    look.legend(axes, **beside)
    return written(figure, path)


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
    """Error against the number of steps on logarithmic axes, with orders of convergence.

    The legend gives each method's order, fitted to all of its points; a dotted line with the
    slope that `orders` gives for a method starts at its first point.

    Args:
        table: rows with the columns `method`, `x` and `y`.
        path: where to write the figure, if anywhere.
        x, y: the names of the columns to plot; x counts steps.
        orders: the expected orders by the methods' names.

    Raises:
        InputError: a row lacks a column.
    """
    look = theme(dark)
    figure, axes = axes_for(ax, look, 7, 4.5)
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
    return written(figure, path)


def plot_losses(
    losses: Sequence[tuple[int, float]],
    path: PathLike = None,
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The training loss against the number of updates.

    Args:
        losses: pairs of an update's number and its loss.
        path: where to write the figure, if anywhere.
    """
    look = theme(dark)
    figure, axes = axes_for(ax, look, 6, 4)
    updates, values = zip(*losses, strict=True) if losses else ((), ())
    axes.plot(updates, values, color=look.line(0), linewidth=1.5)
    axes.set(xlabel="update", ylabel="loss", yscale="log")
    axes.yaxis.set_major_formatter(_plain())
    axes.yaxis.set_minor_formatter(_plain())
    return written(figure, path)


def _draw_step_sizes(axes: Axes, sol: Trajectory, colour: str) -> None:
    ts, stats = times_of(sol), sol.stats
    rejected = f", {stats.rejected} rejected" if stats.rejected else ""
    label = f"{sol.method}: {stats.steps} steps{rejected}, {stats.nfe} NFE"
    # Each time has the size of the step that starts there; the last time repeats the last size.
    sizes = np.abs(np.diff(ts))
    sizes = np.append(sizes, sizes[-1:])
    axes.step(ts[: len(sizes)], sizes, where="post", color=colour, linewidth=1.5, label=label)


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
    """The order p in error ~ steps⁻ᵖ, by least squares on the logarithms."""
    steps, errors = line
    good = (errors > 0) & np.isfinite(errors)
    if good.sum() < 2:
        return float("nan")
    return float(-np.polyfit(np.log(steps[good]), np.log(errors[good]), 1)[0])


def _log_lines(axes: Axes, lines: Mapping[str, tuple[Array, Array]], look: Theme) -> None:
    markers = "osD^vPX"
    strokes = ("-", (0, (4, 1)), (0, (1, 1)))  # the next where the colours begin again
    for number, (name, (x, y)) in enumerate(lines.items()):
        axes.plot(
            x,
            y,
            marker=markers[number % len(markers)],
            linestyle=strokes[number // len(look.lines) % len(strokes)],
            color=look.line(number),
            markersize=4,
            linewidth=1.5,
            label=name,
        )
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(_plain())
    axes.xaxis.set_minor_formatter(_plain())


def _plain() -> LogFormatter:
    """Labels such as 10, 20, 50 instead of powers of ten, for an axis that spans few of them."""
    return LogFormatter(minor_thresholds=(1.5, 0.5))
