r"""The law of all values at every t: bands of quantiles, and densities as a heat map.

A solver's samples have the right marginals if these agree at every t with the exact ones, with
those of the forward process, or with another solver's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import trajectories
from diffsde.views.figures import (
    Array,
    PathLike,
    asinh_axis,
    axes_for,
    name_of,
    time_axis,
    times_of,
    values_of,
    written,
)
from diffsde.views.paths import draw_envelopes, envelopes
from diffsde.views.style import Theme, theme

__all__ = ["plot_bands", "plot_marginals"]

Density = Callable[[Tensor, float], Tensor]

_LINEAR = 0.5  # half the data's range, beyond which the marginals' value axis is logarithmic
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def plot_bands(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    envelope: str | None = "std",
    *,
    coverage: Sequence[float] = (0.5, 0.9),
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Quantiles of all values against t: the median, and bands around it.

    The first trajectory's bands are filled; those of the others are drawn as dashed edges, so
    where marginals are equal the edges coincide.

    Args:
        sol: a trajectory of any states, or several.
        path: where to write the figure, if anywhere.
        envelope: as in `plot_paths`.
        coverage: the share of values in each band, between 0 and 1.

    Raises:
        InputError: there is no trajectory, the envelope is unknown, or a share is out of range.
    """
    wrong = [c for c in coverage if not 0 < c < 1]
    if wrong:
        raise InputError(f"coverage = {wrong[0]}: expected shares between 0 and 1")
    sols, look = trajectories(sol), theme(dark)
    curves = envelopes(sols[0], envelope)
    figure, axes = axes_for(ax, look, 8, 4.5)
    for number, one in enumerate(sols):
        _draw_bands(axes, one, coverage, look.line(number), filled=number == 0)
    time_axis(axes, sols[0])
    axes.set_ylabel("x(t)")
    draw_envelopes(axes, times_of(sols[0]), curves, look)
    look.legend(axes, loc="upper right")
    return written(figure, path)


def plot_marginals(
    sol: Trajectory,
    path: PathLike = None,
    *,
    exact: Density | Trajectory | None = None,
    bins: int = 160,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """The density of all values at every t as a heat map, with quantiles drawn over it.

    The value axis is linear near zero and logarithmic far out (asinh), so that both the noise
    of the first times and the data of the last are visible. The density at each time is drawn
    relative to its own peak. The lines are the 5, 25, 50, 75 and 95 % quantiles, and those of
    `exact` are dashed: where marginals are equal the dashes lie on the lines.

    Args:
        sol: a trajectory of any states.
        path: where to write the figure, if anywhere.
        exact: what to compare with: a density `(x, t) -> p(x)` of one value, with x of shape
            (N,), or another trajectory, such as the forward process or another solver's.
        bins: the number of bins on the value axis.

    Raises:
        InputError: `exact` is neither, or does not give one density per value.
    """
    look = theme(dark)
    figure, axes = axes_for(ax, look, 8, 4.5)
    curves = [_Quantiles(name_of(sol, "quantiles"), times_of(sol), quantiles_of(sol, _QUANTILES))]
    if exact is not None:
        curves.append(_quantiles_to_meet(exact, sol))
    top = 1.6 * max(np.nanmax(np.abs(curve.values)) for curve in curves)
    asinh_axis(axes.yaxis, _LINEAR, top)
    _draw_density(axes, sol, top, bins, look)
    _draw_quantiles(axes, curves[0], color=look.ink, linewidth=0.9)
    for curve in curves[1:]:
        _draw_quantiles(axes, curve, linestyle="--", color=look.line(1), linewidth=1.8)
    time_axis(axes, sol)
    axes.grid(False)
    axes.set_ylabel("x(t)")
    look.legend(axes, loc="upper right")
    return written(figure, path)


def _draw_bands(
    axes: Axes, sol: Trajectory, coverage: Sequence[float], colour: str, filled: bool
) -> None:
    """The median and the central bands, either filled or, on top of filled ones, as edges."""
    ts, style = times_of(sol), "-" if filled else "--"
    for share in sorted(coverage, reverse=True):
        low, high = quantiles_of(sol, (0.5 - share / 2, 0.5 + share / 2))
        if filled:
            axes.fill_between(ts, low, high, color=colour, alpha=0.25, linewidth=0)
        else:
            axes.plot(ts, low, style, ts, high, style, color=colour, linewidth=1.2)
    (median,) = quantiles_of(sol, (0.5,))
    shares = " and ".join(f"{share:.0%}" for share in sorted(coverage))
    label = name_of(sol, f"median, and {shares} of values")
    axes.plot(ts, median, style, color=colour, linewidth=1.5, label=label)


def quantiles_of(sol: Trajectory, shares: Sequence[float]) -> Array:
    """Quantiles of all values at every saved time: (len(shares), T)."""
    return np.stack([np.quantile(frame, shares) for frame in values_of(sol)], 1)


class _Quantiles(NamedTuple):
    """The quantiles (Q, T) of a law at times (T,)."""

    name: str
    ts: Array
    values: Array


def _draw_quantiles(axes: Axes, curve: _Quantiles, **style: Any) -> None:
    for number, line in enumerate(curve.values):
        axes.plot(curve.ts, line, label=curve.name if number == 0 else None, **style)


def _draw_density(axes: Axes, sol: Trajectory, top: float, bins: int, look: Theme) -> None:
    """Histograms of all values at every time, in bins of equal height on the asinh axis."""
    edges = np.sinh(np.linspace(-1, 1, bins + 1) * np.arcsinh(top / _LINEAR)) * _LINEAR
    counts = np.stack([np.histogram(frame, edges, density=True)[0] for frame in values_of(sol)])
    axes.pcolormesh(
        times_of(sol),
        (edges[1:] + edges[:-1]) / 2,
        (counts / counts.max(1, keepdims=True)).T,
        cmap=look.density_map(),
        shading="nearest",
        rasterized=True,
    )


def _quantiles_to_meet(exact: Density | Trajectory, sol: Trajectory) -> _Quantiles:
    if isinstance(exact, Trajectory):
        name = name_of(exact, "quantiles")
        return _Quantiles(name, times_of(exact), quantiles_of(exact, _QUANTILES))
    if not callable(exact):
        raise InputError(
            f"exact = {type(exact).__name__}: expected a density (x, t) -> p(x), or a Trajectory"
        )
    return _Quantiles("exact quantiles", times_of(sol), _exact_quantiles(exact, sol))


def _exact_quantiles(density: Density, sol: Trajectory) -> Array:
    """Quantiles of a density, integrated on a fine grid around the values seen at each time."""
    columns = []
    for t, frame in zip(times_of(sol), values_of(sol), strict=True):
        low, high = float(frame.min()), float(frame.max())
        room = 0.5 * (high - low) + 1e-6
        grid = torch.linspace(low - room, high + room, 4001, dtype=torch.float64)
        mass = torch.as_tensor(density(grid, float(t))).detach().double().reshape(-1)
        if mass.shape != grid.shape:
            raise InputError(
                f"exact returned shape {tuple(mass.shape)} for values of shape "
                f"{tuple(grid.shape)}: expected one density for each"
            )
        total = mass.cumsum(0)
        columns.append(np.interp(_QUANTILES, (total / total[-1]).numpy(), grid.numpy()))
    return np.stack(columns, 1)
