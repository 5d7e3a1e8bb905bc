r"""Ensembles: the law of a process along its path, from any number of samples.

Samples are solved in chunks and only their statistics are kept, so memory grows with the
number of times and coordinates but not with the number of samples. The mean and variance of
two chunks are merged (Chan, Golub, LeVeque, 1979) by

    n = n₁ + n₂,    δ = m₂ − m₁,    m = m₁ + δ n₂/n,    M = M₁ + M₂ + δ² n₁ n₂ / n,

where M is the sum of squared deviations. Quantiles are read from a histogram of every
coordinate at every time. Its bins have a width 2ᵏ and begin at multiples of it; k is the
smallest with which all samples so far fit. When they outgrow the bins, pairs of bins are joined,
which is exact. The histogram is thus a function of the samples, whatever the chunks were, and so
are the quantiles. A bin is narrower than 1/250 of the distance between the smallest and the
largest sample, and within a bin the law is taken as uniform: a quantile is off by a bin at most.
Sample i has the noise of (seed, i), whatever the chunks are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import InputError
from diffsde.solvers.grids import Save
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.bars import load_tqdm
from diffsde.system.host import on_host
from diffsde.system.launch import from_each, process_count, process_number, share
from diffsde.system.numbers import whole_number
from diffsde.system.parameters import device_of

__all__ = ["EnsembleSummary", "ensemble"]

Start = Tensor | Callable[[int, int], Tensor]

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 512
_DIGITS = 40  # binary digits of the largest sample that a bin resolves
_FINEST = -1000  # k of a coordinate whose samples are all zero


@dataclass(frozen=True)
class EnsembleSummary:
    """Statistics of many paths, for each time and each coordinate.

    Attributes:
        ts: (T,) times in t, in the order solved.
        mean, std: (T, *shape), float64.
        levels: (Q,) levels of the quantiles, rising.
        quantiles: (Q, T, *shape).
        n: number of samples.
        stats: seconds and rejected steps of all solves together; nfe and steps of one chunk,
            the largest.
    """

    ts: Tensor
    mean: Tensor
    std: Tensor
    levels: Tensor
    quantiles: Tensor
    n: int
    stats: Stats

    def quantile(self, level: float) -> Tensor:
        """One quantile, (T, *shape).

        Raises:
            InputError: the level is not one of `levels`.
        """
        distance = (self.levels - level).abs()
        if float(distance.min()) > 1e-9:
            listed = ", ".join(f"{x:g}" for x in self.levels.tolist())
            raise InputError(f"level = {level}: this summary has {listed}; request it with levels=")
        return self.quantiles[int(distance.argmin())]


def ensemble(
    problem: Any,
    n: int,
    method: str | None = None,
    *,
    start: Start | None = None,
    chunk: int = 256,
    seed: int = 0,
    levels: Sequence[float] = _LEVELS,
    save: Save = 51,
    progress: bool = False,
    **settings: Any,
) -> EnsembleSummary:
    """Solve many samples and keep the statistics of their law at every saved time.

    The processes of one launch (`torchrun`, `accelerate launch`) divide the chunks among
    themselves, and each returns the whole, so each of them must call this.

    Args:
        problem, method: as `solve` takes them.
        n: number of samples, at least 2.
        start: initial states: a tensor (n, …), or a function (first, size) that returns `size`
            of them from index `first` on. Draws from the prior of a reverse problem if left out.
        chunk: samples solved at a time, at least 2.
        seed: seed of the prior and the noise.
        levels: levels of the quantiles, between 0 and 1.
        save: the times to keep, as `solve` takes them: their number, or times in t.
        progress: show a progress bar.
        settings: for `solve`, such as steps, clock, rtol.

    Raises:
        InputError: an argument does not fit.
    """
    n, chunk = whole_number(n, "n", 2), whole_number(chunk, "chunk", 2)
    _check(problem, n, start, levels, save)

    def part(first: int) -> Trajectory:
        x = _start(problem, start, first, min(chunk, n - first), seed)
        return solve(problem, x, method, seed=seed, first=first, save=save, **settings)

    own: _Merged | None = None
    hidden = not (progress and process_number() == 0)
    with load_tqdm()(total=n, unit="sample", disable=hidden) as bar:
        for first in share(range(0, n, chunk)):
            sol = part(first)
            own = own or _Merged(sol)
            own.add(sol)
            bar.update(sol.ys.shape[1] * process_count())
    # A process has nothing if there are fewer chunks than processes.
    merged, *others = (one for one in from_each(own) if one is not None)
    for other in others:
        merged.merge(other)
    return merged.summary(sorted(levels))


def _check(problem: Any, n: int, start: Start | None, levels: Sequence[float], save: Save) -> None:
    if not levels or not all(0 < level < 1 for level in levels):
        raise InputError(f"levels = {list(levels)}: expected numbers between 0 and 1")
    if isinstance(save, str) and save != "last":
        raise InputError(
            f"save = {save!r}: expected a number of times or the times, because all chunks "
            "must share them"
        )
    if start is None and not isinstance(problem, ReverseProblem):
        raise InputError(
            f"{type(problem).__name__} has no prior to start from: give start=, a tensor "
            "(n, …) or a function (first, size)"
        )
    if isinstance(start, Tensor) and len(start) != n:
        raise InputError(f"start has {len(start)} samples: expected {n}")


def _start(problem: Any, start: Start | None, first: int, size: int, seed: int) -> Tensor:
    if isinstance(start, Tensor):
        return start[first : first + size]
    if start is not None:
        return start(first, size)
    shape, device = (size, *problem.shape), device_of(problem)
    x: Tensor = problem.sde.prior_sample(shape, seed=seed, first=first, device=device)
    return x


class _Merged:
    """The statistics of all chunks so far."""

    def __init__(self, first: Trajectory) -> None:
        self.ts, self.shape = first.ts, first.ys.shape[2:]
        states = _flat(first)
        self.n, self.stats = 0, Stats()
        self.mean = torch.zeros_like(states[:, 0])
        self.squares = torch.zeros_like(self.mean)
        self.histogram = _Histogram(self.mean.numel())

    def add(self, sol: Trajectory) -> None:
        """Add the samples of a chunk."""
        states = _flat(sol)
        mean = states.mean(1)
        squares = (states - mean[:, None]).square().sum(1)
        self._add_moments(states.shape[1], mean, squares)
        self.histogram.add(states.transpose(1, 2).flatten(0, 1))
        self._add_stats(sol.stats)

    def merge(self, other: _Merged) -> None:
        """Add the samples of other chunks."""
        self._add_moments(other.n, other.mean, other.squares)
        self.histogram.merge(other.histogram)
        self._add_stats(other.stats)

    def _add_moments(self, n2: int, mean: Tensor, squares: Tensor) -> None:
        n1, n = self.n, self.n + n2
        shift = mean - self.mean
        self.squares += squares + shift.square() * n1 * n2 / n
        self.mean += shift * n2 / n
        self.n = n

    def _add_stats(self, one: Stats) -> None:
        whole = self.stats
        self.stats = Stats(
            max(whole.nfe, one.nfe),
            max(whole.steps, one.steps),
            whole.rejected + one.rejected,
            whole.seconds + one.seconds,
        )

    def summary(self, levels: Sequence[float]) -> EnsembleSummary:
        shape = (len(self.ts), *self.shape)
        std = (self.squares / (self.n - 1)).sqrt()
        quantiles = torch.stack([self.histogram.quantile(level) for level in levels])
        return EnsembleSummary(
            self.ts,
            self.mean.reshape(shape),
            std.reshape(shape),
            on_host(levels, torch.float64),
            quantiles.reshape(len(levels), *shape),
            self.n,
            self.stats,
        )


class _Histogram:
    """Counts of many series of samples in bins that grow with their range; see the module.

    Bin j of a series, counted from its `low`, holds the samples x with ⌊x / 2ᵏ⌋ = low + j.

    Args:
        series: how many there are, (M,).
    """

    def __init__(self, series: int) -> None:
        self.counts = torch.zeros(series, _BINS, dtype=torch.int32, device="cpu")
        self.k = torch.full((series,), _FINEST, dtype=torch.int64, device="cpu")
        self.low = torch.zeros(series, dtype=torch.int64, device="cpu")
        self.smallest = torch.full((series,), torch.inf, dtype=torch.float64, device="cpu")
        self.largest = -self.smallest

    def add(self, samples: Tensor) -> None:
        """Add samples, (M, n), float64."""
        self.smallest = torch.minimum(self.smallest, samples.amin(1))
        self.largest = torch.maximum(self.largest, samples.amax(1))
        self._make_room()
        place = self._place(samples, self.k[:, None]) - self.low[:, None]
        self.counts.scatter_add_(1, place, torch.ones_like(place, dtype=torch.int32))

    def merge(self, other: _Histogram) -> None:
        """Add the samples of another histogram of these series."""
        self.smallest = torch.minimum(self.smallest, other.smallest)
        self.largest = torch.maximum(self.largest, other.largest)
        self._make_room()  # for all samples, so no bin of the other one is wider than those here
        joined = (self.k - other.k).clamp(max=62)[:, None]
        place = ((other.low[:, None] + torch.arange(_BINS, device="cpu")) >> joined) - self.low[
            :, None
        ]
        self.counts.scatter_add_(1, place.clamp(0, _BINS - 1), other.counts)

    def _make_room(self) -> None:
        """Join bins, and move them, where not all samples would fit."""
        k = self._fitting()
        first, last = self._place(self.smallest, k), self._place(self.largest, k)
        out = (k != self.k) | (first < self.low) | (last >= self.low + _BINS)
        moved = out.nonzero()[:, 0]
        low = first[moved] - (_BINS - 1 - (last - first)[moved]) // 2  # room on both sides
        joined = (k - self.k)[moved].clamp(max=62)[:, None]  # 2⁶² bins in one: all of them
        old = self.counts[moved]
        place = ((self.low[moved, None] + torch.arange(_BINS, device="cpu")) >> joined) - low[
            :, None
        ]
        new = torch.zeros_like(old).scatter_add_(1, place.clamp(0, _BINS - 1), old)
        self.counts[moved], self.k[moved], self.low[moved] = new, k[moved], low

    def _fitting(self) -> Tensor:
        """The smallest k with which the samples so far fit, (M,)."""
        spread = ((self.largest - self.smallest) / (_BINS - 2)).frexp().exponent
        size = torch.maximum(self.largest.abs(), self.smallest.abs())
        needed = torch.where(self.largest > self.smallest, spread, _FINEST)
        resolved = torch.where(size > 0, size.frexp().exponent - _DIGITS, _FINEST)
        return torch.maximum(needed, resolved).long()

    def _place(self, x: Tensor, k: Tensor) -> Tensor:
        """⌊x / 2ᵏ⌋; a division by a power of two is exact."""
        return torch.ldexp(x, -k).floor().long()

    def quantile(self, level: float) -> Tensor:
        """(M,): the values below which each histogram has this share of the samples."""
        reached = self.counts.cumsum(1)
        wanted = level * int(reached[0, -1])
        index = (reached < wanted).sum(1, keepdim=True).clamp(max=_BINS - 1)
        inside = self.counts.gather(1, index)
        before = reached.gather(1, index) - inside
        part = (wanted - before.double()) / inside.clamp(min=1)
        value = torch.ldexp((self.low[:, None] + index + part)[:, 0], self.k)
        return value.clamp(self.smallest, self.largest)


def _flat(sol: Trajectory) -> Tensor:
    """States as (T, B, D), float64, on the CPU."""
    return sol.ys.detach().cpu().double().flatten(2)
