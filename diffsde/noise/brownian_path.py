r"""A Brownian path as a function of time, W(u), for any real u.

Every solver and every step size meets the same path, for adaptive stepping and for experiments
on a shared path. Time is cut into cells [k, k + 1), k any whole number. A cell is a virtual
tree: it is halved until the parts are as short as the resolution, and each half is drawn given
its parent (a Brownian bridge); the numbers of each node have an address of their own. So the
path does not depend on which part of it is looked at, or in which order. Its value at a time is a
sum over the nodes from the cell down to that time (see `bridges`).

Below its resolution the path is a smooth curve and no Brownian motion, so no interval may be
shorter.

Source: Foster, Lyons, Oberhauser, arXiv 2002.04025 (the bridge of W and H); Li, Wong, Chen,
Duvenaud, arXiv 2001.01328 (the virtual tree).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.noise.bridges import bridge_weights
from diffsde.noise.brownian import BoundBrownian
from diffsde.noise.path_numbers import Around, PathNumbers
from diffsde.noise.seeds import checked_seed
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number

__all__ = ["BrownianPath"]

_RESOLUTION = 2.0**-16
_FINEST = 2.0**-36
_FLOAT32 = 2.0**-22  # a unit in the last place of a time in float32, twice over
_ENDS = 3  # of steps that are kept: both ends and the middle of one that is tried in halves
_ROUNDED = 40  # binary digits of a time within its cell

_Value = tuple[Tensor, Tensor]


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
        kind = self._precise, self.device
        self._numbers = PathNumbers(self._table, self.samples, self.shape[1], *kind)
        self._latest: list[tuple[Tensor, _Value]] = []  # times and values there

    def visit(self, *times: Tensor) -> None:
        self._values(times)

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        a, b = (on_host(t, torch.float64).detach().cpu() for t in (ta, tb))
        self._check(a, b)
        first, last = a.floor(), b.floor()
        (wa, ua), (w, u) = self._values((a, b))
        if bool((first < last).any()):
            whole_w, whole_u = self._cells(first, last)
            w, u = w + whole_w, u + whole_u + self._there(b - last) * whole_w
        if not area:
            return self._out(w - wa), None
        return self._out(w - wa), self._out(u - ua - self._there(b - a) * wa)

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

    def _there(self, times: Tensor) -> Tensor | float:
        """Times beside states: one for all samples as a number, (B, 1) on the states' device."""
        if times.dim() == 0:
            return float(times)
        return times.to(self.device, self._precise, non_blocking=True)

    def _cells(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """W and ∫ W over whole cells, from `first` up to `last`, both relative to `first`."""
        w = u = torch.zeros(self.shape, dtype=self._precise, device=self.device)
        cell = first
        while bool((cell < last).any()):
            going = (cell < last).double()
            here, (x, y) = self._there(going), self._numbers.of_cell(cell)
            u = u + here * (w + 0.5 * x + y / math.sqrt(12))
            w = w + here * x
            cell = cell + going
        return w, u

    def _values(self, times: Sequence[Tensor]) -> list[_Value]:
        """W and ∫ W from the beginning of its cell to each time.

        The latest are kept, because steps share their ends.
        """
        values = [self._known(t) for t in times]
        new = [t for t, value in zip(times, values, strict=True) if value is None]
        learnt = self._learnt(new)
        found = [next(learnt) if value is None else value for value in values]
        others = [pair for pair in self._latest if not any(torch.equal(pair[0], t) for t in times)]
        self._latest = [*others, *zip(times, found, strict=True)][-_ENDS:]
        return found

    def _known(self, t: Tensor) -> _Value | None:
        return next((value for time, value in self._latest if torch.equal(time, t)), None)

    def _learnt(self, times: Sequence[Tensor]) -> Iterator[_Value]:
        cells = [t.floor() for t in times]
        # Rounding makes a dyadic time exact, so that no part below it has to be looked at.
        rhos = [
            ((t - cell) * 2**_ROUNDED).round() / 2**_ROUNDED
            for t, cell in zip(times, cells, strict=True)
        ]
        weights = [bridge_weights(rho.reshape(-1).numpy(), self._depth) for rho in rhos]
        counts = [of_time.shape[-1] // 2 for of_time in weights]
        around = self._numbers.around([*map(Around, cells, rhos, counts)])
        for of_time, numbers in zip(weights, around, strict=True):
            there = torch.from_numpy(of_time).to(self.device, self._precise, non_blocking=True)
            both = there.expand(len(numbers), -1, -1) @ numbers
            w, u = both[..., : self.shape[1]].unbind(1)
            yield w, u
