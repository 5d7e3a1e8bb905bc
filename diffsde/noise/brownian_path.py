r"""A Brownian path as a function of time, W(u), for any real u.

Every solver and every step size meets the same path, for adaptive stepping and for experiments
on a shared path. Time is cut into cells [k, k + 1), k any whole number. A cell is a virtual
tree: it is halved until the parts are as short as the resolution, and each half is drawn given
its parent (a Brownian bridge); the numbers of each node have an address of their own. So the
path does not depend on which part of it is looked at, or in which order.

Below its resolution the path is a smooth curve and no Brownian motion, so no interval may be
shorter.

Source: Foster, Lyons, Oberhauser, arXiv 2002.04025 (the bridge of W and H); Li, Wong, Chen,
Duvenaud, arXiv 2001.01328 (the virtual tree).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.noise.ahead import DrawnAhead
from diffsde.noise.brownian import BoundBrownian
from diffsde.noise.seeds import checked_seed
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number

__all__ = ["BrownianPath"]

_RESOLUTION = 2.0**-16
_FINEST = 2.0**-36
_FLOAT32 = 2.0**-22  # a unit in the last place of a time in float32, twice over
_ENDS = 3  # of steps that are kept: both ends and the middle of one that is tried in halves
_ROUNDED = 40  # binary digits of a time within its cell
_WORD = 2**64

Node = int | list[int]


class BrownianPath:
    """A Brownian path W(u), the same for every solver and step size.

        noise = diffsde.BrownianPath(seed=0)
        coarse = diffsde.solve(rev, x1, method="euler", steps=100, noise=noise)
        fine = diffsde.solve(rev, x1, method="srk", steps=1000, noise=noise)

    Sample i has the same path in any batch. A path belongs to a clock: in another clock the
    equation has another Brownian motion, of the same law. Its time u is that of the clock,
    counted from where the problem begins (t = T for a reverse problem, t = 0 for others),
    whatever part of the interval is solved.

    Args:
        seed: of all its numbers; drawn from torch's generator if left out.
        resolution: the length of the shortest interval that it is asked for, in units of the
            clock, from 2⁻³⁶ to 1. A finer path costs more: one halving for each factor of two.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, seed: int | None = None, resolution: float = _RESOLUTION) -> None:
        self.seed = checked_seed(seed)
        self.resolution = real_number(resolution, "resolution", "a number from 2⁻³⁶ to 1")
        if not _FINEST <= self.resolution <= 1:
            raise InputError(f"resolution = {resolution}: expected a number from 2⁻³⁶ to 1")

    def bind(
        self,
        size: Sequence[int],
        samples: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        commutes: bool = False,
    ) -> BoundBrownian:
        """The path of a batch of size (B, m), as torchsde takes it; see `BoundBrownian`."""
        return _Tree(self.seed, "path", size, samples, dtype, device, commutes, self.resolution)

    def __repr__(self) -> str:
        return f"BrownianPath(seed={self.seed})"


@dataclass(frozen=True)
class _Place:
    """Where a node of a cell's tree lies: the part [start, start + h] of [0, 1]."""

    node: Node  # its address: 1 for the root, 2n and 2n + 1 for the halves of n, beside the cell
    start: Tensor  # () or (B, 1), on the host, as all times
    h: float
    right: Tensor  # whether it is the right half of the one above; of start's shape

    def half(self, r: Tensor) -> _Place:
        """The half in which r lies."""
        h = self.h / 2
        right = r >= self.start + h
        return _Place(_children(self.node, right), self.start + right * h, h, right)


@dataclass(frozen=True)
class _Interval:
    """One node of a cell's tree, and the path there."""

    place: _Place
    w0: Tensor  # W(start), (B, m), from the cell's beginning on
    u0: Tensor  # ∫ W from the cell's beginning to start
    w: Tensor  # increment over the interval
    area: Tensor  # H of the interval


