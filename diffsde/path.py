r"""A path while it is walked: what is kept, counted and watched, and handed back on failure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffsde.dense import dense_output
from diffsde.equation import EvaluationError, Limit
from diffsde.errors import DiffSDEError, SolveError
from diffsde.grids import Grid
from diffsde.reverse import ReverseProblem
from diffsde.sde import SDE
from diffsde.solvers import Move, Run, Solver
from diffsde.trajectory import Stats, Trajectory

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


@dataclass
class Path:
    """A path while it is walked.

    Attributes:
        solver: that walks.
        run: what the solver was given.
        grid: the nodes, and which states to keep.
        shape: of the states, as they came in.
        limits: when to end before the time is over.
    """

    solver: Solver
    run: Run
    grid: Grid
    shape: torch.Size
    limits: Limits
    stats: Stats = field(default_factory=Stats)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.us: list[Tensor] = []
        self.states: list[Tensor] = []
        self.last = Move(self.grid.us[0], self.run.x)
        self.clean: Tensor | None = None
        self.estimates: list[Tensor] | None = None
        self._node = 0
        # A reverse problem ends near the data: a state this large is an unstable solver.
        problem = self.run.equation.problem
        self.bound: float | None = None
        if isinstance(problem, ReverseProblem):
            self.bound = 100 * max(float(self.run.x.detach().abs().max()), problem.sde.prior_std)
        if self.grid.kept[0]:
            self._keep(self.last)

    # -- walking -----------------------------------------------------------------

    def walk(self, moves: Iterator[Move], *, total: int | None, progress: bool) -> None:
        """Follow the solver to the end, or hand back the path so far."""
        bar = tqdm(total=total, unit="step", disable=not progress)
        try:
            with bar:
                for move in moves:
                    self._take(move)
                    bar.update()
                    if progress:
                        bar.set_postfix_str(f"t = {self._time(move.u):.3g}", refresh=False)
                    if self._wants_to_stop():
                        break
        except DiffSDEError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise self._failure(error) from error
        self._end()

    def _take(self, move: Move) -> None:
        if not bool(torch.isfinite(move.x).all()):
            self.stats.steps += 1
            raise EvaluationError(f"the state is not finite any more. {self._advice()}")
        if self.bound is not None and float(move.x.detach().abs().max()) > self.bound:
            raise EvaluationError(
                f"the state has blown up (beyond {self.bound:g}, a hundred times where it "
                f"started). {self._advice()}"
            )
        self.previous, self.last = self.last, move
        self.stats.steps = int(self.run.steps.max()) or self.stats.steps + 1
        self._count()
        reached = self._reached(move.u)
        if self.grid.every or (reached is not None and bool(self.grid.kept[reached])):
            self._keep(move)

    def _advice(self) -> str:
        own = self.solver.advice
        hint = f" ({self.solver.name}: {own.rstrip('.')})" if own else ""
        return f"Take more steps, another solver or another clock{hint}"

    def _reached(self, u: Tensor) -> int | None:
        """The node that the solver has just landed on, if it is one."""
        following = self._node + 1
        if following < len(self.grid.us) and float(u) == float(self.grid.us[following]):
            self._node = following
            return following
        return None

    def _keep(self, move: Move) -> None:
        self.us.append(torch.as_tensor(move.u, dtype=torch.float64))
        self.states.append(move.x)

    def _count(self) -> None:
        self.stats.nfe = self.run.equation.meter.calls
        self.stats.rejected = self.run.rejected
        self.stats.seconds = time.perf_counter() - self.started

    def denoise(self) -> None:
        """Follow the last state with the clean image, at t = 0."""
        self.run.equation.meter.limit = None
        self.clean = self._clean(self.last.u, self.last.x)

    def estimate(self) -> None:
        """The clean image as seen from each saved state."""
        self.run.equation.meter.limit = None
        pairs = zip(self.us, self.states, strict=True)
        self.estimates = [self._clean(u, x) for u, x in pairs]

    def _clean(self, u: Tensor, x: Tensor) -> Tensor:
        return self.run.equation.problem.denoise(x, torch.tensor(self._time(u)).to(x))

    def _end(self) -> None:
        """Keep the last good state, also where the path ends early."""
        unfinished = self._node < len(self.grid.us) - 1
        if unfinished and (not self.us or float(self.us[-1]) != float(self.last.u)):
            self._keep(self.last)

    def _wants_to_stop(self) -> bool:
        limits = self.limits
        if self._node == len(self.grid.us) - 1:
            return False
        if limits.max_steps is not None and self.stats.steps >= limits.max_steps:
            raise Limit(f"max_steps = {limits.max_steps} steps are taken")
        if limits.max_seconds is not None and self.stats.seconds >= limits.max_seconds:
            raise Limit(f"max_seconds = {limits.max_seconds} are over")
        return self._callback_stops() or self._event_stops()

    def _callback_stops(self) -> bool:
        callback = self.limits.callback
        if callback is None:
            return False
        return bool(callback(self._time(self.last.u), self._shaped(self.last.x), self.stats))

    def _event_stops(self) -> bool:
        event = self.limits.event
        if event is None:
            return False
        before, after = (
            float(event(self._time(m.u), self._shaped(m.x))) for m in (self.previous, self.last)
        )
        return before * after <= 0

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

    def _time(self, u: Tensor) -> float:
        return float(self.run.equation.clock.time(torch.as_tensor(u)))

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)

    def trajectory(self, walk: Walk | None = None) -> Trajectory:
        """The path so far; given `walk`, which walks a run, also between its states."""
        self._count()
        us = torch.stack(self.us)
        ts, states = self._times(us), list(self.states)
        if self.clean is not None:
            ts, states = torch.cat([ts, ts.new_zeros(1)]), [*states, self.clean]
        ys = torch.stack(states).reshape(len(ts), *self.shape)
        diffusion, std = _curves(self.run.equation.problem, ts)
        return Trajectory(
            ts,
            ys,
            self.solver.name,
            self.stats,
            tuple(getattr(self.run.equation.problem, "shape", self.shape[1:])),
            diffusion,
            std,
            self._estimates(),
            _dense=None if walk is None else self._dense(us, walk),
        )

    def _estimates(self) -> Tensor | None:
        if self.estimates is None:
            return None
        last = [] if self.clean is None else [self.clean]
        return torch.stack([*self.estimates, *last]).reshape(-1, *self.shape)

    def _dense(self, us: Tensor, walk: Walk) -> Callable[[float], Tensor]:
        self.run.equation.meter.limit = None
        shape = self.shape
        at = dense_output(self.solver, walk, self.run, us, list(self.states))
        return lambda t: at(t).reshape(shape)

    def _times(self, us: Tensor) -> Tensor:
        """t of each saved state; on nodes, exactly the times that were asked for."""
        exact = dict(zip(self.grid.us.tolist(), self.grid.ts.tolist(), strict=True))
        found = self.run.equation.clock.time(us).tolist()
        listed = [exact.get(u, t) for u, t in zip(us.tolist(), found, strict=True)]
        return torch.tensor(listed, dtype=torch.float64)


def _curves(problem: Any, ts: Tensor) -> tuple[Tensor | None, Tensor | None]:
    sde = problem if isinstance(problem, SDE) else getattr(problem, "sde", None)
    if not isinstance(sde, SDE):
        return None, None
    return sde.diffusion(ts), sde.marginal_std(ts)
