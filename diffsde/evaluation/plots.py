r"""Pictures of an evaluation: quality against cost, and copies of the training images.

As all plots here, each returns its figure, and writes it where `path` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from diffsde.errors import InputError
from diffsde.evaluation.metrics import nearest_neighbours
from diffsde.evaluation.samplers import EvaluationRow, EvaluationTable
from diffsde.views.display import as_images, mosaic
from diffsde.views.figures import PathLike, written
from diffsde.views.style import Theme, theme

__all__ = ["plot_evaluation", "plot_neighbours"]

_MARKERS = "osD^vPX"
_PAIRS = 12  # images shown beside their neighbours
_MOST = 1000  # images whose neighbours are sought


def plot_evaluation(table: EvaluationTable, path: PathLike = None, *, dark: bool = False) -> Figure:
    """FID over its floor, and the share of confident digits, against evaluations of the score.

    A line for each solver and clock, with bootstrap standard errors; the dashed lines are real
    training images.

    Args:
        table: what `evaluate_samplers` returns.
        path: where to write the figure, too.
    """
    look = theme(dark)
    figure = look.figure(10, 4.2)
    ratio, confident = (look.dress(axes) for axes in figure.subplots(1, 2))
    lines: dict[str, list[EvaluationRow]] = {}
    for row in table.rows:
        lines.setdefault(row.sampler.line, []).append(row)
    for number, (name, rows) in enumerate(lines.items()):
        rows.sort(key=lambda row: row.nfe)
        nfe, scores = [row.nfe for row in rows], [row.score for row in rows]
        style: dict[str, Any] = {
            "color": look.line(number),
            "marker": _MARKERS[number % len(_MARKERS)],
            "markersize": 5,
            "linewidth": 1.5,
        }
        errors = [score.fid_error / score.floor for score in scores]
        ratio.errorbar(nfe, [s.ratio for s in scores], errors, label=name, **style)
        confident.plot(nfe, [100 * s.confident for s in scores], **style)
    ratio.axhline(table.real.ratio, linestyle="--", color=look.ink, label="real training images")
    confident.axhline(100 * table.real.confident, linestyle="--", color=look.ink)
    ratio.set(yscale="log", ylabel="FID / FID of real images")
    confident.set(ylabel="digits classified with > 95 % confidence [%]")
    for axes in (ratio, confident):
        axes.set(xscale="log", xlabel="score evaluations (NFE)")
        costs = sorted({row.nfe for row in table.rows})
        axes.set_xticks(costs, [str(n) for n in costs])
        axes.set_xticks([], minor=True)
    look.legend(ratio)
    return written(figure, path)


def plot_neighbours(
    samples: Mapping[str, Tensor],
    references: Tensor,
    real: Tensor,
    path: PathLike = None,
    *,
    dark: bool = False,
) -> Figure:
    """Generated images beside the training images nearest to them, the nearest pairs first, and
    how near they are, against real images that were never trained on.

    Copies would show as equal pairs, and as a peak at zero. Distances are Euclidean, in pixels,
    of as many images of each kind, at most the first 1,000.

    Args:
        samples: generated images, (N, C, H, W) in [0, 1], by the name of their sampler.
        references: training images, (M, C, H, W) in [0, 1].
        real: images that were not trained on, (K, C, H, W) in [0, 1].
        path: where to write the figure, too.

    Raises:
        InputError: no images, or of several shapes.
    """
    kinds = {**samples, "real, unseen": real}
    shapes = {tuple(images.shape[1:]) for images in (*kinds.values(), references)}
    if not samples or len(shapes) > 1:
        raise InputError(
            f"samples of {len(samples)} samplers, images of shapes "
            f"{', '.join(map(str, sorted(shapes)))}: expected some, and one shape"
        )
    most = min(_MOST, *map(len, kinds.values()))
    found = {name: nearest_neighbours(x[:most], references) for name, x in kinds.items()}
    generated = torch.cat([images[:most] for images in samples.values()])
    distance, index = (torch.cat([found[name][k] for name in samples]) for k in (0, 1))
    nearest = distance.argsort()[:_PAIRS]
    look = theme(dark)
    figure = look.figure(10, 4.2)
    pairs, histogram = (look.dress(axes) for axes in figure.subplots(1, 2))
    _draw_pairs(pairs, generated[nearest], references[index[nearest]], look)
    farthest = max(float(d.max()) for d, _ in found.values())
    edges = np.linspace(0, max(farthest, 1.0), 41).tolist()
    for number, (name, (d, _)) in enumerate(found.items()):
        last = name not in samples
        histogram.hist(
            d.numpy(), edges, weights=np.full(most, 100 / most), histtype="step", linewidth=1.5,
            color=look.ink if last else look.line(number), linestyle="--" if last else "-",
            label=f"{name}: median {float(d.median()):.2f}, least {float(d.min()):.2f}",
        )  # fmt: skip
    histogram.set(xlabel="distance to the nearest training image", ylabel="share of images [%]")
    histogram.set_ylim(top=(1.15 + 0.08 * len(found)) * histogram.get_ylim()[1])  # the legend's
    look.legend(histogram, loc="upper left")
    return written(figure, path)


def _draw_pairs(axes: Axes, images: Tensor, neighbours: Tensor, look: Theme) -> None:
    """Six columns of images, each above its neighbour."""
    columns = 6
    rows = [
        part
        for start in range(0, len(images), columns)
        for part in (images[start : start + columns], neighbours[start : start + columns])
    ]
    pixels = np.moveaxis(as_images(torch.cat(rows).clamp(0, 1), ()), 1, -1)
    tiles = np.broadcast_to(pixels, (*pixels.shape[:3], 3))  # grey as red, green and blue
    axes.imshow(mosaic(tiles, columns, 1, to_rgb(look.paper)), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title("generated, and below each its nearest training image", fontsize=9)
    axes.title.set_color(look.ink)
    axes.grid(False)
    axes.spines[:].set_visible(False)