class _Tree(BoundBrownian):
    """A `BrownianPath` bound to a batch. Times may be scalars or one for each sample, (B, 1)."""

    def __init__(
        self,
        seed: int,
        purpose: str,
        size: Sequence[int],
        samples: Sequence[int] | None,
        dtype: torch.dtype,
        device: torch.device | str,
        commutes: bool,
        resolution: float,
    ) -> None:
        super().__init__(seed, purpose, size, samples, dtype, device, commutes=commutes)
        self.resolution = resolution
        self._depth = math.ceil(-math.log2(resolution))
        # In the states' own precision the path is as exact as the states to which it is added.
        self._precise = torch.promote_types(self.dtype, torch.float32)
        shape = (2, self.shape[1])
        self._drawn = DrawnAhead(self._table, self.samples, shape, self._precise, self.device)
        self._chain: list[_Interval] = []  # the intervals around the last time, from a cell down
        self._latest: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []  # times and values there

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        a, b = (on_host(t, torch.float64).cpu() for t in (ta, tb))
        self._check(a, b)
        first, last = a.floor(), b.floor()
        wa, ua = self._value(a, first)
        w, u = self._cells(first, last)  # from the beginning of a's cell to that of b's
        wb, ub = self._value(b, last)
        increment = w + wb - wa
        if not area:
            return self._out(increment), None
        u = u + self._there(b - last) * w + ub
        return self._out(increment), self._out(u - ua - self._there(b - a) * wa)

    def _check(self, a: Tensor, b: Tensor) -> None:
        # torchsde, which adds up its times, may end with a step as long as their rounding.
        steps = (b - a)[b - a > _FLOAT32 * b.abs().clamp(min=1)]
        shortest = float(steps.min()) if steps.numel() else math.inf
        if shortest < (1 - 1e-6) * self.resolution:
            raise InputError(
                f"a step of length {shortest:.3g} along a BrownianPath whose resolution is "
                f"{self.resolution:.3g}: below it the path is smooth. Take longer steps, or "
                f"BrownianPath({self.seed}, resolution={0.5 * shortest:.1g})"
            )

    def _drawn_levy_area(self, ta: Tensor | float, tb: Tensor | float) -> Tensor:
        raise InputError(
            "a BrownianPath has no Lévy area between its channels, which this solver needs for "
            "noise that does not commute: leave noise= out, or take another solver"
        )

    def _out(self, value: Tensor) -> Tensor:
        return value.to(self.dtype)

    def _numbers(self, node: Node) -> Tensor:
        """Two standard normal numbers for each channel, (2, B, m)."""
        return self._drawn.at(node).transpose(0, 1)

    def _there(self, times: Tensor) -> Tensor | float:
        """Times beside states: one for all samples as a number, (B, 1) on the states' device."""
        return self._all_there([times])[0]

    def _all_there(self, times: Sequence[Tensor]) -> Sequence[Tensor | float]:
        """The same for several of one shape, which are sent together and not waited for."""
        if not times or times[0].dim() == 0:
            return [float(time) for time in times]
        whole = torch.stack([time.double() for time in times])
        return whole.to(self.device, self._precise, non_blocking=True).unbind()

    def _cells(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W over whole cells, from `first` up to `last`, both relative to `first`."""
        w = u = torch.zeros(self.shape, dtype=self._precise, device=self.device)
        cell = first
        while bool((cell < last).any()):
            going, root = (cell < last).double(), self._root(cell)
            here = self._there(going)
            u = u + here * (w + 0.5 * root.w + root.area)
            w = w + here * root.w
            cell = cell + going
        return w, u

    def _root(self, cell: Tensor) -> _Interval:
        """A whole cell; `cell` is a scalar or (B, 1)."""
        numbers = self._numbers(_address(cell))
        zero = torch.zeros_like(numbers[0])
        return _Interval(_whole(cell), zero, zero, numbers[0], numbers[1] / math.sqrt(12))

    def _value(self, t: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W from the beginning of t's cell to t. The latest are kept: steps share ends."""
        for time, value in self._latest:
            if torch.equal(time, t):
                return value
        # Rounding makes a dyadic time exact, so the descent ends as soon as it is reached.
        r = ((t - cell) * 2**_ROUNDED).round() / 2**_ROUNDED
        value = self._bridge(self._descend(cell, r), r)
        self._latest = [*self._latest[1 - _ENDS :], (t, value)]
        return value

    def _descend(self, cell: Tensor, r: Tensor) -> _Interval:
        """The smallest interval of the cell's tree around r."""
        way, kept = self._way(cell, r), 0
        for interval, place in zip(self._chain, way, strict=False):
            if interval.place.node != place.node:
                break
            kept += 1
        if kept < len(way):
            del self._chain[kept:]
        # Each interval needs the numbers of the one above it, and the bridge those of the last.
        above = [place.node for place in way[max(kept - 1, 0) :]]
        self._drawn.expect(above if kept else [_address(cell), *above])
        if not self._chain:
            self._chain, kept = [self._root(cell)], 1
        new = way[kept:]
        for place, right in zip(new, self._all_there([p.right for p in new]), strict=True):
            self._chain.append(self._half(self._chain[-1], place, right))
        return self._chain[len(way) - 1]

    def _way(self, cell: Tensor, r: Tensor) -> list[_Place]:
        """The intervals around r, from the whole cell to the smallest; the host knows them."""
        way = [_whole(cell)]
        while len(way) <= self._depth and bool((r != way[-1].start).any()):
            way.append(way[-1].half(r))
        return way

    def _half(self, parent: _Interval, place: _Place, right: Tensor | float) -> _Interval:
        """One half of an interval, drawn given the whole interval.

        Args:
            parent: the whole interval.
            place: of the half.
            right: 1 where it is the right one and 0 where not, beside the states.
        """
        h, (x, y) = parent.place.h, self._numbers(parent.place.node)
        side = 1 - 2 * right
        lean = _plus(1.5 * parent.area, math.sqrt(h / 16), x)  # W_left − W / 2
        shared = _plus(parent.area, -0.5, lean)
        w = _plus(0.5 * parent.w, side, lean)
        area = _plus(shared, math.sqrt(h / 48) * side, y)
        w0, u0 = parent.w0, parent.u0
        if bool(place.right.any()):  # for these, `w` and `area` are of the right half
            mean = w0 + 0.5 * (parent.w - w) + (2 * shared - area)  # of W over the left half
            u0 = _plus(u0, (h / 2) * right, mean)
            w0 = _plus(w0, right, parent.w - w)
        return _Interval(place, w0, u0, w, area)

    def _bridge(self, interval: _Interval, r: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W from 0 to r, by a Brownian bridge over the interval in which r lies."""
        h, h1 = interval.place.h, r - interval.place.start
        if not bool((h1 > 0).any()):
            return interval.w0, interval.u0
        h2 = h - h1
        d = (h1**3 + h2**3).sqrt()
        a = h1**3.5 * h2**0.5 / (2 * h * d)
        b = h1**0.5 * h2**3.5 / (2 * h * d)
        c = math.sqrt(3) * (h1 * h2) ** 1.5 / (6 * d)
        x, y = self._numbers(interval.place.node)
        of_w = h1 / h, 6 * h1 * h2 / h**2, 2 * (a + b) / h
        # The area is kept as h1 H, because h1 may be zero for some samples.
        of_area = h1**3 / h**2, -a, c
        w1, w2, w3, a1, a2, a3, length = self._all_there([*of_w, *of_area, h1])
        w = w1 * interval.w + w2 * interval.area + w3 * x
        area = a1 * interval.area + a2 * x + a3 * y
        return interval.w0 + w, interval.u0 + length * (interval.w0 + 0.5 * w) + area


def _whole(cell: Tensor) -> _Place:
    """The root of a cell's tree; `cell` is a scalar or (B, 1)."""
    start = torch.zeros((), dtype=torch.float64, device="cpu")
    return _Place(_child(_address(cell), True), start, 1.0, start > 0)


def _address(cell: Tensor) -> Node:
    """The address of a cell's own numbers; its tree has the addresses that follow."""
    if cell.dim() == 0:
        return (int(cell) % _WORD) * _WORD
    return [(int(c) % _WORD) * _WORD for c in cell.flatten().tolist()]


def _child(node: Node, right: bool) -> Node:
    """One of the two halves; a cell's address leads to its root."""
    if isinstance(node, int):
        cell, place = divmod(node, _WORD)
        return cell * _WORD + 2 * place + right
    return [_child(n, right) for n in node]  # type: ignore[misc]


def _children(node: Node, right: Tensor) -> Node:
    """The right half where `right` is true, the left half elsewhere."""
    if isinstance(node, int) and right.dim() == 0:
        return _child(node, bool(right))
    rights = right.flatten().tolist()
    nodes = [node] * len(rights) if isinstance(node, int) else node
    return [_child(n, bool(bit)) for n, bit in zip(nodes, rights, strict=True)]  # type: ignore[misc]


def _plus(a: Tensor, factor: Tensor | float, b: Tensor) -> Tensor:
    """a + factor × b, in one pass over the states."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, factor, b)
    return torch.add(a, b, alpha=factor)
