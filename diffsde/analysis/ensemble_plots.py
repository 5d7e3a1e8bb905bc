r"""A plot of an ensemble: its quantiles, with some of its paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffsde.analysis.ensembles import EnsembleSummary
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.figures import PathLike, axes_for, written
from diffsde.views.style import theme

__all__ = ["plot_ensemble"]

_PATHS = 64  # more would hide the bands


def plot_ensemble(
    summary: EnsembleSummary,
    path: PathLike = None,
    *,
    coordinate: Sequence[int],
    paths: Trajectory | None = None,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The median of one coordinate against t, filled bands between its quantiles, and paths.

    Args:
        summary: the result of `ensemble`; its levels are paired from the outside in.
        path: where to write the figure, if anywhere.
        coordinate: the index of one value of a sample, such as (0, 14, 14) in an image.
        paths: a trajectory of the same problem; its first 64 samples are drawn.

    Raises:
        InputError: a sample has no such coordinate.
    """
    shape, index = tuple(summary.mean.shape[1:]), tuple(coordinate)
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise InputError(f"coordinate = {index}: expected an index into a sample of shape {shape}")
    at: Any = (slice(None), slice(None), *index)
    look = theme(dark)
    figure, axes = axes_for(ax, look, 8, 4.5)
    _draw_quantiles(axes, summary, summary.quantiles[at].numpy(), look.line(0))
    if paths is not None:
        shown = paths.ys[:, :_PATHS].reshape(len(paths), -1, *shape)
        values = shown[at].detach().cpu().double().numpy()
        axes.plot(paths.ts.numpy(), values, color=look.ink, alpha=0.4, linewidth=0.6)
    axes.set(xlabel="t", ylabel="x(t)", xlim=(float(summary.ts[0]), float(summary.ts[-1])))
    look.legend(axes, loc="upper right")
    return written(figure, path)


def _draw_quantiles(axes: Axes, summary: EnsembleSummary, lines: NDArray[Any], colour: str) -> None:
    """Bands between pairs of the lines (levels, T), and the line in the middle if there is one."""
    ts, levels = summary.ts.numpy(), summary.levels.tolist()
    for low in range(len(levels) // 2):
        high = len(levels) - 1 - low
        label = f"{levels[low]:.0%} to {levels[high]:.0%} of {summary.n:,} samples"
        axes.fill_between(
            ts, lines[low], lines[high], color=colour, alpha=0.25, linewidth=0, label=label
        )
    if len(levels) % 2:
        middle = len(levels) // 2
        label = f"{levels[middle]:.0%}"
        axes.plot(ts, lines[middle], color=colour, linewidth=1.5, label=label)
