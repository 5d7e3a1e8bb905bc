r"""The look of plots: two themes, light and dark.

Lines have the colours of Okabe and Ito, which people with any of the common colour vision
deficiencies can tell apart (https://jfly.uni-koeln.de/color/); densities have a colour map
that can be read by its lightness alone. A theme changes only the figures that this package
makes, not matplotlib's global settings; `Theme.rc` gives the same look to your own figures:

    with matplotlib.rc_context(diffsde.views.style.DARK.rc()):
        ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from diffsde.system.numbers import truth_value
from diffsde.views.shown_figure import ShownFigure

__all__ = ["DARK", "LIGHT", "Theme", "theme"]


@dataclass(frozen=True)
class Theme:
    """The colours of a figure.

    Attributes:
        name: "light" or "dark".
        paper: the background.
        ink: text and reference lines.
        muted: spines and ticks.
        grid: grid lines, barely visible.
        lines: the colours of data, in order of use.
        density: the stops of the colour map of densities, from zero to high.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    lines: tuple[str, ...]
    density: tuple[str, ...]

    def density_map(self) -> LinearSegmentedColormap:
        """The colour map of densities."""
        return LinearSegmentedColormap.from_list(f"diffsde-{self.name}", list(self.density))

    def line(self, index: int) -> str:
        """The colour of the line with this index; after the last colour they repeat."""
        return self.lines[index % len(self.lines)]

    def figure(self, width: float, height: float) -> ShownFigure:
        """An empty figure, width by height in inches, which pyplot does not know about."""
        return ShownFigure(figsize=(width, height), layout="constrained", facecolor=self.paper)

    def dress(self, axes: Axes) -> Axes:
        """Give axes this theme's colours, ticks and grid."""
        axes.set_facecolor(self.paper)
        axes.set_axisbelow(True)
        axes.grid(True, color=self.grid, linewidth=0.8)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(self.muted)
        axes.tick_params(which="both", color=self.muted, labelcolor=self.ink, labelsize=9)
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
            text.set_color(self.ink)
        return axes

    def legend(self, axes: Axes, **where: Any) -> None:
        """A legend of everything that has a label, if anything has one."""
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, labelcolor=self.ink, fontsize=9, **where)

    def rc(self) -> dict[str, Any]:
        """This theme as settings for `matplotlib.rc_context`."""
        return {
            "figure.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "axes.edgecolor": self.muted,
            "axes.labelcolor": self.ink,
            "axes.titlecolor": self.ink,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=self.lines),
            "grid.color": self.grid,
            "text.color": self.ink,
            "xtick.color": self.muted,
            "xtick.labelcolor": self.ink,
            "ytick.color": self.muted,
            "ytick.labelcolor": self.ink,
            "legend.frameon": False,
        }


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1b1f24",
    muted="#8a9099",
    grid="#e9ebee",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    density=("#ffffff", "#c3dbec", "#7fb2d6", "#3b86bd"),
)

DARK = Theme(
    name="dark",
    paper="#14171b",
    ink="#e8eaed",
    muted="#7b828c",
    grid="#262b31",
    lines=("#56b4e9", "#f0883e", "#2fc79a", "#e39fc6", "#f0e442", "#9fb7ff"),
    density=("#14171b", "#1b3a57", "#2a6593", "#3f8cc4"),
)


def theme(dark: bool) -> Theme:
    """The dark theme or the light one."""
    return DARK if truth_value(dark, "dark") else LIGHT
