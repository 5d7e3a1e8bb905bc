r"""The band of an ensemble beside some of its paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.analysis.ensembles import EnsembleSummary
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.figures import PathLike, axes_for, written
from diffsde.views.style import theme

__all__ = ["plot_ensemble"]

_PATHS = 64  # drawn one by one; more hide the band


def plot_ensemble(
    summary: EnsembleSummary,
    path: PathLike = None,
    *,
    coordinate: Sequence[int],
    paths: Trajectory | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The median of one coordinate over t, filled bands between its quantiles, and paths.

    Args:
        summary: what `ensemble` returns; its levels are taken in pairs, from the outermost.
        path: where to write the figure, too.
        coordinate: the index of one value of a sample, such as (0, 14, 14) of an image.
        paths: a trajectory of the same problem, of whose samples the first 64 are drawn.

    Raises:
        InputError: a sample has no such coordinate.
    """
    shape = tuple(summary.mean.shape[1:])
    index: tuple[Any, ...] = tuple(coordinate)
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise InputError(f"coordinate = {index}: expected an index into a sample of shape {shape}")
    at = (slice(None), slice(None), *index)
    look = theme(dark)
    figure, axes = axes_for(ax, look, 8, 4.5)
    ts, lines = summary.ts.numpy(), summary.quantiles[at].numpy()
    levels = summary.levels.tolist()
    for low in range(len(levels) // 2):
        high = len(levels) - 1 - low
        label = f"{levels[low]:.0%} to {levels[high]:.0%} of {summary.n:,} samples"
        axes.fill_between(
            ts, lines[low], lines[high], color=look.line(0), alpha=0.25, linewidth=0, label=label
        )
    if len(levels) % 2:
        middle = len(levels) // 2
        label = f"{levels[middle]:.0%}"
        axes.plot(ts, lines[middle], color=look.line(0), linewidth=1.5, label=label)
    if paths is not None:
        shown = paths.ys[:, :_PATHS].reshape(len(paths), -1, *shape)
        values = shown[at].detach().double().cpu().numpy()
        axes.plot(paths.ts.numpy(), values, color=look.ink, alpha=0.4, linewidth=0.6)
    axes.set(xlabel="t", ylabel="x(t)", xlim=(ts[0], ts[-1]))
    look.legend(axes, loc="upper right")
    return written(figure, path)
