r"""Grids: which times a solve steps on, and which it keeps.

A solve steps on nodes, times u of its clock that rise from 0. Times to be kept that are
no nodes become nodes, so that they are hit and never interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffsde.equations.clocks import Clock
from diffsde.errors import InputError
from diffsde.system.host import on_host
from diffsde.system.numbers import whole_number

__all__ = ["Grid", "checked_times", "make_grid"]

Save = str | int | Sequence[float] | Tensor

_SAME = 1e-9  # two times of a grid nearer than this fraction of the solve are one


@dataclass(frozen=True)
class Grid:
    """The nodes of a solve.

    Attributes:
        us: (n + 1,) float64, rising: the solver's time.
        ts: (n + 1,) float64, the same in t.
        kept: (n + 1,) bool: which of them are saved.
        every: whether steps between nodes are saved too, as adaptive solvers make them (of
            samples with steps of their own, those of the first).
    """

    us: Tensor
    ts: Tensor
    kept: Tensor
    every: bool = False

    def unkept(self) -> Grid:
        """The same nodes, of which only the last is kept."""
        kept = torch.zeros_like(self.kept)
        kept[-1] = True
        return replace(self, kept=kept, every=False)

    def after(self, u: Tensor, clock: Clock) -> Grid:
        """What remains of the grid from u on, which need not be a node."""
        later, node = self.us > u, self.us == u
        here = self.ts[node] if bool(node.any()) else clock.time(u)
        return Grid(
            torch.cat([u.reshape(1), self.us[later]]),
            torch.cat([here.reshape(1), self.ts[later]]),
            torch.cat([self.kept.new_ones(1), self.kept[later]]),
            self.every,
        )


def checked_times(ts: Any, interval: tuple[float, float] | None, name: str) -> Tensor:
    """Times as a float64 tensor.

    Raises:
        InputError: fewer than one, not in order, or outside the problem's interval.
    """
    try:
        listed = [float(t) for t in ts] if isinstance(ts, (list, tuple)) else ts
        times = on_host(listed, torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected a list of times, found {ts!r:.60}") from error
    if times.dim() != 1 or len(times) < 1 or not bool(torch.isfinite(times).all()):
        raise InputError(f"{name}: expected a list of finite times, found {ts!r}")
    steps = times.diff()
    if not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise InputError(
            f"{name} = {_short(times)}: expected strictly decreasing times (from noise to data) "
            "or strictly increasing ones"
        )
    if interval is not None:
        low, high = sorted(interval)
        slack = 1e-6 * (high - low)  # a time that was rounded to float32
        if float(times.min()) < low - slack or float(times.max()) > high + slack:
            raise InputError(
                f"{name} = {_short(times)}: expected times in [{low:g}, {high:g}], where the "
                "problem is defined; at t = 0 the noise vanishes and no score exists"
            )
        times = times.clamp(low, high)
    return times


def _short(times: Tensor) -> str:
    listed = [f"{t:g}" for t in times.tolist()]
    return f"[{', '.join(listed if len(listed) < 7 else [*listed[:3], '…', *listed[-3:]])}]"


def make_grid(
    clock: Clock, steps: int | None, ts: Tensor | None, save: Save, *, adaptive: bool
) -> Grid:
    """The nodes of a solve.

    Args:
        clock: of the solve; knows its interval.
        steps: even steps in the clock; or
        ts: the nodes in t. If both are None, the ends alone: for adaptive solvers.
        save: "all", "last", a number of times, even in the clock, or times.
        adaptive: whether the solver steps between the nodes.
    """
    if ts is not None:
        grid_ts = ts.clone()
    else:
        even = torch.linspace(
            clock.begin, clock.finish, (steps or 1) + 1, dtype=torch.float64, device="cpu"
        )
        grid_ts = clock.time(even)
    grid_ts[0], grid_ts[-1] = clock.start, clock.end
    us = clock.place(grid_ts)  # so that a node is a function of its t, in every grid that holds it
    every = adaptive and ts is None and steps is None
    if isinstance(save, str):
        if save not in ("all", "last"):
            raise InputError(
                f"save = {save!r}: expected 'all', 'last', a number of times, or times in t"
            )
        kept = torch.full((len(us),), save == "all", device="cpu")
        kept[-1] = True
        return Grid(us, grid_ts, kept, every=every and save == "all")
    return _with_saved(
        Grid(us, grid_ts, torch.zeros(len(us), dtype=torch.bool, device="cpu")), clock, save
    )


def _with_saved(grid: Grid, clock: Clock, save: int | Sequence[float] | Tensor) -> Grid:
    """The grid with the times to be saved among its nodes, and only those kept."""
    if np.ndim(save) == 0:
        count = whole_number(save, "save", 2, why=" of times, with both ends; or 'last'")
        even = torch.linspace(clock.begin, clock.finish, count, dtype=torch.float64, device="cpu")
        saved_ts = clock.time(even)
        saved_ts[0], saved_ts[-1] = clock.start, clock.end
    else:
        saved_ts = checked_times(save, (clock.start, clock.end), "save")
        if len(saved_ts) > 1 and float(saved_ts[1] - saved_ts[0]) * clock.direction < 0:
            raise InputError(
                f"save = {_short(saved_ts)}: expected times in the order of the solve, "
                f"from {clock.start:g} to {clock.end:g}"
            )
    saved_us = clock.place(saved_ts)
    distance = (saved_us[:, None] - grid.us[None]).abs()
    nearest = distance.argmin(1)
    new = distance.gather(1, nearest[:, None])[:, 0] > _SAME * clock.duration
    kept = grid.kept.clone()
    kept[nearest[~new]] = True
    us = torch.cat([grid.us, saved_us[new]])
    ts = torch.cat([grid.ts, saved_ts[new]])
    kept = torch.cat([kept, torch.ones(int(new.sum()), dtype=torch.bool, device="cpu")])
    order = us.argsort()
    order = order[: int(kept[order].nonzero()[-1]) + 1]  # nothing is seen after the last one
    return Grid(us[order], ts[order], kept[order])
