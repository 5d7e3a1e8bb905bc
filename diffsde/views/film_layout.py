r"""The layout of a film: which parts it has, and where they stand.

A film shows the time, and for each trajectory its solver, its cost so far and its states
x(t), with the estimates E[x(0) | x(t)] if the trajectory has them and a histogram of the
pixels if one is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.colors import Colormap
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import Shading, as_images, default_columns, reached, shade_limits
from diffsde.views.film_parts import MARGIN, Grid, Histogram, Paint, Part, Stack, Text
from diffsde.views.movies import Frame
from diffsde.views.style import theme

__all__ = ["Film", "Look"]

_GRID_SIDE, _FILM_WIDTH = 448, 960  # pixels that a default zoom does not exceed
_LARGEST_ZOOM = 8


@dataclass(frozen=True)
class Look:
    """The choices of `animate` about how a frame looks."""

    columns: int | None
    zoom: int | None
    title: bool
    denoised: bool
    histogram: bool
    shading: Shading
    cmap: Colormap
    dark: bool

    def __post_init__(self) -> None:
        for name in ("columns", "zoom"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and number > 0):
                raise InputError(f"{name} = {number}: expected a whole number, 1 or more")


class Film:
    """The frames of a film, one for each saved time of the longest trajectory."""

    def __init__(self, sols: list[Trajectory], look: Look) -> None:
        self.sols, self.look = sols, look
        self.base = max(sols, key=len)
        shapes = [as_images(s.ys[0], s.shape).shape for s in sols]
        self.paint = Paint(theme(look.dark), look.cmap, all(shape[1] == 1 for shape in shapes))
        self.columns = look.columns or max(default_columns(shape[0]) for shape in shapes)
        grids = sum(1 + (self._estimates(s) is not None) for s in sols)
        self.zoom = look.zoom or _default_zoom(shapes, self.columns, grids)
        self.whole = Stack(self._parts(), self.paint, down=True, gap=2, margin=MARGIN)

    @property
    def length(self) -> int:
        return len(self.base)

    @property
    def palette(self) -> Frame | None:
        return self.paint.table if self.paint.indexed else None

    def draw(self, k: int) -> Frame:
        return self.whole.draw(k)

    def samples(self) -> list[Frame]:
        """A few frames, most of them late, where there is more to see than noise."""
        return [self.draw(int(f * (self.length - 1))) for f in (0.0, 0.5, 0.8, 0.95, 1.0)]

    def _parts(self) -> list[Part]:
        """The time on top, the trajectories below."""
        blocks = [self._block(sol, number) for number, sol in enumerate(self.sols)]
        body = self._abreast(blocks)
        if not self.look.title:
            return [body]
        return [Text([_moment(self.base, k) for k in range(self.length)], self.paint), body]

    def _block(self, sol: Trajectory, number: int) -> Part:
        """One trajectory: its solver and cost, states, estimates, histogram."""
        shown = [reached(sol.ts, float(t)) for t in self.base.ts]
        block = self._images(sol, shown)
        if self.look.histogram:
            limits = shade_limits(sol, self.look.shading)
            bars = Histogram(sol, shown, limits, self.paint, block.size[0], number)
            block = Stack([block, bars], self.paint, down=False)
        return self._titled([_cost(sol, k) for k in shown], block) if self.look.title else block

    def _images(self, sol: Trajectory, shown: list[int]) -> Part:
        """The states, beside the estimates where they are shown."""
        states = self._grid(sol, sol.ys, shown, self.look.shading)
        estimates = self._estimates(sol)
        if estimates is None:
            return states
        guesses = self._grid(sol, estimates, shown, "data")
        return self._abreast(
            [self._titled(["x(t)"], states), self._titled(["E[x(0) | x(t)]"], guesses)]
        )

    def _estimates(self, sol: Trajectory) -> Tensor | None:
        return sol.denoised if self.look.denoised else None

    def _grid(self, sol: Trajectory, states: Tensor, shown: list[int], shading: Shading) -> Part:
        limits = shade_limits(sol, shading)
        return Grid(sol.shape, states, shown, limits, self.paint, self.columns, self.zoom)

    def _titled(self, lines: list[str], part: Part) -> Part:
        return Stack([Text(lines, self.paint), part], self.paint, down=True, gap=2)

    def _abreast(self, parts: list[Part]) -> Part:
        """Parts of one size side by side; wide ones stand one below the other."""
        if len(parts) == 1:
            return parts[0]
        return Stack(parts, self.paint, down=_is_wide(*parts[0].size))


def _default_zoom(shapes: list[tuple[int, ...]], columns: int, grids: int) -> int:
    width = max(columns * w for _, _, _, w in shapes)
    height = max(-(-b // columns) * h for b, _, h, _ in shapes)
    abreast = 1 if _is_wide(height, width) else grids
    fits = min(_GRID_SIDE // max(height, width), _FILM_WIDTH // (width * abreast))
    return min(max(fits, 1), _LARGEST_ZOOM)


def _is_wide(height: int, width: int) -> bool:
    """Whether parts of this size, such as rows of images, are stacked so that images align."""
    return width > 1.6 * height


def _moment(sol: Trajectory, k: int) -> str:
    noise = "" if sol.std is None else f"   s(t) = {float(sol.std[k]):.3g}"
    return f"t = {float(sol.ts[k]):.3f}{noise}"


def _cost(sol: Trajectory, k: int) -> str:
    """The solver and its total NFE, after the NFE up to state k if they were counted."""
    so_far = "" if sol.evaluations is None else f"{int(sol.evaluations[k])} of "
    return f"{sol.method} · {so_far}{sol.stats.nfe} NFE"
