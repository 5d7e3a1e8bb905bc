r"""The layout of a film: which parts it has, and where they stand.

A film shows the time, and for each trajectory what was solved and how, the cost so far and the
states x(t), as images, points in the plane or signals, with the estimates E[x(0) | x(t)] if the
trajectory has them and a histogram of the pixels if one is asked for. Trajectories stand side by
side as far as there is room.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.colors import Colormap
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.numbers import truth_value, whole_number
from diffsde.views.display import Shading, reached, shade_limits, title_of
from diffsde.views.film_fit import MOST_SIGNALS, WIDEST, fit_images, fit_plane, fit_signals, is_wide
from diffsde.views.film_parts import MARGIN, Grid, Histogram, Paint, Part, Stack, Text
from diffsde.views.film_plane import Plane
from diffsde.views.film_signals import Signals
from diffsde.views.film_view import View
from diffsde.views.kinds import IMAGES, PLANE, SIGNALS, as_images, common_kind
from diffsde.views.movies import Frame
from diffsde.views.style import theme

__all__ = ["Film", "Look"]

_Make = Callable[[Trajectory, Tensor, int, list[int], Shading], Part]
"""From a trajectory, its states or estimates, its number, the saved state of each frame and what
is to be spanned, to a part of the film."""

_APART = 3 * MARGIN  # between trajectories


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
            if number is not None:
                object.__setattr__(self, name, whole_number(number, name))
        for name in ("title", "denoised", "histogram"):
            truth_value(getattr(self, name), name)

    def refuse(self, *names: str, kind: str) -> None:
        """Refuse choices that states of this kind do not have."""
        for name in names:
            if getattr(self, name):
                raise InputError(
                    f"{name} = {getattr(self, name)}: films of {kind} do not have this; leave it "
                    "out"
                )


class Film:
    """The frames of a film, one for each saved time of the longest trajectory."""

    def __init__(self, sols: list[Trajectory], look: Look) -> None:
        self.sols, self.look = sols, look
        self.base = max(sols, key=len)
        kinds = 2 if any(self._estimates(s) is not None for s in sols) else 1
        plans = {
            IMAGES: self._plan_images, PLANE: self._plan_planes, SIGNALS: self._plan_signals
        }  # fmt: skip
        self._part = plans[common_kind(sols)](kinds)
        self.whole = Stack(self._parts(), self.paint, down=True, gap=2, margin=MARGIN)

    def _plan_images(self, kinds: int) -> _Make:
        look = self.look
        shapes = [as_images(s.ys[0], s.shape).shape for s in self.sols]
        self.paint = Paint(theme(look.dark), look.cmap, all(shape[1] == 1 for shape in shapes))
        columns, zoom = fit_images(shapes, kinds, look.columns, look.zoom)

        def part(
            sol: Trajectory, states: Tensor, number: int, shown: list[int], shading: Shading
        ) -> Part:
            limits = shade_limits(sol, shading)
            return Grid(sol.shape, states, shown, limits, self.paint, columns, zoom)

        return part

    def _plan_planes(self, kinds: int) -> _Make:
        self.look.refuse("columns", "zoom", "histogram", kind=PLANE)
        self.paint = Paint(theme(self.look.dark), self.look.cmap, indexed=True)
        side = fit_plane(kinds * len(self.sols))

        def part(
            sol: Trajectory, states: Tensor, number: int, shown: list[int], shading: Shading
        ) -> Part:
            view = View(self.sols, shading, 2)
            return Plane(sol, states, shown, view, self.paint, side, number)

        return part

    def _plan_signals(self, kinds: int) -> _Make:
        self.look.refuse("zoom", "histogram", kind=SIGNALS)
        self.paint = Paint(theme(self.look.dark), self.look.cmap, indexed=True)
        count = min(max(s.ys.shape[1] for s in self.sols), MOST_SIGNALS)
        cells = fit_signals(count, kinds * len(self.sols), self.look.columns)

        def part(
            sol: Trajectory, states: Tensor, number: int, shown: list[int], shading: Shading
        ) -> Part:
            view = View(self.sols, shading, 1)
            return Signals(sol, states, shown, view, self.paint, cells, number)

        return part

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
        body = self._in_rows(blocks)
        if not self.look.title:
            return [body]
        return [Text([_moment(self.base, k) for k in range(self.length)], self.paint), body]

    def _block(self, sol: Trajectory, number: int) -> Part:
        """One trajectory: its names and cost, states, estimates, histogram."""
        shown = [reached(sol.ts, float(t)) for t in self.base.ts]
        block = self._states(sol, number, shown)
        if self.look.histogram:
            limits = shade_limits(sol, self.look.shading)
            bars = Histogram(sol, shown, limits, self.paint, block.size[0], number)
            block = Stack([block, bars], self.paint, down=len(self.sols) > 1)
        return self._headed(sol, shown, block) if self.look.title else block

    def _headed(self, sol: Trajectory, shown: list[int], part: Part) -> Part:
        """A part below its title and cost, in one line, or in two where columns are narrow."""
        title, costs = title_of(sol), [_cost(sol, k) for k in shown]
        if len(self.sols) == 1:
            return self._titled([f"{title} · {cost}" for cost in costs], part)
        return self._titled([title], self._titled(costs, part))

    def _states(self, sol: Trajectory, number: int, shown: list[int]) -> Part:
        """The states, beside the estimates where they are shown."""
        states = self._part(sol, sol.ys, number, shown, self.look.shading)
        estimates = self._estimates(sol)
        if estimates is None:
            return states
        guesses = self._part(sol, estimates, number, shown, "data")
        return self._abreast(
            [self._titled(["x(t)"], states), self._titled(["E[x(0) | x(t)]"], guesses)]
        )

    def _estimates(self, sol: Trajectory) -> Tensor | None:
        return sol.denoised if self.look.denoised else None

    def _titled(self, lines: list[str], part: Part) -> Part:
        return Stack([Text(lines, self.paint), part], self.paint, down=True, gap=2)

    def _abreast(self, parts: list[Part]) -> Part:
        """Two parts of one size side by side; wide ones stand one below the other."""
        return Stack(parts, self.paint, down=is_wide(*parts[0].size))

    def _in_rows(self, parts: list[Part]) -> Part:
        """Parts side by side, in as few rows as fit a screen."""
        width = _APART + max(part.size[1] for part in parts)
        rows = math.ceil(len(parts) / max(WIDEST // width, 1))
        across = math.ceil(len(parts) / rows)
        stacks = [
            Stack(parts[i : i + across], self.paint, down=False, gap=_APART)
            for i in range(0, len(parts), across)
        ]
        return Stack(stacks, self.paint, down=True, gap=_APART)


def _moment(sol: Trajectory, k: int) -> str:
    noise = "" if sol.std is None else f"   s(t) = {float(sol.std[k]):.3g}"
    return f"t = {float(sol.ts[k]):.3f}{noise}"


def _cost(sol: Trajectory, k: int) -> str:
    """The total NFE, after the NFE up to state k if they were counted."""
    so_far = "" if sol.evaluations is None else f"{int(sol.evaluations[k])} of "
    return f"{so_far}{sol.stats.nfe} NFE"
