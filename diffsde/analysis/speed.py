r"""Speed: the fastest way to evaluate a score on this machine that still draws the same images.

What is fast depends on the machine, so it is measured: the same network in float32 and in
bfloat16 (autocast), in either memory format, compiled and not. Each is timed in turn with
plain float32, and its error is measured on the final images.

If bfloat16 changes the images too much, it is used at some noise levels only. These are
measured too: the error arises where an image is decided, in a few evaluations of a solve.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from diffsde.analysis.speed_bench import Bench, SpeedTrial, Tried
from diffsde.scores.model import ScoreModel
from diffsde.scores.precision import Way
from diffsde.system.numbers import real_number, whole_number
from diffsde.system.wrapped import unwrapped

__all__ = ["Optimized", "optimize"]

# A few images near a fork cause most of the error, and they change with the noise. So the
# measured error must leave a quarter of the tolerance unused.
_SPARE = 0.75


@dataclass(frozen=True, repr=False)
class Optimized:
    """The result of `optimize`; `print` shows it as a table.

    Attributes:
        model: the model to solve with.
        chosen: how it is evaluated, one of `trials`.
        trials: everything that was tried, plain float32 first.
        tolerance: the image error that was allowed.
        batch: images in each timed evaluation.
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

    This takes a few minutes, most of them for compiling. The given model is not changed; the
    new one is called in the same way. Derivatives of the score, as likelihoods need them, gain
    less speed. A compiled model is compiled again once if the batch size changes. If the new
    model depends on the noise level, a batch with several levels is evaluated as exactly as
    the most sensitive of them needs.

    Args:
        model: the score; a copy of it in evaluation mode is measured.
        tolerance: the allowed rms change of final images in [0, 1]. The measured change must
            be a quarter less, because it is larger for some noise and smaller for other.
        batch: images in each timed evaluation; twice as many are drawn to measure the error.
        compile: try `torch.compile` too; it needs a C++ compiler.
        rounds: pairs of timings.
        seed: seed of the noise.

    Returns:
        The model, and everything that was tried, with what failed and why.

    Raises:
        InputError: a number is out of range.

        fast = diffsde.optimize(model)
        print(fast)
        flow = ProbabilityFlow(fast.model.sde, fast.model, fast.model.shape)
    """
    tolerance = real_number(tolerance, "tolerance", "a number ≥ 0", 0.0)
    batch, rounds = whole_number(batch, "batch"), whole_number(rounds, "rounds")
    bench = Bench(copy.deepcopy(unwrapped(model)).eval().requires_grad_(False), batch, rounds, seed)
    tried = _trials(bench, compile=compile)
    rows = list(tried.values())
    exact, fast = (tried[_best(tried, bfloat16)] for bfloat16 in (False, True))
    allowed = _SPARE * tolerance
    if fast[0].image_error > allowed and fast[0].speedup > exact[0].speedup:
        rows += bench.by_noise_level(exact, fast, _SPARE * allowed)
    chosen, fastest = _fastest(rows, allowed)
    return Optimized(fastest, chosen, tuple(trial for trial, _ in rows), tolerance, batch)


def _trials(bench: Bench, *, compile: bool) -> dict[Way, Tried]:
    ways = (Way(b, channels_last=last) for b in (False, True) for last in (False, True))
    tried = {way: bench.trial(way) for way in ways}
    if compile:
        # Only the faster memory format of each precision, because compiling takes long.
        for bfloat16 in (False, True):
            way = replace(_best(tried, bfloat16), compiled=True)
            tried[way] = bench.trial(way)
    return tried


def _best(tried: dict[Way, Tried], bfloat16: bool) -> Way:
    """The fastest way in one precision."""
    return min((w for w in tried if w.bfloat16 == bfloat16), key=lambda w: _rank(tried[w][0]))


def _rank(trial: SpeedTrial) -> float:
    return -trial.speedup if not trial.failure else 0.0


def _fastest(tried: Iterable[Tried], allowed: float) -> Tried:
    """The fastest that works and keeps the images; plain float32 always does."""
    good = [(t, m) for t, m in tried if not t.failure and t.image_error <= allowed]
    return min(good, key=lambda pair: _rank(pair[0]))
