r"""Ensembles: the law of a process along its path, from any number of samples.

Samples are solved in chunks and only their statistics are kept, so memory grows with the
number of times and coordinates but not with the number of samples. The mean and variance of
two chunks are merged (Chan, Golub, LeVeque, 1979) by

    n = n₁ + n₂,    δ = m₂ − m₁,    m = m₁ + δ n₂/n,    M = M₁ + M₂ + δ² n₁ n₂ / n,

where M is the sum of squared deviations. Quantiles are read from a histogram of every
coordinate at every time, whose bins reach six standard deviations to either side of the first
chunk's mean. Within a bin the law is taken as uniform, so the error of a quantile is much
smaller than a bin, which is about a fortieth of a standard deviation wide. Sample i has the
noise of (seed, i), whatever the chunks are.
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

__all__ = ["EnsembleSummary", "ensemble"]

Start = Tensor | Callable[[int, int], Tensor]

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 512
_REACH = 6.0  # standard deviations on either side of the first chunk's mean


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
    from tqdm.auto import tqdm  # loaded when used

    _check(problem, n, start, chunk, levels, save)

    def part(first: int) -> Trajectory:
        x = _start(problem, start, first, min(chunk, n - first), seed)
        return solve(problem, x, method, seed=seed, first=first, save=save, **settings)

    with tqdm(total=n, unit="sample", disable=not progress) as bar:
        sol = part(0)
        merged = _Merged(sol)
        for first in range(0, n, chunk):
            sol = part(first) if first else sol
            merged.add(sol)
            bar.update(sol.ys.shape[1])
    return merged.summary(sorted(levels))


def _check(
    problem: Any, n: int, start: Start | None, chunk: int, levels: Sequence[float], save: Save
) -> None:
    for name, value in (("n", n), ("chunk", chunk)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise InputError(f"{name} = {value!r}: expected a whole number ≥ 2")
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
    x: Tensor = problem.sde.prior_sample((size, *problem.shape), seed=seed, first=first)
    return x


class _Merged:
    """The statistics of all chunks so far; the first chunk sets the bins."""

    def __init__(self, first: Trajectory) -> None:
        self.ts, self.shape = first.ts, first.ys.shape[2:]
        states = _flat(first)
        self.n, self.stats = 0, Stats()
        self.mean = torch.zeros_like(states[:, 0])
        self.squares = torch.zeros_like(self.mean)
        middle = states.mean(1)
        reach = _REACH * states.std(1)
        # Where all samples are equal, as at a common start, any small width will do.
        reach = torch.maximum(reach, 1e-9 + 1e-6 * middle.abs())
        self.low, self.width = middle - reach, 2 * reach / _BINS
        self.bins = torch.zeros(*self.mean.shape, _BINS, dtype=torch.int32)

    def add(self, sol: Trajectory) -> None:
        states = _flat(sol)
        self._add_moments(states)
        self._add_to_bins(states)
        self._add_stats(sol.stats)

    def _add_moments(self, states: Tensor) -> None:
        n1, n2 = self.n, states.shape[1]
        n = n1 + n2
        mean = states.mean(1)
        shift = mean - self.mean
        self.squares += (states - mean[:, None]).square().sum(1) + shift.square() * n1 * n2 / n
        self.mean += shift * n2 / n
        self.n = n

    def _add_to_bins(self, states: Tensor) -> None:
        place = (states - self.low[:, None]) / self.width[:, None]
        index = place.clamp(0, _BINS - 1).long().permute(0, 2, 1)
        self.bins.scatter_add_(2, index, torch.ones_like(index, dtype=torch.int32))

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
        quantiles = torch.stack([self._quantile(level) for level in levels])
        return EnsembleSummary(
            self.ts,
            self.mean.reshape(shape),
            std.reshape(shape),
            torch.tensor(levels, dtype=torch.float64),
            quantiles.reshape(len(levels), *shape),
            self.n,
            self.stats,
        )

    def _quantile(self, level: float) -> Tensor:
        """(T, D): the values below which the histogram has this share of the samples."""
        wanted = level * self.n
        reached = self.bins.cumsum(2)
        index = (reached < wanted).sum(2, keepdim=True).clamp(max=_BINS - 1)
        inside = self.bins.gather(2, index)
        before = reached.gather(2, index) - inside
        part = (wanted - before) / inside.clamp(min=1)
        return self.low + self.width * (index + part)[..., 0]


def _flat(sol: Trajectory) -> Tensor:
    """States as (T, B, D), float64, on the CPU."""
    return sol.ys.detach().double().cpu().flatten(2)
