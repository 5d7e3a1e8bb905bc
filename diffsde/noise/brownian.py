r"""Brownian motion for torchsde: noise that belongs to a sample.

Two sources, both taken by `torchsde.sdeint(..., bm=...)` and by `solve`:

- `SequentialBrownian` is walked once from start to end and draws one normal number for
  each step and coordinate: the cheapest there is, for a fixed grid.
- `BrownianPath` is a function of time, W(t), that any solver may ask at any times in any
  order: the same path under every solver and every step size, for adaptive stepping and
  for experiments on a shared path. It is a virtual tree: an interval is halved until it
  is small, each half drawn given its parent (a Brownian bridge).

Over an interval of length h both give the increment W and the space-time Lévy area

    H  =  1/h ∫ ( W(s) − s/h W ) ds  ~  N(0, h/12),        U = ∫ W(s) ds = h ( H + W/2 ),

which solvers of strong order 1.5 need. The noise of a diffusion model commutes, so the
Lévy area A between coordinates has no effect: both return zero for it.

Source: Foster, Lyons, Oberhauser, arXiv 2002.04025 (H and its bridge); Li, Wong, Chen,
Duvenaud, arXiv 2001.01328 (the virtual tree).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchsde import BaseBrownian

from diffsde.errors import InputError
from diffsde.noise.seeds import NormalTable, Numbers, checked_seed

__all__ = ["BoundBrownian", "BrownianPath", "SequentialBrownian"]

_DEPTH = 18  # halvings: beneath 4e-6 of the interval the path is a smooth bridge
_ROUNDED = 40  # binary digits of a time
_WORTH_A_THREAD = 2**14  # numbers, which take longer to draw than to hand over


class BoundBrownian(BaseBrownian):
    """A Brownian motion of a given batch: what torchsde calls `bm`.

    Args:
        seed: of the noise.
        purpose: see `diffsde.noise.seeds`.
        size: (B, D).
        samples: index of each row, on which its noise depends; 0 to B − 1 if left out.
    """

    levy_area_approximation = "foster"
    # torchsde declares these as abstract properties; here they are plain attributes.
    shape = torch.Size()
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(
        self,
        seed: int | None,
        purpose: str,
        size: Sequence[int],
        samples: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape = torch.Size(size)
        self.samples = range(self.shape[0]) if samples is None else samples
        if len(self.shape) != 2 or len(self.samples) != self.shape[0]:
            raise InputError(
                f"size = {tuple(size)} with {len(self.samples)} samples: expected (B, D) and "
                "one index for each of the B rows"
            )
        self.dtype, self.device = dtype, torch.device(device)
        self._table = NormalTable(checked_seed(seed), purpose)

    def __call__(
        self,
        ta: Tensor | float,
        tb: Tensor | float | None = None,
        return_U: bool = False,
        return_A: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Increment W over [ta, tb], (B, D); with return_U also U, with return_A also A = 0."""
        start, end = (0.0, ta) if tb is None else (ta, tb)
        w, u = self.increment(start, end, return_U)
        area = (w.new_zeros(1, 1, 1).expand(*w.shape, w.shape[1]),) if return_A else ()
        found = (w, *([u] if u is not None else []), *area)
        return found if len(found) > 1 else w

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        """W and, if `area`, U over [ta, tb]."""
        raise NotImplementedError

    def step(self, k: int, h: float, area: bool) -> tuple[Tensor, Tensor | None]:
        """W and, if `area`, U over the k-th of even steps of length h, k = 0, 1, … in any order."""
        return self.increment(k * h, (k + 1) * h, area)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={tuple(self.shape)})"


