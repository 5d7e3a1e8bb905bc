r"""A path while it is walked: what is kept, counted and watched, and handed back on failure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffsde.equations.forward import SDE
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import DiffSDEError, SolveError
from diffsde.solvers.dense import DenseOutput, dense_output, within_step
from diffsde.solvers.equation import EvaluationError, Limit, peak
from diffsde.solvers.events import Watch
from diffsde.solvers.grids import Grid
from diffsde.solvers.registry import Move, Run, Solver
from diffsde.solvers.trajectory import Stats, Trajectory

__all__ = ["Callback", "Event", "Limits", "Path"]

Callback = Callable[[float, Tensor, Stats], Any]
Event = Callable[[float, Tensor], Any]
Walk = Callable[[Run], Iterator[Move]]


@dataclass(frozen=True)
class Limits:
    """When a solve ends before its time."""

    max_steps: int | None = None
    max_nfe: int | None = None
    max_seconds: float | None = None
    callback: Callback | None = None
    event: Event | None = None


class Frames:
    """States one after the other, written into one tensor if their number is known.

    Args:
        like: a state.
        expected: how many there will be at most; None if that is open.
    """

    def __init__(self, like: Tensor, expected: int | None) -> None:
        self._room = None if expected is None else like.new_empty((expected, *like.shape))
        self._states: list[Tensor] = []
        self._count = 0

    def add(self, x: Tensor) -> None:
        if self._room is None:
            self._states.append(x)
        else:
            self._room[self._count] = x
        self._count += 1

    def all(self) -> Tensor:
        """Every state so far, (T, *shape of a state)."""
        if self._room is None:
            return torch.stack(self._states)
        whole = self._count == len(self._room)
        return self._room if whole else self._room[: self._count].clone()


@dataclass
class Path:
    """A path while it is walked.

    Attributes:
        solver: that walks.
        run: what the solver was given.
        grid: the nodes, and which states to keep.
        shape: of the states, as they came in.
        limits: when to end before the time is over.
        between: gives the states after each step of a run, for looking within a step.
        denoises: whether the last state will be followed by the clean image.
    """

    solver: Solver
    run: Run
    grid: Grid
    shape: torch.Size
    limits: Limits
    between: Walk
    denoises: bool = False
    stats: Stats = field(default_factory=Stats)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.us: list[float] = []
        self.calls: list[int] = []  # evaluations until each saved state
        self.frames = Frames(self.run.x, self._expected())
        self.last = Move(self.grid.us[0], self.run.x)
        self.clean: Tensor | None = None
        self.estimates: list[Tensor] | None = None
        self._nodes, self._kept = self.grid.us.tolist(), self.grid.kept.tolist()
        self._node = 0
        # A reverse problem ends near the data: a state this large is an unstable solver.
        problem = self.run.equation.problem
        self.bound = math.inf
        if isinstance(problem, ReverseProblem):
            self.bound = 100 * max(peak(self.run.x), problem.sde.prior_std)
        self._watch = self._watched()
        self._over = False
        if self._kept[0]:
            self._keep(self.last)

    def _expected(self) -> int | None:
        """How many states will be saved, if that is known; a graph is kept state by state."""
        unknown = self.grid.every or torch.is_grad_enabled()
        return None if unknown else int(self.grid.kept.sum()) + self.denoises

    # -- walking -----------------------------------------------------------------

    def walk(self, moves: Iterator[Move], *, total: int | None, progress: bool) -> None:
        """Follow the solver to the end, or hand back the path so far."""
        bar = tqdm(total=total, unit="step") if progress else None
        try:
            with nullcontext() if bar is None else bar:
                for move in moves:
                    self._take(move)
                    if bar is not None:
                        bar.set_postfix_str(f"t = {self._time(move.u):.3g}", refresh=False)
                        bar.update()
                    if self._wants_to_stop():
                        break
        except DiffSDEError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise self._failure(error) from error
        self._end()

    def _take(self, move: Move) -> None:
        largest = peak(move.x)
        if not math.isfinite(largest):
            self.stats.steps += 1
            raise EvaluationError(f"the state is not finite any more. {self._advice()}")
        if largest > self.bound:
            raise EvaluationError(
                f"the state has blown up (beyond {self.bound:g}, a hundred times where it "
                f"started). {self._advice()}"
            )
        self.last, before = move, self.last
        own = self.run.steps
        self.stats.steps = self.stats.steps + 1 if own is None else int(own.max())
        if self._watch is not None:
            self._look_for_the_event(self._watch, before, move)
        self._count()
        reached = self._reached(float(self.last.u))
        if self.grid.every or (reached is not None and self._kept[reached]):
            self._keep(self.last)

    def _look_for_the_event(self, watch: Watch, before: Move, after: Move) -> None:
        crossing = watch.crossing(
            before,
            after,
            lambda: within_step(self.solver, self.between, self.run, before, after),
        )
        if crossing is not None:
            self.last, self._over = crossing, True

    def _advice(self) -> str:
        own = self.solver.advice
        hint = f" ({self.solver.name}: {own.rstrip('.')})" if own else ""
        return f"Take more steps, another solver or another clock{hint}"

    def _reached(self, u: float) -> int | None:
        """The node that the solver has just landed on, if it is one."""
        following = self._node + 1
        if following < len(self._nodes) and u == self._nodes[following]:
            self._node = following
            return following
        return None

    def _keep(self, move: Move) -> None:
        self.us.append(float(move.u))
        self._save(move.x)

    def _save(self, x: Tensor) -> None:
        self.calls.append(self.run.equation.meter.calls)
        self.frames.add(x)

    def _count(self) -> None:
        self.stats.nfe = self.run.equation.meter.calls
        self.stats.rejected = self.run.rejected
        self.stats.seconds = time.perf_counter() - self.started

    def denoise(self) -> None:
        """Follow the last state with the clean image, at t = 0."""
        self.run.equation.meter.limit = None
        self.clean = self._clean(float(self.last.u), self.last.x)
        self._save(self.clean)

    def estimate(self) -> None:
        """The clean image as seen from each saved state."""
        self.run.equation.meter.limit = None
        pairs = zip(self.us, self.frames.all(), strict=True)
        self.estimates = [self._clean(u, x) for u, x in pairs]

    def _clean(self, u: float, x: Tensor) -> Tensor:
        return self.run.equation.problem.denoise(x, torch.tensor(self._time(u)).to(x))

    def _end(self) -> None:
        """Keep the last good state, also where the path ends early."""
        unfinished = self._node < len(self._nodes) - 1
        if unfinished and (not self.us or self.us[-1] != float(self.last.u)):
            self._keep(self.last)

    def _wants_to_stop(self) -> bool:
        limits = self.limits
        if self._callback_stops() or self._over or self._node == len(self._nodes) - 1:
            return True
        if limits.max_steps is not None and self.stats.steps >= limits.max_steps:
            raise Limit(f"max_steps = {limits.max_steps} steps are taken")
        if limits.max_seconds is not None and self.stats.seconds >= limits.max_seconds:
            raise Limit(f"max_seconds = {limits.max_seconds} are over")
        return False

    def _callback_stops(self) -> bool:
        callback = self.limits.callback
        if callback is None:
            return False
        return bool(callback(self._time(self.last.u), self._shaped(self.last.x), self.stats))

    def _watched(self) -> Watch | None:
        event, clock, shape = self.limits.event, self.run.equation.clock, self.shape
        if event is None:
            return None
        return Watch(lambda u, x: float(event(float(clock.time(u)), x.reshape(shape))))

    def _failure(self, error: BaseException) -> SolveError:
        self._count()
        self._end()
        t = self._time(self.last.u)
        words = f"{type(error).__name__}: {error}"
        if isinstance(error, (Limit, EvaluationError)):
            words = str(error)
        elif isinstance(error, KeyboardInterrupt):
            words = "interrupted"
        return SolveError(
            f"{self.solver.name} stopped after {self.stats.steps} steps at t = {t:.6g}, "
            f"where the state was last good: {words}. "
            "The path so far is in this error's trajectory",
            self.trajectory(),
        )

    # -- what is handed back -----------------------------------------------------

    def _time(self, u: Tensor | float) -> float:
        return float(self.run.equation.clock.time(torch.as_tensor(u, dtype=torch.float64)))

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)

    def trajectory(self, walk: Walk | None = None) -> Trajectory:
        """The path so far; given `walk`, which walks a run, also between its states."""
        self._count()
        us = torch.tensor(self.us, dtype=torch.float64)
        ts, ys = self._times(us), self.frames.all()
        if self.clean is not None:
            ts = torch.cat([ts, ts.new_zeros(1)])
        diffusion, std = _curves(self.run.equation.problem, ts)
        return Trajectory(
            ts,
            ys.reshape(len(ts), *self.shape),
            self.solver.name,
            self.stats,
            tuple(getattr(self.run.equation.problem, "shape", self.shape[1:])),
            diffusion,
            std,
            self._estimates(),
            torch.tensor(self.calls),
            _dense=None if walk is None else self._dense(us, walk),
        )

    def _estimates(self) -> Tensor | None:
        if self.estimates is None:
            return None
        last = [] if self.clean is None else [self.clean]
        return torch.stack([*self.estimates, *last]).reshape(-1, *self.shape)

    def _dense(self, us: Tensor, walk: Walk) -> DenseOutput:
        self.run.equation.meter.limit = None
        self.run.equation.forget()
        return dense_output(self.solver, walk, self.run, us)

    def _times(self, us: Tensor) -> Tensor:
        """t of each saved state; on nodes, exactly the times that were asked for."""
        exact = dict(zip(self._nodes, self.grid.ts.tolist(), strict=True))
        if all(u in exact for u in self.us):
            return torch.tensor([exact[u] for u in self.us], dtype=torch.float64)
        found = self.run.equation.clock.time(us).tolist()
        listed = [exact.get(u, t) for u, t in zip(self.us, found, strict=True)]
        return torch.tensor(listed, dtype=torch.float64)


def _curves(problem: Any, ts: Tensor) -> tuple[Tensor | None, Tensor | None]:
    sde = problem if isinstance(problem, SDE) else getattr(problem, "sde", None)
    if not isinstance(sde, SDE):
        return None, None
    return sde.diffusion(ts), sde.marginal_std(ts)
