r"""Checks: whether the numbers of a solve are finite, and its states within bounds.

On the CPU every number is looked at as soon as it is there. On any other device a look makes the
host wait until the device has done all that it was told. So there the smallest and the largest
number of each evaluation and of each sample's state are kept on the device, a few numbers a step,
and are fetched together when somebody looks. A look finds the first bad step; all that came after
it is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.equations.counted import BlowUp, largest_magnitude, not_finite

__all__ = ["Checks", "LateBlowUp"]

_BLOWN_UP = 100  # times the largest state that a solve should see


class LateBlowUp(BlowUp):
    """A blow-up that was found after the solve had gone on.

    Attributes:
        good: how many steps were good before it.
        state: the last good state; None if it was not kept here.
    """

    def __init__(self, words: str, good: int, state: Tensor | None) -> None:
        super().__init__(words)
        self.good, self.state = good, state


@dataclass(frozen=True)
class _Row:
    """What is known of a step: the names of what was evaluated, and the ends of all numbers.

    The ends are the smallest and the largest number of each evaluation, then the smallest of each
    sample's state, then the largest of each; the state may be missing.
    """

    names: Sequence[str]
    ends: Tensor


class Checks:
    """The checks of one solve.

    Args:
        x: (B, …), the state at its start.
        scale: how large a number of a state may well be.
        advice: what to do about a state that has blown up.
        keep: whether the last good state is kept here, because nobody else keeps every state.

    Attributes:
        prompt: whether numbers are looked at as soon as they are there, which costs nothing.
    """

    def __init__(self, x: Tensor, scale: float, advice: str, *, keep: bool) -> None:
        self.prompt, self._advice = x.device.type == "cpu", advice
        # A reverse problem ends near the data: a state this large comes from an unstable solver.
        # Each sample is measured by itself, whatever its batch. In what follows no number is
        # larger than the largest finite one.
        exact = x.double() if self.prompt else x  # a device may have no float64
        bounds = (_BLOWN_UP * _sizes(exact)).clamp(min=_BLOWN_UP * scale)
        self._bounds = bounds.clamp(max=torch.finfo(bounds.dtype).max)
        self._lowest = float(self._bounds.min()) if self.prompt else 0.0
        self._rows: list[_Row] = []
        self._names: list[str] = []  # of the evaluations since the last state
        self._ends: list[Tensor] = []  # (1,) each, of these evaluations
        self._good = 0  # states that a look has found to be good
        self._limits: dict[int, Tensor] = {}
        self._kept = x.detach() if keep and not self.prompt else None
        self._fine: Tensor | None = None  # () bool: whether all since the last look is good

    # -- numbers as they come in ---------------------------------------------------------

    def evaluation(self, value: Tensor, name: str) -> None:
        """Check what the score or the drift, of that name, returned.

        Raises:
            BlowUp: it is not finite. On other devices a look says so.
        """
        if not self.prompt:
            self._names.append(name)
            self._ends += [end.reshape(1) for end in torch.aminmax(value.detach())]
        elif not math.isfinite(largest_magnitude(value)):
            raise BlowUp(not_finite(name))

    def state(self, x: Tensor) -> None:
        """Check a state at the end of a step, (B, …).

        Raises:
            BlowUp: it is not finite or too large. On other devices a look says so.
        """
        if not self.prompt:
            self._gather(x)
            return
        if not largest_magnitude(x) <= self._lowest:
            fault = self._fault_of_state(_sizes(x).double(), self._bounds)
            if fault is not None:
                raise BlowUp(fault)

    def _gather(self, x: Tensor) -> None:
        lowest, highest = torch.aminmax(x.detach().flatten(1), dim=1)
        row = _Row(self._names, torch.cat([*self._ends, lowest, highest]))
        self._rows.append(row)
        self._names, self._ends = [], []
        if self._kept is not None:
            fine = (row.ends.abs() <= self._limits_of(row)).all()
            self._fine = fine if self._fine is None else self._fine & fine
            self._kept = torch.where(self._fine, x.detach(), self._kept)

    def _limits_of(self, row: _Row) -> Tensor:
        """How large each of the ends of a whole row may be."""
        count = len(row.names)
        if count not in self._limits:
            finite = row.ends.new_full((2 * count,), torch.finfo(row.ends.dtype).max)
            self._limits[count] = torch.cat([finite, self._bounds, self._bounds])
        return self._limits[count]

    # -- looks ---------------------------------------------------------------------------

    def look(self) -> None:
        """Fetch what has been gathered since the last look.

        Raises:
            LateBlowUp: a number was bad; the first one counts.
        """
        if self._rows or self._names:
            self.fetch(self._bounds[:0])

    def fetch(self, value: Tensor) -> Tensor:
        """A value on the host, in float64, and a look at all that led to it: one way for both.

        Raises:
            LateBlowUp: a number was bad; the first one counts.
        """
        rows = self._rows + ([_Row(self._names, torch.cat(self._ends))] if self._names else [])
        self._rows, self._names, self._ends, self._fine = [], [], [], None
        if not rows:
            return value.cpu().double()
        parts = [value.flatten(), self._bounds, *(row.ends for row in rows)]
        fetched = torch.cat(parts).cpu().double()  # the only time that the host waits
        found, bounds, *ends = fetched.split([len(part) for part in parts])
        for row, of_row in zip(rows, ends, strict=True):
            fault = self._fault_of(row.names, of_row.abs(), bounds)
            if fault is not None:
                raise LateBlowUp(fault, self._good, self._kept)
            self._good += len(of_row) > 2 * len(row.names)
        return found.reshape(value.shape)

    def verdict(self) -> Tensor:
        """Whether all that was gathered since the last look is good: () bool, on the device."""
        fine = [(row.ends.abs() <= self._limits_of(row)).all() for row in self._rows]
        fine += [end.isfinite().all() for end in self._ends]
        return torch.stack(fine).all()

    # On the host:

    def _fault_of(self, names: Sequence[str], ends: Tensor, bounds: Tensor) -> str | None:
        """What is wrong with a row, of which the absolute values are given; None if nothing is."""
        evaluations, state = ends[: 2 * len(names)], ends[2 * len(names) :]
        for name, finite in zip(names, evaluations.view(-1, 2).isfinite().all(1), strict=True):
            if not finite:
                return not_finite(name)
        return self._fault_of_state(state.view(2, -1).amax(0), bounds) if len(state) else None

    def _fault_of_state(self, sizes: Tensor, bounds: Tensor) -> str | None:
        """What is wrong with a state, by the largest |value| of each sample, (B,)."""
        if not bool(sizes.isfinite().all()):
            return f"the state is not finite any more. {self._advice}"
        beyond = sizes > bounds
        if not bool(beyond.any()):
            return None
        return (
            f"the state has blown up (beyond {float(bounds[beyond][0]):g}, a hundred times where "
            "it started, the prior's scale and what is known of the data's; for larger data give "
            f"the problem data_scale=). {self._advice}"
        )


def _sizes(x: Tensor) -> Tensor:
    """The largest |value| of each sample, (B,)."""
    return x.detach().flatten(1).abs().amax(1)
