r"""Brownian motion for torchsde: noise that belongs to a sample and to a time.

There are two sources, both for `torchsde.sdeint(..., bm=...)` and for `solve`:

- `SequentialBrownian` runs once from start to end and draws one normal number for each step
  and coordinate: the cheapest source for a fixed grid. The numbers of a step are addressed by
  the time at which it begins, so a solve that is stopped and continued reads no number twice.
- `BrownianPath` (see `brownian_path`) is a function of time, W(t).

Over an interval of length h, both give the increment W and the space-time Lévy area

    H  =  1/h ∫ ( W(s) − s/h W ) ds  ~  N(0, h/12),        U = ∫ W(s) ds = h ( H + W/2 ),

which solvers of strong order 1.5 need. The noise of a diffusion model commutes, so the Lévy
area A between coordinates has no effect. For noise that does not commute, `SequentialBrownian`
draws it given W and H: A = H ⊗ W − W ⊗ H + b, with b antisymmetric and

    b_ij  ~  N(0, h²/20 + (h/5) (H_i² + H_j²)),        so that  Var A_ij = h²/4.

Source: Foster, Lyons, Oberhauser, arXiv 2002.04025 (H); Foster, "Numerical approximations for
stochastic differential equations", thesis, Oxford, 2020, section 7 (A).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchsde import BaseBrownian

from diffsde.errors import InputError
from diffsde.noise.ahead import DrawnAhead
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import address_of, checked_seed

__all__ = ["BoundBrownian", "SequentialBrownian"]

_WORD = 2**64


class BoundBrownian(BaseBrownian):
    """The Brownian motion of a given batch, which torchsde calls `bm`.

    Args:
        seed: of the noise.
        purpose: see `diffsde.noise.seeds`.
        size: (B, m): m Brownian motions for each sample.
        samples: the sample whose noise each row has; 0 to B − 1 if left out.
        commutes: whether the noise of the equation commutes, so that its Lévy area has no
            effect and zeros are returned for it, as for diagonal, scalar and additive noise.

    Attributes:
        resolution: no interval may be shorter; 0 if there is no limit.
    """

    levy_area_approximation = "foster"
    resolution = 0.0
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
        *,
        commutes: bool = False,
    ) -> None:
        self.shape = torch.Size(size)
        self.samples = range(self.shape[0]) if samples is None else samples
        if len(self.shape) != 2 or len(self.samples) != self.shape[0]:
            raise InputError(
                f"size = {tuple(size)} with {len(self.samples)} samples: expected (B, D) and "
                "one index for each of the B rows"
            )
        self.dtype, self.device, self.commutes = dtype, torch.device(device), commutes
        self.seed = checked_seed(seed)
        self._table = NormalTable(self.seed, purpose)

    def __call__(
        self,
        ta: Tensor | float,
        tb: Tensor | float | None = None,
        return_U: bool = False,
        return_A: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """The increment W over [ta, tb], (B, m), and, if asked for, U and the Lévy area A."""
        start, end = (0.0, ta) if tb is None else (ta, tb)
        w, u = self.increment(start, end, return_U)
        area = (self.levy_area(start, end),) if return_A else ()
        values = (w, *([u] if u is not None else []), *area)
        return values if len(values) > 1 else w

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        """W and, if `area`, U over [ta, tb]."""
        raise NotImplementedError

    def visit(self, *times: Tensor) -> None:
        """Say between which times increments will be asked for; what can be is drawn together."""

    def over(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The same for intervals in any order."""
        return self.increment(ta, tb, area)

    def levy_area(self, ta: Tensor | float, tb: Tensor | float) -> Tensor:
        """A over [ta, tb], (B, m, m): zeros where the noise commutes."""
        if self.commutes:
            zero = torch.zeros(1, 1, 1, dtype=self.dtype, device=self.device)
            return zero.expand(*self.shape, self.shape[1])
        return self._drawn_levy_area(ta, tb)

    def _drawn_levy_area(self, ta: Tensor | float, tb: Tensor | float) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={tuple(self.shape)})"


class SequentialBrownian(BoundBrownian):
    """Brownian motion over consecutive intervals: each begins where the last one ended.

    The interval that begins at u reads the numbers of each sample at the time u, so a fixed
    grid costs one draw a step. Another grid with the same seed therefore has other paths;
    those of `BrownianPath` do not depend on the grid.

    On a device the numbers of the steps to come are drawn together (see `ahead`).

    Args:
        times: the places u in their order, each with the time by which it is addressed; if left
            out, any place is its own address.
    """

    def __init__(
        self,
        seed: int | None,
        size: Sequence[int],
        samples: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        times: Mapping[float, float] | None = None,
        commutes: bool = False,
    ) -> None:
        super().__init__(seed, "brownian", size, samples, dtype, device, commutes=commutes)
        self._times = times
        self._interval: tuple[float, float] | None = None
        of_batch = self.samples, self.shape[1:], self.dtype, self.device
        self._drawn = [DrawnAhead(self._table, *of_batch) for _ in range(2)]  # of W and of H
        for which, drawn in enumerate(self._drawn):
            drawn.expect(self._node(place, which) for place in times or ())

    def increment(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        interval = (float(ta), float(tb))
        if self._interval not in (None, interval) and interval[0] != self._interval[1]:
            raise InputError(
                f"Brownian motion was asked for the interval {interval}, but the last one was "
                f"{self._interval}: a SequentialBrownian is walked in order; a BrownianPath "
                "can be evaluated in any order"
            )
        self._interval = interval
        return self.over(*interval, area)

    def over(
        self, ta: Tensor | float, tb: Tensor | float, area: bool
    ) -> tuple[Tensor, Tensor | None]:
        h = float(tb) - float(ta)
        w = math.sqrt(h) * self._numbers(float(ta), 0)
        if not area:
            return w, None
        return w, h * (0.5 * w + math.sqrt(h / 12) * self._numbers(float(ta), 1))

    def _drawn_levy_area(self, ta: Tensor | float, tb: Tensor | float) -> Tensor:
        h, (w, u) = float(tb) - float(ta), self.over(ta, tb, area=True)
        area = u / h - 0.5 * w if u is not None else w
        shape = (self.shape[1], self.shape[1])
        table = NormalTable(self.seed, "levy-area")
        z = table.rows(self.samples, self._node(float(ta), 0), shape, self.dtype, self.device)
        upper = z.triu(1)
        square = area**2
        std = (h * h / 20 + h / 5 * (square.unsqueeze(2) + square.unsqueeze(1))).sqrt()
        product = area.unsqueeze(2) * w.unsqueeze(1)
        return product - product.transpose(1, 2) + std * (upper - upper.transpose(1, 2))

    def _node(self, u: float, which: int) -> int:
        return address_of(u if self._times is None else self._times[u]) + which * _WORD

    def _numbers(self, u: float, which: int) -> Tensor:
        """The numbers at u: those of W (0) or of H (1)."""
        return self._drawn[which].at(self._node(u, which))