class SequentialBrownian(BoundBrownian):
    """Brownian motion that is asked for one interval after the other, each beginning where
    the last one ended.

    The k-th interval reads the k-th numbers of each sample, so a fixed grid costs one draw
    a step; another grid with the same seed has other paths. (`BrownianPath` keeps them.)
    For a large batch a thread of its own draws the next numbers while the network works.
    """

    def __init__(
        self,
        seed: int | None,
        size: Sequence[int],
        samples: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed, "brownian", size, samples, dtype, device)
        self._interval = (0.0, 0.0)
        self._count = 0
        self._drawer = ThreadPoolExecutor(1) if self.shape.numel() >= _WORTH_A_THREAD else None
        self._coming: dict[int, Future[Numbers]] = {}

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        interval = (float(ta), float(tb))
        if interval != self._interval:
            if self._count and interval[0] != self._interval[1]:
                raise InputError(
                    f"Brownian motion asked for the interval {interval}, but the last one was "
                    f"{self._interval}: a SequentialBrownian is walked in order; a BrownianPath "
                    "answers in any order"
                )
            self._interval = interval
            self._count += 1
        found = self.step(self._count - 1, interval[1] - interval[0], area)
        self._look_ahead(area)
        return found

    def step(self, k: int, h: float, area: bool) -> tuple[Tensor, Tensor | None]:
        w = math.sqrt(h) * self._numbers(2 * k + 2)
        u = h * (0.5 * w + math.sqrt(h / 12) * self._numbers(2 * k + 3)) if area else None
        return w, u

    def _look_ahead(self, area: bool) -> None:
        """Have the next interval's numbers drawn while the solver works on this one."""
        if self._drawer is not None:
            nodes = range(2 * self._count + 2, 2 * self._count + 3 + area)
            self._coming = {node: self._drawer.submit(self._draw, node) for node in nodes}

    def _numbers(self, node: int) -> Tensor:
        if self._drawer is None:
            numbers = self._draw(node)
        else:  # the thread alone uses the table
            coming = self._coming.pop(node, None) or self._drawer.submit(self._draw, node)
            numbers = coming.result()
        return torch.from_numpy(numbers).to(self.device, self.dtype)

    def _draw(self, node: int) -> Numbers:
        return self._table.draw(self.samples, node, self.shape[1])


class BrownianPath:
    """A Brownian path as a function of time: one path under every solver and step size.

        noise = diffsde.BrownianPath(seed=0)
        coarse = diffsde.solve(rev, x1, method="euler", steps=100, noise=noise)
        fine = diffsde.solve(rev, x1, method="srk", steps=1000, noise=noise)

    Sample i has the same path in any batch. A path belongs to a clock: in another clock
    the equation has another Brownian motion, of the same law. Two times nearer than
    4e-6 of the whole interval are joined by a smooth curve, so steps must be longer.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = checked_seed(seed)

    def bind(
        self,
        size: Sequence[int],
        duration: float = 1.0,
        samples: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> BoundBrownian:
        """The path on [0, duration] of a batch of size (B, D), as torchsde takes it."""
        return _Tree(self.seed, "path", size, samples, dtype, device, duration=duration)

    def __repr__(self) -> str:
        return f"BrownianPath(seed={self.seed})"


@dataclass(frozen=True)
class _Interval:
    """One node of the tree on the way to a time: [start, start + h] of the unit interval."""

    node: int | list[int]  # 1 for the root, 2n and 2n + 1 for the halves of n
    start: Tensor  # () or (B, 1)
    h: float
    w0: Tensor  # W(start), (B, D)
    u0: Tensor  # ∫ W from 0 to start
    w: Tensor  # increment over the interval
    area: Tensor  # H of the interval


class _Tree(BoundBrownian):
    """A `BrownianPath` bound to a batch. Times may be scalars or one for each sample, (B, 1)."""

    def __init__(self, *args: object, duration: float) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.duration = duration
        root = self._numbers(0)
        zero = torch.zeros_like(root[0])
        start = torch.zeros((), dtype=torch.float64)
        self._way = [_Interval(1, start, 1.0, zero, zero, root[0], root[1] / math.sqrt(12))]
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        a, b = (torch.as_tensor(t, dtype=torch.float64).cpu() for t in (ta, tb))
        (wa, ua), (wb, ub) = self._value(a), self._value(b)
        h = (b - a) / self.duration
        w = math.sqrt(self.duration) * (wb - wa)
        u = self.duration**1.5 * (ub - ua - h * wa) if area else None
        return self._out(w), None if u is None else self._out(u)

    def _out(self, value: Tensor) -> Tensor:
        return value.to(self.device, self.dtype)

    def _numbers(self, node: int | list[int]) -> Tensor:
        """Two standard normal numbers for each coordinate, (2, B, D)."""
        shape = (2, self.shape[1])
        return self._table.rows(self.samples, node, shape, torch.float64).transpose(0, 1)

    def _value(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W from 0 to t, in the unit interval; the last is kept, as steps share ends."""
        if self._last is not None and torch.equal(self._last[0], t):
            return self._last[1]
        # Rounded, so that a dyadic time is one: the way to it ends where it is hit.
        r = ((t / self.duration).clamp(0, 1) * 2**_ROUNDED).round() / 2**_ROUNDED
        value = _bridge(self._descend(r), r, self._numbers)
        self._last = (t, value)
        return value

    def _descend(self, r: Tensor) -> _Interval:
        """The smallest interval of the tree around r, keeping the way to it for the next time."""
        way = [self._way[0]]
        while len(way) <= _DEPTH and bool((r != way[-1].start).any()):
            parent = way[-1]
            right = r >= parent.start + parent.h / 2
            node = _child(parent.node, right)
            known = self._way[len(way)] if len(way) < len(self._way) else None
            if known is None or known.node != node or len(way) != _level(known):
                self._way = way
                known = _half(parent, node, right, self._numbers(parent.node))
            way.append(known)
        self._way = way + self._way[len(way) :]
        return way[-1]


