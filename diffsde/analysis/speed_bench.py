r"""Measure one way to evaluate a score against plain float32: its time and its errors.

The two are timed in turn, so that any other load on the machine affects both. Errors are
measured on scores along a path, and where they matter: on the final images that the flow and
the reverse SDE draw from the same noise.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diffsde.equations.reverse import ProbabilityFlow, ReverseSDE
from diffsde.scores.model import ScoreModel
from diffsde.scores.precision import ByNoiseLevel, Way
from diffsde.solvers.solving import solve
from diffsde.system.clock import seconds_on
from diffsde.system.compiler import has_compiler
from diffsde.system.parameters import device_of

__all__ = ["Bench", "NoiseLevels", "SpeedTrial", "Tried"]

_STEPS = 19  # of the solves whose images are compared; a last evaluation removes the noise
_WARM_UPS = 2  # evaluations before the timed ones
_NOISES = 2  # batches of noise from which the images are drawn


@dataclass(frozen=True)
class SpeedTrial:
    """One way to evaluate the score.

    Attributes:
        name: precision, memory format, compiled or not.
        seconds: time of one evaluation of a batch, the median; for a way that depends on the
            noise level, the mean over the 20 evaluations of a solve.
        speedup: ratio to plain float32, the median over pairs of evaluations; for a way that
            depends on the noise level, that of the 20 evaluations together.
        score_error: rms of s(t) (score − score in float32) along a path of the flow: in units
            of the noise, of which each pixel has 1.
        image_error: rms change of final images in [0, 1] from the same noise: the largest over
            the flow and the reverse SDE and two batches of noise.
        failure: why it does not work here; empty if it does.
    """

    name: str
    seconds: float = float("nan")
    speedup: float = float("nan")
    score_error: float = float("nan")
    image_error: float = float("nan")
    failure: str = ""


Tried = tuple[SpeedTrial, ScoreModel]


class _FinalImages:
    """The images that plain float32 draws from some noise, to compare with those of others."""

    def __init__(self, plain: ScoreModel, batch: int, seed: int) -> None:
        self.batch, self.seeds = batch, range(seed, seed + _NOISES)
        self.images = self._of(plain)

    def change(self, model: ScoreModel) -> float:
        """The rms change of a batch of images, the largest over all batches."""
        pairs = zip(self._of(model), self.images, strict=True)
        return max(float((ours - theirs).square().mean().sqrt()) for ours, theirs in pairs)

    def _of(self, model: ScoreModel) -> list[Tensor]:
        """Batches (batch, C, H, W) in [0, 1], from the flow and from the reverse SDE."""
        kinds = ((ProbabilityFlow, "dpmpp_2m"), (ReverseSDE, "sde_dpmpp_2m"))
        return [
            solve(
                problem(model.sde, model, model.shape),
                _noise(model, self.batch, seed), method,
                steps=_STEPS, clock="karras", seed=seed, save="last", denoise=True,
            ).images()
            for problem, method in kinds
            for seed in self.seeds
        ]  # fmt: skip


class Bench:
    """Times and errors against plain float32.

    Args:
        plain: the score in float32.
        batch: images of one evaluation.
        rounds: pairs of timings.
        seed: seed of the noise.
    """

    def __init__(self, plain: ScoreModel, batch: int, rounds: int, seed: int) -> None:
        self.plain, self.rounds = plain, rounds
        # All batches have the same size, so that a compiled model is compiled once.
        self.images = _FinalImages(plain, batch, seed)
        self.start = _noise(plain, batch, seed)
        self.path = solve(
            ProbabilityFlow(plain.sde, plain, plain.shape), self.start, "dpmpp_2m", steps=_STEPS,
            clock="karras",
        )  # fmt: skip

    def trial(self, way: Way) -> Tried:
        """Time a way and measure its errors. Any exception is reported as its failure."""
        if way.compiled and not has_compiler():
            failure = "no C++ compiler (g++ or clang++, or CXX)"
            return SpeedTrial(way.name, failure=failure), self.plain
        try:
            model = way.of(self.plain)
            seconds, speedup = self._timed(model)
            errors = self._score_error(model), self.images.change(model)
        except Exception as error:
            message = (str(error).splitlines() or [""])[0]
            return SpeedTrial(way.name, failure=f"{type(error).__name__}: {message}"), self.plain
        return SpeedTrial(way.name, seconds, speedup, *errors), model

    def by_noise_level(self, exact: Tried, fast: Tried, allowed: float) -> list[Tried]:
        """Exact at the fewest noise levels that keep the images; empty if these are all or none."""
        levels = NoiseLevels(self.plain, self.path.ts)
        first, last = self._band(levels, exact[1], fast[1], allowed)
        total = len(self.path.ts)
        if not 0 < last - first < total:
            return []
        model = levels.mixed(exact[1], fast[1], first, last)
        share = (last - first) / total
        trial = SpeedTrial(
            f"{fast[0].name}; float32 for σ of {levels.named(first, last)}",
            share * exact[0].seconds + (1 - share) * fast[0].seconds,
            1 / (share / exact[0].speedup + (1 - share) / fast[0].speedup),
            self._score_error(model), self.images.change(model),
        )  # fmt: skip
        return [(trial, model)]

    def _band(
        self, levels: NoiseLevels, exact: ScoreModel, fast: ScoreModel, allowed: float
    ) -> tuple[int, int]:
        """The range [first, last) of a solve's evaluations that must be exact.

        As many evaluations as possible are fast before this range, and as many as possible
        after it. The error of either part is at most 1/√2 of the allowed error, because errors
        add in squares.
        """
        total = len(self.path.ts)

        def harmful(first: int, last: int) -> bool:
            model = levels.mixed(fast, exact, first, last)
            return not self.images.change(model) <= allowed / math.sqrt(2)

        some = range(1, total + 1)
        before = bisect_left(some, True, key=lambda n: harmful(0, n))
        after = bisect_left(some, True, key=lambda n: harmful(total - n, total))
        return before, total - after

    def _timed(self, model: ScoreModel) -> tuple[float, float]:
        """Median seconds of an evaluation, and median speedup over pairs of evaluations."""
        for _ in range(_WARM_UPS):
            self._seconds(model)
        pairs = [(self._seconds(self.plain), self._seconds(model)) for _ in range(self.rounds)]
        speedup = statistics.median(theirs / ours for theirs, ours in pairs)
        return statistics.median(ours for _, ours in pairs), speedup

    def _seconds(self, model: ScoreModel) -> float:
        with torch.no_grad():
            started = seconds_on(self.start.device)
            model(self.start, 0.5 * self.plain.sde.T)
            return seconds_on(self.start.device) - started

    def _score_error(self, model: ScoreModel) -> float:
        squares = []
        with torch.no_grad():
            for t, x in zip(self.path.ts, self.path.ys, strict=True):
                change = model(x, t) - self.plain(x, t)
                squares.append((self.plain.sde.marginal_std(t) * change).square().mean())
        return float(torch.stack(squares).mean().sqrt())


def _noise(model: ScoreModel, batch: int, seed: int) -> Tensor:
    """Where the paths of a batch start, on the model's device."""
    place = device_of(model)
    return model.sde.prior_sample((batch, *model.shape), seed=seed, device=place)


