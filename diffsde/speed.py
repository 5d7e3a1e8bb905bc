r"""Speed: the fastest way here to evaluate a score that still draws the same images.

What is fast depends on the machine, so it is measured: the same network in float32 and in
bfloat16 (autocast), with either order of channels in memory, as it is and compiled. Each is
timed against plain float32 in turns, so that whatever else the machine does falls on both,
and its error is measured where it counts: on the final images that the flow and the reverse
SDE draw from the same noise.

In bfloat16 a number has 8 bits. What touches the image itself (the first and the last
convolution) and what tells the noise level (the linear layers) stays in float32: that costs
next to nothing and takes away half of the error.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffsde.compiler import has_compiler
from diffsde.errors import InputError
from diffsde.integrate import solve
from diffsde.reverse import ProbabilityFlow, ReverseSDE
from diffsde.score import ScoreModel

__all__ = ["Optimized", "SpeedTrial", "optimize"]

_STEPS = 19  # of the solves whose images are compared, and one evaluation without noise
_WARM_UPS = 2  # evaluations before any is timed
# Weights become constants, cast and laid out once instead of at every evaluation.
_COMPILER_OPTIONS: dict[str, Any] = {"freezing": True}


@dataclass(frozen=True)
class SpeedTrial:
    """One way to evaluate the score.

    Attributes:
        name: precision, order of memory, compiled or not.
        seconds: of one evaluation of a batch, the median.
        speedup: over plain float32, the median over pairs of evaluations.
        score_error: rms of s(t) (score − score in float32), along a path of the flow: in units
            of the noise, of which a pixel has 1.
        image_error: rms of the change of final images in [0, 1] from the same noise: the larger
            of the flow's and the reverse SDE's.
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
            f"{255 * self.tolerance:.3g}/255 rms (batches of {self.batch}, "
            f"{torch.get_num_threads()} threads)"
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

    Takes a minute or two, most of it compiling. The given model is left as it is. The new one
    is called like it; differentiating it, as likelihoods do, gains less. A compiled model is
    compiled again, once, when the batch has another size.

    Args:
        model: the score; it is put in evaluation mode.
        tolerance: how much final images in [0, 1] may change, rms.
        batch: images of the evaluations that are timed; as many are drawn to find the error.
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
    ways = [
        _Way(bfloat16, channels_last)
        for bfloat16 in (False, True)
        for channels_last in (False, True)
    ]
    tried = [bench.trial(way) for way in ways]
    if compile:
        # Each precision in its better order of memory: compiling takes long.
        for some in (slice(0, 2), slice(2, 4)):
            pairs = zip(ways[some], tried[some], strict=True)
            best, _ = min(pairs, key=lambda pair: _rank(pair[1][0]))
            tried.append(bench.trial(replace(best, compiled=True)))
    chosen, fastest = _fastest(tried, tolerance)
    return Optimized(fastest, chosen, tuple(trial for trial, _ in tried), tolerance, batch)


def _rank(trial: SpeedTrial) -> float:
    return -trial.speedup if not trial.failure else 0.0


def _fastest(
    tried: Iterable[tuple[SpeedTrial, ScoreModel]], tolerance: float
) -> tuple[SpeedTrial, ScoreModel]:
    """Of those that work and keep the images; plain float32 always does."""
    good = [(t, m) for t, m in tried if not t.failure and t.image_error <= tolerance]
    return min(good, key=lambda pair: _rank(pair[0]))


@dataclass(frozen=True)
class _Way:
    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        parts = ["bfloat16" if self.bfloat16 else "float32"]
        parts += ["channels last"] if self.channels_last else []
        parts += ["compiled"] if self.compiled else []
        return ", ".join(parts)

    @property
    def plain(self) -> bool:
        return not (self.bfloat16 or self.channels_last or self.compiled)

    def of(self, model: ScoreModel) -> ScoreModel:
        """The model, evaluated this way."""
        if self.plain:
            return model
        faster = copy.deepcopy(model)
        network = _Network(faster.network, self)
        if self.bfloat16:
            _keep_exact(faster)
        faster.network = network
        if self.compiled:
            faster.network = cast(nn.Module, torch.compile(network, options=_COMPILER_OPTIONS))
        return faster


