r"""Plots of the atlas: a row of axes for a network, every measure against evaluations."""

from __future__ import annotations

import math
from dataclasses import asdict

from matplotlib.figure import Figure

from diffsde.errors import InputError
from diffsde.evaluation.atlas import EXACT, Atlas
from diffsde.views.comparisons import plot_work_precision
from diffsde.views.figures import PathLike, written
from diffsde.views.style import theme

__all__ = ["plot_atlas"]

_MEASURES = {
    "error": "strong error",
    "ratio": "FID / FID of real images",
    "confident": "share of confident images",
    "moments": "error of mean and std",
    "ks": "Kolmogorov–Smirnov",
    "wasserstein": "sliced Wasserstein",
}


def plot_atlas(atlas: Atlas, path: PathLike = None, *, dark: bool = False) -> Figure:
    """The measures of one network against evaluations of the score, a line for each solver.

    The dashed line is that of exact samples, where there are some.

    Args:
        atlas: the rows of one network, as `Atlas.of` gives them.
        path: where to write the figure, if anywhere.

    Raises:
        InputError: there are rows of no network, or of several.
    """
    if len(atlas.networks) != 1:
        raise InputError(f"rows of {len(atlas.networks)} networks: expected one, as atlas.of(name)")
    records = [{**asdict(row), "method": row.name} for row in atlas.rows if row.method != EXACT]
    exact = [asdict(row) for row in atlas.rows if row.method == EXACT]
    names = [name for name in _MEASURES if any(not math.isnan(row[name]) for row in records)]
    look = theme(dark)
    figure = look.figure(5 * len(names), 5.2)
    panels = [look.dress(axes) for axes in figure.subplots(1, len(names), squeeze=False)[0]]
    for axes, name in zip(panels, names, strict=True):
        plot_work_precision(records, y=name, ax=axes, dark=dark)
        axes.set_ylabel(_MEASURES[name])
        if name == "confident":
            axes.set_yscale("linear")
        for row in exact:
            if not math.isnan(row[name]):
                axes.axhline(row[name], linestyle="--", color=look.ink)
        legend = axes.get_legend()
        if axes is not panels[0] and legend is not None:
            legend.remove()  # one legend is enough
    return written(figure, path)
