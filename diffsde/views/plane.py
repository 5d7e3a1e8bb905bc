r"""Points in the plane: their paths, over the density in which they end.

The second coordinate is drawn against the first, with one scale on both axes. The density is
that of the samples, smoothed, or an exact one; its shades span zero to its peak.

Where noise explodes, the data are a spot in the middle of the paths. `scale="relative"` draws
the paths as they move through the view of a film (see `film_view`), which narrows as the noise
fades:

    c + (x(t) − c) r / (r + 2.5 s(t)),

with c the middle of the data and r half their extent. The ends stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import trajectories
from diffsde.views.figures import Array, PathLike, axes_for, caption, name_of, written
from diffsde.views.film_view import View
from diffsde.views.kinds import is_plane
from diffsde.views.style import Theme, theme

__all__ = ["HasDensity", "plot_plane"]

_SCALES = ("linear", "relative")
_PATHS, _ENDS = 16, 1000  # of all trajectories together
_ROOM = 1.08  # of the extent of what is drawn
_CELLS = 160  # of the density, across
_CHUNK = 4096  # cells at once
_SMOOTHING = 0.5  # of Scott's bandwidth, which is too wide for several modes


class HasDensity(Protocol):
    """A score that knows its density, such as `GaussianScore` or `MixtureScore`."""

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """log p_t(x), (B,), of x (B, 2)."""
        ...


def plot_plane(
    sol: Trajectory | Sequence[Trajectory],
    path: PathLike = None,
    *,
    exact: HasDensity | None = None,
    scale: str = "linear",
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Paths of points in the plane, over the density in which they end.

    A few paths are drawn as lines, 16 in all, with a ring where each begins; the ends of up to
    1,000 samples are dots. Both are shared among the trajectories.

    Args:
        sol: a trajectory of states (B, 2), or several.
        path: where to write the figure, if anywhere.
        exact: a score with `log_prob(x, t)`, whose density at the last time of the first
            trajectory is drawn; by default it is the density of that one's last states.
        scale: "linear", or "relative" for paths relative to the noise, which then does not
            dwarf the data: see the module.

    Raises:
        InputError: the states are not points in the plane; the scale is unknown, or "relative"
            for a trajectory without s(t); or `exact` has no `log_prob` that returns one finite
            number for each point.
    """
    sols, look = trajectories(sol), theme(dark)
    _check(sols, exact, scale)
    view = View(sols, "envelope" if scale == "relative" else "data", 2)
    paths = [view.followed(one) for one in sols]
    lines = [_some(p, _PATHS // len(sols)) for p in paths]
    ends = [_some(p[-1:], _ENDS // len(sols))[0] for p in paths]
    limits = _limits([*lines, *ends])
    x, y = (low + (high - low) * (np.arange(_CELLS) + 0.5) / _CELLS for low, high in limits)
    density = _smoothed(paths[0][-1], x, y) if exact is None else _exact(exact, sols[0], x, y)
    figure, axes = axes_for(ax, look, 6, 6.6 + 0.25 * len(sols))
    _draw_density(axes, density, limits, look)
    for number, one in enumerate(sols):
        _draw_paths(axes, one, lines[number], ends[number], look, number)
    axes.set(xlim=limits[0], ylim=limits[1], xlabel="x₁", ylabel="x₂")
    axes.set_box_aspect(1)
    look.legend(axes, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    if ax is None:
        caption(figure, _explained(sols[0], exact, scale), look)
    return written(figure, path)


def _check(sols: Sequence[Trajectory], exact: HasDensity | None, scale: str) -> None:
    if scale not in _SCALES:
        raise InputError(f"scale = {scale!r}: {name_list(str(scale), _SCALES)}")
    for one in sols:
        if not is_plane(one):
            raise InputError(
                f"states of shape {tuple(one.ys.shape[1:])} are not points in the plane: expected "
                "(B, 2). plot_paths shows any states; for two coordinates of more, pass "
                "dataclasses.replace(sol, ys=sol.ys[..., :2], shape=(2,))"
            )
        if scale == "relative" and one.std is None:
            raise InputError(
                f"scale = 'relative': the trajectory of {one.method!r} has no s(t), because its "
                "equation comes from no forward SDE; take scale='linear'"
            )
    if exact is not None and not callable(getattr(exact, "log_prob", None)):
        raise InputError(
            f"exact = {type(exact).__name__}: expected a score with log_prob(x, t), such as "
            "MixtureScore"
        )


def _some(paths: Array, most: int) -> Array:
    """Some of the paths (T, B, 2), evenly chosen, but at least one."""
    count = paths.shape[1]
    return paths[:, np.linspace(0, count - 1, min(max(most, 1), count)).astype(int)]


def _limits(drawn: Sequence[Array]) -> list[tuple[float, float]]:
    """Those of x and y: a square with room for everything."""
    points = np.concatenate([part.reshape(-1, 2) for part in drawn])
    points = points[~np.isnan(points).any(1)]
    if not len(points):
        return [(-1.0, 1.0), (-1.0, 1.0)]
    low, high = points.min(0), points.max(0)
    half = _ROOM * float((high - low).max()) / 2 or 1.0
    return [(middle - half, middle + half) for middle in ((low + high) / 2).tolist()]


def _smoothed(points: Array, x: Array, y: Array) -> Array:
    """The density of points (B, 2) at the cells, up to a factor: (y, x)."""
    points = points[~np.isnan(points).any(1)]
    if not len(points):
        return np.zeros((len(y), len(x)))
    width = _SMOOTHING * len(points) ** (-1 / 6) * points.std(0).max()
    width = max(width, float(x[1] - x[0]))
    # The kernel is the product of one in x and one in y, so the sum is a product of matrices.
    across, upwards = (
        np.exp(-0.5 * ((cells[:, None] - values) / width) ** 2)
        for cells, values in ((x, points[:, 0]), (y, points[:, 1]))
    )
    density: Array = upwards @ across.T
    return density


def _exact(score: HasDensity, sol: Trajectory, x: Array, y: Array) -> Array:
    """Its density at the cells and the last saved time, relative to the peak: (y, x)."""
    columns, rows = np.meshgrid(x, y)
    cells = torch.from_numpy(np.stack([columns.ravel(), rows.ravel()], 1)).to(sol.final)
    with torch.no_grad():
        parts = [score.log_prob(part, float(sol.ts[-1])) for part in cells.split(_CHUNK)]
    shapes = {(tuple(p.shape), len(c)) for p, c in zip(parts, cells.split(_CHUNK), strict=True)}
    logs = torch.cat([p.reshape(-1) for p in parts]).double().cpu()
    if any(shape != (count,) for shape, count in shapes) or not bool(torch.isfinite(logs).all()):
        raise InputError(
            f"exact.log_prob returned {' and '.join(str(s) for s, _ in shapes)} for x of shape "
            f"({_CHUNK}, 2): expected one finite number for each point"
        )
    density: Array = (logs - logs.max()).exp().reshape(len(y), len(x)).numpy()
    return density


def _draw_density(
    axes: Axes, density: Array, limits: list[tuple[float, float]], look: Theme
) -> None:
    """In shades of grey above the grid, from which the colours of paths stand out."""
    shades = LinearSegmentedColormap.from_list("", [to_rgba(look.muted, a) for a in (0, 1)])
    extent = (*limits[0], *limits[1])
    axes.imshow(density, cmap=shades, vmin=0, origin="lower", extent=extent, zorder=0.6)


def _draw_paths(
    axes: Axes, sol: Trajectory, paths: Array, ends: Array, look: Theme, number: int
) -> None:
    colour, count = look.line(number), sol.ys.shape[1]
    shown = paths.shape[1]
    label = f"{count:,} paths" if shown == count else f"{shown} of {count:,} paths"
    axes.plot([], [], color=colour, linewidth=2, label=name_of(sol, label))
    segments = list(paths.swapaxes(0, 1))
    axes.add_collection(LineCollection(segments, colors=colour, alpha=0.6, linewidths=0.6))
    dots: dict[str, Any] = {"marker": "o", "linestyle": "", "color": colour}
    axes.plot(*paths[0].T, markersize=4, markerfacecolor="none", markeredgewidth=0.8, **dots)
    axes.plot(*ends.T, markersize=3, markeredgecolor=look.paper, markeredgewidth=0.3, **dots)


def _explained(sol: Trajectory, exact: HasDensity | None, scale: str) -> str:
    what = "smoothed density of the last states" if exact is None else "exact density"
    said = f"Rings: beginnings. Dots: ends. Grey: the {what}, t = {float(sol.ts[-1]):.3g}."
    return f"{said}\nAll paths are drawn relative to the noise." if scale == "relative" else said
