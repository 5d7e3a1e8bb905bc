r"""Speed: the fastest way here to evaluate a score that still draws the same images.

What is fast depends on the machine, so it is measured: the same network in float32 and in
bfloat16 (autocast), with either order of channels in memory, as it is and compiled. Each is
timed against plain float32 in turns, so that whatever else the machine does falls on both,
and its error is measured where it counts: on the final images that the flow and the reverse
SDE draw from the same noise.

If bfloat16 changes the images too much, it is used at some noise levels only. Which they are
is measured too: the error is made where an image is decided, in a few evaluations of a solve.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diffsde.equations.reverse import ProbabilityFlow, ReverseSDE
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.scores.precision import ByNoiseLevel, Way
from diffsde.solvers.solving import solve
from diffsde.system.compiler import has_compiler

__all__ = ["Optimized", "SpeedTrial", "optimize"]

_STEPS = 19  # of the solves whose images are compared, and one evaluation without noise
_WARM_UPS = 2  # evaluations before any is timed
_NOISES = 2  # batches of noise from which the images are drawn
# A few images near a fork make most of the error, and which they are changes with the noise:
# what is measured must leave a quarter of what is allowed.
_SPARE = 0.75


@dataclass(frozen=True)
class SpeedTrial:
    """One way to evaluate the score.

    Attributes:
        name: precision, order of memory, compiled or not.
        seconds: of one evaluation of a batch, the median; if it depends on the noise level,
            the mean over the 20 evaluations of a solve.
        speedup: over plain float32, the median over pairs of evaluations; if it depends on the
            noise level, that of the 20 evaluations together.
        score_error: rms of s(t) (score − score in float32), along a path of the flow: in units
            of the noise, of which a pixel has 1.
        image_error: rms of the change of final images in [0, 1] from the same noise: the largest
            of the flow's and the reverse SDE's, for two batches of noise each.
        failure: why it does not work here; empty if it does.
    """

    name: str
    seconds: float = float("nan")
    speedup: float = float("nan")
    score_error: float = float("nan")
    image_error: float = float("nan")
    failure: str = ""


@dataclass(frozen=True, repr=False)
class Optimized:
    """What `optimize` finds. Printed, it is a table.

    Attributes:
        model: the model to solve with.
        chosen: its way, one of `trials`.
        trials: all that was tried, plain float32 first.
        tolerance: the image error that was allowed.
        batch: images in the evaluations that were timed.
    """

    model: ScoreModel
    chosen: SpeedTrial
    trials: tuple[SpeedTrial, ...]
    tolerance: float
    batch: int

    def __repr__(self) -> str:
        head = ("", "ms", "speed", "score error", "images, 1/255")
        lines = [head, *(self._cells(trial) for trial in self.trials)]
        widths = [max(len(line[k]) for line in lines if len(line) > 2) for k in range(len(head))]
        widths[0] = max(len(line[0]) for line in lines)
        table = "\n".join(
            "  ".join(
                cell.rjust(width) if k and len(line) > 2 else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=False))
            ).rstrip()
            for line in lines
        )
        return (
            f"{table}\n{self.chosen.name} is the fastest whose images change by at most "
            f"{255 * self.tolerance:.3g}/255 rms, with a quarter to spare "
            f"(batches of {self.batch}, {torch.get_num_threads()} threads)"
        )

    def _cells(self, trial: SpeedTrial) -> tuple[str, ...]:
        mark = "> " if trial == self.chosen else "  "
        if trial.failure:
            return mark + trial.name, trial.failure
        return (
            mark + trial.name,
            f"{1e3 * trial.seconds:.1f}",
            f"{trial.speedup:.2f}",
            f"{trial.score_error:.2g}",
            f"{255 * trial.image_error:.2g}",
        )


def optimize(
    model: ScoreModel,
    *,
    tolerance: float = 1 / 255,
    batch: int = 32,
    compile: bool = True,
    rounds: int = 9,
    seed: int = 0,
) -> Optimized:
    """Find the fastest way to evaluate a model's score on this machine, for solving.

    Takes a few minutes, most of them compiling. The given model is left as it is. The new one
    is called like it; differentiating it, as likelihoods do, gains less. A compiled model is
    compiled again, once, when the batch has another size. If the new model depends on the noise
    level, a batch of several levels is evaluated as exactly as any of them needs.

    Args:
        model: the score; it is put in evaluation mode.
        tolerance: how much final images in [0, 1] may change, rms. What is measured must be a
            quarter less, because it is more for some noise and less for other.
        batch: images of the evaluations that are timed; twice as many are drawn to find the
            error.
        compile: try `torch.compile` too; it needs a C++ compiler.
        rounds: pairs of timings.
        seed: of the noise.

    Returns:
        The model, and all that was tried, with what failed and why.

        fast = diffsde.optimize(model)
        print(fast)
        flow = ProbabilityFlow(fast.model.sde, fast.model, fast.model.shape)
    """
    for name, value in (("batch", batch), ("rounds", rounds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} = {value!r}: expected a whole number ≥ 1")
    if not tolerance >= 0:
        raise InputError(f"tolerance = {tolerance}: expected a number ≥ 0")
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    bench = _Bench(plain, batch, rounds, seed)
    ways = (Way(b, channels_last=last) for b in (False, True) for last in (False, True))
    tried = {way: bench.trial(way) for way in ways}
    if compile:
        # Each precision in its better order of memory: compiling takes long.
        for bfloat16 in (False, True):
            way = replace(_best(tried, bfloat16), compiled=True)
            tried[way] = bench.trial(way)
    rows = list(tried.values())
    exact, fast = (tried[_best(tried, bfloat16)] for bfloat16 in (False, True))
    allowed = _SPARE * tolerance
    if fast[0].image_error > allowed and fast[0].speedup > exact[0].speedup:
        rows += bench.by_noise_level(exact, fast, _SPARE * allowed)
    chosen, fastest = _fastest(rows, allowed)
    return Optimized(fastest, chosen, tuple(trial for trial, _ in rows), tolerance, batch)


_Tried = tuple[SpeedTrial, ScoreModel]


def _best(tried: dict[Way, _Tried], bfloat16: bool) -> Way:
    """The fastest of a precision."""
    return min((w for w in tried if w.bfloat16 == bfloat16), key=lambda w: _rank(tried[w][0]))


def _rank(trial: SpeedTrial) -> float:
    return -trial.speedup if not trial.failure else 0.0


def _fastest(tried: Iterable[_Tried], allowed: float) -> _Tried:
    """Of those that work and keep the images; plain float32 always does."""
    good = [(t, m) for t, m in tried if not t.failure and t.image_error <= allowed]
    return min(good, key=lambda pair: _rank(pair[0]))


class _FinalImages:
    """The images that plain float32 draws from some noise, and how much others change them."""

    def __init__(self, plain: ScoreModel, batch: int, seed: int) -> None:
        self.batch, self.seeds = batch, range(seed, seed + _NOISES)
        self.images = self._of(plain)

    def change(self, model: ScoreModel) -> float:
        """Rms of a batch, the largest of the flow's and the reverse SDE's."""
        pairs = zip(self._of(model), self.images, strict=True)
        return max(float((ours - theirs).square().mean().sqrt()) for ours, theirs in pairs)

    def _of(self, model: ScoreModel) -> list[Tensor]:
        """Of the flow and of the reverse SDE, batches (batch, C, H, W) in [0, 1]."""
        kinds = ((ProbabilityFlow, "dpmpp_2m"), (ReverseSDE, "sde_dpmpp_2m"))
        return [
            solve(
                problem(model.sde, model, model.shape),
                model.sde.prior_sample((self.batch, *model.shape), seed=seed), method,
                steps=_STEPS, clock="karras", seed=seed, save="last", denoise=True,
            ).final.clamp(0, 1)
            for problem, method in kinds
            for seed in self.seeds
        ]  # fmt: skip


class _Bench:
    """Times and errors against plain float32."""

    def __init__(self, plain: ScoreModel, batch: int, rounds: int, seed: int) -> None:
        self.plain, self.rounds = plain, rounds
        # One size of batch throughout, for which a compiled model is compiled once.
        self.images = _FinalImages(plain, batch, seed)
        self.start = plain.sde.prior_sample((batch, *plain.shape), seed=seed)
        self.path = solve(
            ProbabilityFlow(plain.sde, plain, plain.shape), self.start, "dpmpp_2m", steps=_STEPS,
            clock="karras",
        )  # fmt: skip

    def trial(self, way: Way) -> _Tried:
        """A failure of any kind makes the way useless here, and is told."""
        if way.compiled and not has_compiler():
            failure = "no C++ compiler (g++ or clang++, or CXX)"
            return SpeedTrial(way.name, failure=failure), self.plain
        try:
            model = way.of(self.plain)
            seconds, speedup = self._timed(model)
            errors = self._score_error(model), self.images.change(model)
        except Exception as error:
            told = (str(error).splitlines() or [""])[0]
            return SpeedTrial(way.name, failure=f"{type(error).__name__}: {told}"), self.plain
        return SpeedTrial(way.name, seconds, speedup, *errors), model

    def by_noise_level(self, exact: _Tried, fast: _Tried, allowed: float) -> list[_Tried]:
        """Exact at the fewest noise levels that keep the images; none, if that is no way."""
        levels = _Levels(self.plain, self.path.ts)
        first, last = self._band(levels, exact[1], fast[1], allowed)
        count = len(self.path.ts)
        if not 0 < last - first < count:
            return []
        model = levels.mixed(exact[1], fast[1], first, last)
        share = (last - first) / count
        trial = SpeedTrial(
            f"{fast[0].name}; float32 for σ of {levels.told(first, last)}",
            share * exact[0].seconds + (1 - share) * fast[0].seconds,
            1 / (share / exact[0].speedup + (1 - share) / fast[0].speedup),
            self._score_error(model), self.images.change(model),
        )  # fmt: skip
        return [(trial, model)]

    def _band(
        self, levels: _Levels, exact: ScoreModel, fast: ScoreModel, allowed: float
    ) -> tuple[int, int]:
        """Of a solve's evaluations the run [first, last) that must be exact.

        Before and after it, as many are fast as may be: either part's error is at most 1/√2 of
        what is allowed, because errors add in squares.
        """
        count = len(self.path.ts)

        def harmful(first: int, last: int) -> bool:
            model = levels.mixed(fast, exact, first, last)
            return not self.images.change(model) <= allowed / math.sqrt(2)

        some = range(1, count + 1)
        before = bisect_left(some, True, key=lambda n: harmful(0, n))
        after = bisect_left(some, True, key=lambda n: harmful(count - n, count))
        return before, count - after

    def _timed(self, model: ScoreModel) -> tuple[float, float]:
        for _ in range(_WARM_UPS):
            self._seconds(model)
        pairs = [(self._seconds(self.plain), self._seconds(model)) for _ in range(self.rounds)]
        speedup = statistics.median(theirs / ours for theirs, ours in pairs)
        return statistics.median(ours for _, ours in pairs), speedup

    def _seconds(self, model: ScoreModel) -> float:
        with torch.no_grad():
            started = time.perf_counter()
            score = model(self.start, 0.5 * self.plain.sde.T)
            score.sum().item()  # waits for an accelerator
            return time.perf_counter() - started

    def _score_error(self, model: ScoreModel) -> float:
        squares = []
        with torch.no_grad():
            for t, x in zip(self.path.ts, self.path.ys, strict=True):
                change = model(x, t) - self.plain(x, t)
                squares.append((self.plain.sde.marginal_std(t) * change).square().mean())
        return float(torch.stack(squares).mean().sqrt())


class _Levels:
    """The noise levels of a solve's evaluations, from the highest to the lowest."""

    def __init__(self, plain: ScoreModel, ts: Tensor) -> None:
        self.plain = plain
        self.sigmas = plain.sde.marginal_std(ts) / plain.sde.marginal_scale(ts)
        labels = plain.preconditioning.coefficients(plain.sde, ts).label.tolist()
        # A label grows with the noise level, whatever the preconditioning.
        between = [(higher + lower) / 2 for higher, lower in pairwise(labels)]
        self.edges = [math.inf, *between, -math.inf]

    def mixed(self, inside: ScoreModel, outside: ScoreModel, first: int, last: int) -> ScoreModel:
        """One model at the levels of evaluations [first, last), the other at the rest."""
        band = self.edges[last], self.edges[first]
        network = ByNoiseLevel(inside.network, outside.network, band)
        plain = self.plain
        return ScoreModel(network, plain.sde, plain.shape, plain.preconditioning).eval()

    def told(self, first: int, last: int) -> str:
        """The levels σ of evaluations [first, last)."""
        return f"{float(self.sigmas[last - 1]):.2g} to {float(self.sigmas[first]):.2g}"
