r"""Brownian motion for torchsde: noise that belongs to a sample.

There are two sources, both for `torchsde.sdeint(..., bm=...)` and for `solve`:

- `SequentialBrownian` runs once from start to end and draws one normal number for each step
  and coordinate: the cheapest source for a fixed grid.
- `BrownianPath` is a function of time, W(t), which can be evaluated at any times in any
  order. Every solver and every step size gets the same path, for adaptive stepping and for
  experiments on a shared path. It is a virtual tree: an interval is halved until it is
  small, and each half is drawn given its parent (a Brownian bridge).

Over an interval of length h, both give the increment W and the space-time Lévy area

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

_DEPTH = 18  # halvings: below 4e-6 of the interval, the path is a smooth bridge
_ROUNDED = 40  # binary digits of a time
_WORTH_A_THREAD = 2**14  # so many numbers take longer to draw than to pass between threads


class BoundBrownian(BaseBrownian):
    """The Brownian motion of a given batch, which torchsde calls `bm`.

    Args:
        seed: of the noise.
        purpose: see `diffsde.noise.seeds`.
        size: (B, D).
        samples: the sample whose noise each row has; 0 to B − 1 if left out.
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
        """The increment W over [ta, tb], (B, D), and, if asked for, U and the Lévy area A = 0."""
        start, end = (0.0, ta) if tb is None else (ta, tb)
        w, u = self.increment(start, end, return_U)
        area = (w.new_zeros(1, 1, 1).expand(*w.shape, w.shape[1]),) if return_A else ()
        values = (w, *([u] if u is not None else []), *area)
        return values if len(values) > 1 else w

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        """W and, if `area`, U over [ta, tb]."""
        raise NotImplementedError

    def step(self, k: int, h: float, area: bool) -> tuple[Tensor, Tensor | None]:
        """W and, if `area`, U over the k-th of equal steps of length h; k in any order, from 0."""
        return self.increment(k * h, (k + 1) * h, area)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={tuple(self.shape)})"


class SequentialBrownian(BoundBrownian):
    """Brownian motion over consecutive intervals: each begins where the last one ended.

    The k-th interval reads the k-th numbers of each sample, so a fixed grid costs one draw
    a step. Another grid with the same seed therefore has other paths; those of `BrownianPath`
    do not depend on the grid. For a large batch, a separate thread draws the next numbers
    while the network is evaluated.
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
                    f"Brownian motion was asked for the interval {interval}, but the last one was "
                    f"{self._interval}: a SequentialBrownian is walked in order; a BrownianPath "
                    "can be evaluated in any order"
                )
            self._interval = interval
            self._count += 1
        values = self.step(self._count - 1, interval[1] - interval[0], area)
        self._look_ahead(area)
        return values

    def step(self, k: int, h: float, area: bool) -> tuple[Tensor, Tensor | None]:
        w = math.sqrt(h) * self._numbers(2 * k + 2)
        u = h * (0.5 * w + math.sqrt(h / 12) * self._numbers(2 * k + 3)) if area else None
        return w, u

    def _look_ahead(self, area: bool) -> None:
        """Let the thread draw the next interval's numbers while the solver takes this step."""
        if self._drawer is not None:
            nodes = range(2 * self._count + 2, 2 * self._count + 3 + area)
            self._coming = {node: self._drawer.submit(self._draw, node) for node in nodes}

    def _numbers(self, node: int) -> Tensor:
        if self._drawer is None:
            numbers = self._draw(node)
        else:  # only the thread uses the table, which is not thread-safe
            coming = self._coming.pop(node, None) or self._drawer.submit(self._draw, node)
            numbers = coming.result()
        return torch.from_numpy(numbers).to(self.device, self.dtype)

    def _draw(self, node: int) -> Numbers:
        return self._table.draw(self.samples, node, self.shape[1])


class BrownianPath:
    """A Brownian path as a function of time, the same for every solver and step size.

        noise = diffsde.BrownianPath(seed=0)
        coarse = diffsde.solve(rev, x1, method="euler", steps=100, noise=noise)
        fine = diffsde.solve(rev, x1, method="srk", steps=1000, noise=noise)

    Sample i has the same path in any batch. A path belongs to a clock: in another clock
    the equation has another Brownian motion, of the same law. Within 4e-6 of the whole
    interval the path is a smooth curve, so steps must be longer than that.
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
        """The path on [0, duration] for a batch of size (B, D), as torchsde takes it."""
        return _Tree(self.seed, "path", size, samples, dtype, device, duration=duration)

    def __repr__(self) -> str:
        return f"BrownianPath(seed={self.seed})"


@dataclass(frozen=True)
class _Interval:
    """One node of the tree: the part [start, start + h] of the unit interval."""

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
        # The intervals around the last time, from the root down.
        self._chain = [_Interval(1, start, 1.0, zero, zero, root[0], root[1] / math.sqrt(12))]
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
        """Two standard normal numbers for each coordinate, (2, B, D), float64."""
        shape = (2, self.shape[1])
        return self._table.rows(self.samples, node, shape, torch.float64).transpose(0, 1)

    def _value(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W from 0 to t, in units of the interval; the last is kept: steps share ends."""
        if self._last is not None and torch.equal(self._last[0], t):
            return self._last[1]
        # Rounding makes a dyadic time exact, so the descent ends as soon as it is reached.
        r = ((t / self.duration).clamp(0, 1) * 2**_ROUNDED).round() / 2**_ROUNDED
        value = _bridge(self._descend(r), r, self._numbers)
        self._last = (t, value)
        return value

    def _descend(self, r: Tensor) -> _Interval:
        """The smallest interval of the tree around r."""
        depth = 0
        while depth < _DEPTH and bool((r != self._chain[depth].start).any()):
            self._extend_chain(depth, r)
            depth += 1
        return self._chain[depth]

    def _extend_chain(self, depth: int, r: Tensor) -> None:
        """Make the chain hold, beneath the interval at `depth`, its half around r."""
        parent = self._chain[depth]
        right = r >= parent.start + parent.h / 2
        node = _child(parent.node, right)
        if len(self._chain) > depth + 1 and self._chain[depth + 1].node == node:
            return  # kept from the last time
        del self._chain[depth + 1 :]
        self._chain.append(_half(parent, node, right, self._numbers(parent.node)))


def _child(node: int | list[int], right: Tensor) -> int | list[int]:
    """The node of the right half where `right` is true, of the left half elsewhere."""
    if isinstance(node, int) and right.dim() == 0:
        return 2 * node + int(right)
    rights = right.flatten().tolist()
    nodes = [node] * len(rights) if isinstance(node, int) else node
    return [2 * n + int(bit) for n, bit in zip(nodes, rights, strict=True)]


def _half(parent: _Interval, node: int | list[int], right: Tensor, numbers: Tensor) -> _Interval:
    """One half of an interval, drawn given the whole interval."""
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
    """W and ∫ W from 0 to r, by a Brownian bridge over the interval in which r lies."""
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
    # The area is kept as h1 H, because h1 may be zero for some samples.
    scaled_area = h1**3 / h**2 * interval.area - a * x1 + c * x2
    return interval.w0 + w, interval.u0 + h1 * (interval.w0 + 0.5 * w) + scaled_area