class _Network(nn.Module):
    """A network, called in another precision or order of memory."""

    def __init__(self, network: nn.Module, way: _Way) -> None:
        super().__init__()
        self.network, self.way = network, way
        self.classes = getattr(network, "classes", 0)
        if way.channels_last:
            network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, label: Tensor, *told: Tensor) -> Tensor:
        if self.way.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.way.bfloat16):
            output: Tensor = self.network(x, label, *told)
        return output.to(x.dtype).contiguous()


def _keep_exact(model: ScoreModel) -> None:
    """Take the linear layers, the first and the last convolution out of autocast."""
    called: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        called.append(module)

    weighted = [
        module
        for module in model.network.modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() > 1
    ]
    hooks = [module.register_forward_hook(note) for module in weighted]
    with torch.no_grad():
        x = model.sde.prior_sample((1, *model.shape), seed=0)
        model(x, model.sde.T)
    for hook in hooks:
        hook.remove()
    linear = [module for module in called if isinstance(module, nn.Linear)]
    others = [module for module in called if not isinstance(module, nn.Linear)]
    for module in {*linear, *others[:1], *others[-1:]}:
        module.forward = _without_autocast(module.forward)


def _without_autocast(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def exact(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float(), *rest, **named)

    return exact


class _Bench:
    """Times and errors against plain float32."""

    def __init__(self, plain: ScoreModel, batch: int, rounds: int, seed: int) -> None:
        self.plain, self.rounds, self.seed = plain, rounds, seed
        # One size of batch throughout, for which a compiled model is compiled once.
        self.start = plain.sde.prior_sample((batch, *plain.shape), seed=seed)
        self.path = solve(
            ProbabilityFlow(plain.sde, plain, plain.shape), self.start, "dpmpp_2m", steps=_STEPS,
            clock="karras",
        )  # fmt: skip
        self.images = self._images(plain)

    def trial(self, way: _Way) -> tuple[SpeedTrial, ScoreModel]:
        """A failure of any kind makes the way useless here, and is told."""
        if way.compiled and not has_compiler():
            failure = "no C++ compiler (g++ or clang++, or CXX)"
            return SpeedTrial(way.name, failure=failure), self.plain
        try:
            model = way.of(self.plain)
            seconds, speedup = self._timed(model)
            errors = self._score_error(model), self._image_error(model)
        except Exception as error:
            told = (str(error).splitlines() or [""])[0]
            return SpeedTrial(way.name, failure=f"{type(error).__name__}: {told}"), self.plain
        return SpeedTrial(way.name, seconds, speedup, *errors), model

    def _timed(self, model: ScoreModel) -> tuple[float, float]:
        for _ in range(_WARM_UPS):
            self._seconds(model)
        pairs = [(self._seconds(self.plain), self._seconds(model)) for _ in range(self.rounds)]
        speedup = statistics.median(theirs / ours for theirs, ours in pairs)
        return statistics.median(ours for _, ours in pairs), speedup

    def _seconds(self, model: ScoreModel) -> float:
        with torch.no_grad():
            started = time.perf_counter()
            model(self.start, 0.5 * self.plain.sde.T).sum().item()  # waits for an accelerator
            return time.perf_counter() - started

    def _score_error(self, model: ScoreModel) -> float:
        squares = []
        with torch.no_grad():
            for t, x in zip(self.path.ts, self.path.ys, strict=True):
                change = model(x, t) - self.plain(x, t)
                squares.append((self.plain.sde.marginal_std(t) * change).square().mean())
        return float(torch.stack(squares).mean().sqrt())

    def _image_error(self, model: ScoreModel) -> float:
        pairs = zip(self._images(model), self.images, strict=True)
        return max(float((ours - theirs).square().mean().sqrt()) for ours, theirs in pairs)

    def _images(self, model: ScoreModel) -> list[Tensor]:
        """Of the flow and of the reverse SDE, each (batch, C, H, W) in [0, 1]."""
        kinds = ((ProbabilityFlow, "dpmpp_2m"), (ReverseSDE, "sde_dpmpp_2m"))
        return [
            solve(
                problem(model.sde, model, model.shape), self.start, method, steps=_STEPS,
                clock="karras", seed=self.seed, save="last", denoise=True,
            ).final.clamp(0, 1)
            for problem, method in kinds
        ]  # fmt: skip
