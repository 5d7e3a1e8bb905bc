r"""Plots of an evaluation: quality against cost, and samples beside their nearest training images.

Like all plots, each returns its figure, and also writes it if `path` is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from diffsde.errors import InputError
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable
from diffsde.evaluation.metrics import nearest_neighbours
from diffsde.evaluation.scoring import Evaluation
from diffsde.views.display import mosaic
from diffsde.views.figures import PathLike, written
from diffsde.views.kinds import as_images
from diffsde.views.style import Theme, theme

__all__ = ["plot_evaluation", "plot_neighbours"]

_MARKERS = "osD^vPX"
_PAIRS = 12  # generated images shown with their neighbours
_PAIR_COLUMNS = 6
_MOST = 1000  # images of each kind whose neighbours are searched for


class _Measure(NamedTuple):
    """A number of an evaluation, its error, and what an axis calls it."""

    label: str
    of: Callable[[Evaluation], float]
    error: Callable[[Evaluation], float] | None = None


_RATIO = _Measure(
    "FID / FID of real images",
    lambda score: score.ratio,
    lambda score: score.fid_error / score.floor,
)
_FID = _Measure("FID", lambda score: score.fid, lambda score: score.fid_error)
_CONFIDENT = _Measure(
    "images classified with > 95 % confidence [%]", lambda score: 100 * score.confident
)
_PRECISION = _Measure("images that lie among real ones [%]", lambda score: 100 * score.precision)


def plot_evaluation(table: EvaluationTable, path: PathLike = None, *, dark: bool = False) -> Figure:
    """FID over its floor, and the share of confident images, against evaluations of the score.

    There is a line for each solver and clock, with bootstrap standard errors; the dashed lines
    are those of real training images. Where there is no floor, FID stands alone; where the
    features are not a classifier's, precision takes the place of confidence.

    Args:
        table: the result of `evaluate_samplers`.
        path: where to write the figure, if anywhere.
    """
    scores = [row.score for row in table.rows]
    distance = _FID if any(math.isnan(score.floor) for score in scores) else _RATIO
    share = _PRECISION if any(math.isnan(score.confident) for score in scores) else _CONFIDENT
    look = theme(dark)
    figure = look.figure(10, 4.2)
    left, right = (look.dress(axes) for axes in figure.subplots(1, 2))
    _draw_measure(left, table, distance, look)
    _draw_measure(right, table, share, look)
    left.set_yscale("log")
    look.legend(left)
    return written(figure, path)


def _draw_measure(axes: Axes, table: EvaluationTable, measure: _Measure, look: Theme) -> None:
    for number, (name, rows) in enumerate(_lines(table).items()):
        nfe, scores = [row.nfe for row in rows], [row.score for row in rows]
        errors = None if measure.error is None else [measure.error(score) for score in scores]
        axes.errorbar(
            nfe, [measure.of(score) for score in scores], errors, label=name,
            color=look.line(number), marker=_MARKERS[number % len(_MARKERS)], markersize=5,
            linewidth=1.5,
        )  # fmt: skip
    real = measure.of(table.real)
    axes.axhline(real, linestyle="--", color=look.ink, label="real training images")
    axes.set_ylabel(measure.label)
    _set_cost_axis(axes, table)


def _lines(table: EvaluationTable) -> dict[str, list[EvaluationRow]]:
    """The rows of each solver and clock, sorted by cost."""
    lines: dict[str, list[EvaluationRow]] = {}
    for row in table.rows:
        lines.setdefault(row.sampler.line, []).append(row)
    return {name: sorted(rows, key=lambda row: row.nfe) for name, rows in lines.items()}


def _set_cost_axis(axes: Axes, table: EvaluationTable) -> None:
    costs = sorted({row.nfe for row in table.rows})
    axes.set(xscale="log", xlabel="score evaluations (NFE)")
    axes.set_xticks(costs, [str(nfe) for nfe in costs])
    axes.set_xticks([], minor=True)


def plot_neighbours(
    samples: Mapping[str, Tensor],
    references: Tensor,
    real: Tensor,
    path: PathLike = None,
    *,
    dark: bool = False,
) -> Figure:
    """Generated images with their nearest training images, and how near these are.

    The twelve nearest pairs are shown beside a histogram of the distances, which has those of
    real images outside the training data for comparison. Copies would show as equal pairs and
    as a peak at zero. Distances are Euclidean, over pixel values, from the same number of
    images of each kind, at most the first 1,000.

    Args:
        samples: generated images, (N, C, H, W) in [0, 1], by the name of their sampler.
        references: training images, (M, C, H, W) in [0, 1].
        real: images outside the training data, (K, C, H, W) in [0, 1].
        path: where to write the figure, if anywhere.

    Raises:
        InputError: there are no samples, or the images do not all have the same shape.
    """
    kinds = {**samples, "real, unseen": real}
    shapes = {tuple(images.shape[1:]) for images in (*kinds.values(), references)}
    if not samples or len(shapes) > 1:
        raise InputError(
            f"samples of {len(samples)} samplers, images of shapes "
            f"{', '.join(map(str, sorted(shapes)))}: expected at least one sampler, and one shape"
        )
    most = min(_MOST, *map(len, kinds.values()))
    found = {name: nearest_neighbours(x[:most], references) for name, x in kinds.items()}
    found = {name: (distance.cpu(), index.cpu()) for name, (distance, index) in found.items()}
    generated = torch.cat([images[:most].cpu() for images in samples.values()])
    distance, index = (torch.cat([found[name][k] for name in samples]) for k in (0, 1))
    nearest = distance.argsort()[:_PAIRS]
    look = theme(dark)
    figure = look.figure(10, 4.2)
    pairs, histogram = (look.dress(axes) for axes in figure.subplots(1, 2))
    _draw_pairs(pairs, generated[nearest], references[index[nearest]].cpu(), look)
    _draw_distances(histogram, {name: d for name, (d, _) in found.items()}, look)
    return written(figure, path)


def _draw_distances(axes: Axes, distances: Mapping[str, Tensor], look: Theme) -> None:
    """A histogram of each kind's distances, the last kind being the real images."""
    farthest = max(float(d.max()) for d in distances.values())
    edges = np.linspace(0, max(farthest, 1.0), 41).tolist()
    for number, (name, d) in enumerate(distances.items()):
        real = number == len(distances) - 1
        axes.hist(
            d.numpy(), edges, weights=np.full(len(d), 100 / len(d)), histtype="step", linewidth=1.5,
            color=look.ink if real else look.line(number), linestyle="--" if real else "-",
            label=f"{name}: median {float(d.median()):.2f}, least {float(d.min()):.2f}",
        )  # fmt: skip
    axes.set(xlabel="distance to the nearest training image", ylabel="share of images [%]")
    # The legend needs room above the curves.
    axes.set_ylim(top=(1.15 + 0.08 * len(distances)) * axes.get_ylim()[1])
    look.legend(axes, loc="upper left")


def _draw_pairs(axes: Axes, images: Tensor, neighbours: Tensor, look: Theme) -> None:
    """Rows of images, each image above its neighbour."""
    rows = [
        row
        for pair in zip(images.split(_PAIR_COLUMNS), neighbours.split(_PAIR_COLUMNS), strict=True)
        for row in pair
    ]
    pixels = np.moveaxis(as_images(torch.cat(rows).clamp(0, 1), ()), 1, -1)
    tiles = np.broadcast_to(pixels, (*pixels.shape[:3], 3))  # grey as red, green and blue
    axes.imshow(mosaic(tiles, _PAIR_COLUMNS, 1, to_rgb(look.paper)), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title("generated, and below each its nearest training image", fontsize=9)
    axes.title.set_color(look.ink)
    axes.grid(False)
    axes.spines[:].set_visible(False)