class NoiseLevels:
    """The noise levels of a solve's evaluations, from the highest to the lowest.

    Args:
        plain: the score in float32.
        ts: (N,) times of the evaluations.
    """

    def __init__(self, plain: ScoreModel, ts: Tensor) -> None:
        self.plain = plain
        self.sigmas = plain.sde.marginal_std(ts) / plain.sde.marginal_scale(ts)
        labels = plain.preconditioning.coefficients(plain.sde, ts).label.tolist()
        # With every preconditioning the label grows with the noise level.
        between = [(higher + lower) / 2 for higher, lower in pairwise(labels)]
        self.edges = [math.inf, *between, -math.inf]

    def mixed(self, inside: ScoreModel, outside: ScoreModel, first: int, last: int) -> ScoreModel:
        """One model at the noise levels of evaluations [first, last), the other elsewhere."""
        band = self.edges[last], self.edges[first]
        network = ByNoiseLevel(inside.network, outside.network, band)
        plain = self.plain
        return ScoreModel(network, plain.sde, plain.shape, plain.preconditioning).eval()

    def named(self, first: int, last: int) -> str:
        """The noise levels σ of evaluations [first, last) as text."""
        return f"{float(self.sigmas[last - 1]):.2g} to {float(self.sigmas[first]):.2g}"