def _level(interval: _Interval) -> int:
    return round(-math.log2(interval.h))


def _child(node: int | list[int], right: Tensor) -> int | list[int]:
    if isinstance(node, int) and right.dim() == 0:
        return 2 * node + int(right)
    rights = right.flatten().tolist()
    nodes = [node] * len(rights) if isinstance(node, int) else node
    return [2 * n + int(bit) for n, bit in zip(nodes, rights, strict=True)]


def _half(parent: _Interval, node: int | list[int], right: Tensor, numbers: Tensor) -> _Interval:
    """One half of an interval, drawn given the whole."""
    h = parent.h
    z, n = math.sqrt(h / 16) * numbers[0], math.sqrt(h / 12) * numbers[1]
    w_left = 0.5 * parent.w + 1.5 * parent.area + z
    area_left, area_right = 0.25 * parent.area - 0.5 * (z - n), 0.25 * parent.area - 0.5 * (z + n)
    u_left = h / 2 * (area_left + 0.5 * w_left)
    return replace(
        parent,
        node=node,
        start=torch.where(right, parent.start + h / 2, parent.start),
        h=h / 2,
        w0=torch.where(right, parent.w0 + w_left, parent.w0),
        u0=torch.where(right, parent.u0 + h / 2 * parent.w0 + u_left, parent.u0),
        w=torch.where(right, parent.w - w_left, w_left),
        area=torch.where(right, area_right, area_left),
    )


def _bridge(
    interval: _Interval, r: Tensor, draw: Callable[[int | list[int]], Tensor]
) -> tuple[Tensor, Tensor]:
    """W and ∫ W from 0 to r, which lies in the interval: the bridge at an uneven point."""
    h, h1 = interval.h, r - interval.start
    if not bool((h1 > 0).any()):
        return interval.w0, interval.u0
    h2 = h - h1
    d = (h1**3 + h2**3).sqrt()
    a = h1**3.5 * h2**0.5 / (2 * h * d)
    b = h1**0.5 * h2**3.5 / (2 * h * d)
    c = math.sqrt(3) * (h1 * h2) ** 1.5 / (6 * d)
    x1, x2 = draw(interval.node)
    w = h1 / h * interval.w + 6 * h1 * h2 / h**2 * interval.area + 2 * (a + b) / h * x1
    # h1 H, so that nothing is divided by an h1 of zero.
    scaled_area = h1**3 / h**2 * interval.area - a * x1 + c * x2
    return interval.w0 + w, interval.u0 + h1 * (interval.w0 + 0.5 * w) + scaled_area
