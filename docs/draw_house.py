"""The picture of the house: a box for each folder, from top to bottom, and lines for imports.

A line comes out of each box and runs down, with a dot at every folder that this one imports.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import make_house
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from diffsde.views import DARK, LIGHT, Theme

# Inches: a box, the gap below it, the distance of two lines, the margin.
_WIDTH, _HEIGHT, _GAP, _LANE, _MARGIN = 5.8, 0.4, 0.14, 0.26, 0.08


def draw(folder: Path) -> None:
    """Write `house-light.svg` and `house-dark.svg`."""
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        path = folder / f"house-{name}.svg"
        _picture(theme).savefig(path, transparent=True, metadata={"Date": None})


def _picture(theme: Theme) -> Figure:
    layers = make_house.layers()
    axes = _axes(len(layers))
    for row, layer in enumerate(layers):
        _box(axes, theme, row, layer)
    rows: dict[int, list[int]] = {}
    for importer, imported in sorted(make_house.imports()):
        rows.setdefault(layers.index(importer), []).append(layers.index(imported))
    for row, imported_rows in rows.items():
        _line(axes, theme, row, imported_rows)
    return axes.get_figure()


def _axes(rows: int) -> Axes:
    """Axes in inches, y downwards, that fill a figure."""
    width = _WIDTH + rows * _LANE + 2 * _MARGIN
    height = rows * (_HEIGHT + _GAP) - _GAP + 2 * _MARGIN
    axes = Figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, width - _MARGIN), ylim=(height - _MARGIN, -_MARGIN))
    axes.axis("off")
    return axes


def _middle(row: int) -> float:
    return row * (_HEIGHT + _GAP) + _HEIGHT / 2


def _box(axes: Axes, theme: Theme, row: int, layer: str) -> None:
    corner = (0.05, _middle(row) - _HEIGHT / 2 + 0.05)
    frame = FancyBboxPatch(
        corner, _WIDTH - 0.1, _HEIGHT - 0.1, boxstyle="round,pad=0.05",
        facecolor="none", edgecolor=theme.muted,
    )  # fmt: skip
    axes.add_patch(frame)
    name = layer.removeprefix("diffsde.")
    axes.text(0.12, _middle(row), name, color=theme.ink, weight="bold", fontsize=10, va="center")
    axes.text(1.15, _middle(row), _idea(layer), color=theme.ink, fontsize=9, va="center")


def _idea(layer: str) -> str:
    """The title without the folder's name, in one line or two."""
    title = make_house.title(layer).replace("`", "")
    return textwrap.fill(title.partition(": ")[2] or title, 64, break_long_words=False)


def _line(axes: Axes, theme: Theme, row: int, imported_rows: list[int]) -> None:
    """Out of the folder that imports and down, with a dot at each folder that it imports."""
    x = _WIDTH + (row + 0.8) * _LANE
    colour = theme.line(row)
    corners = [_middle(row), _middle(row), _middle(max(imported_rows))]
    axes.plot([_WIDTH, x, x], corners, color=colour, linewidth=1.4, zorder=2)
    for imported in imported_rows:
        y = _middle(imported)
        axes.plot([_WIDTH, x], [y, y], color=theme.grid, linewidth=0.8, zorder=1)
        axes.plot([x], [y], "o", color=colour, markersize=6, zorder=3)
