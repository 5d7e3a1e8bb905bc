r"""The record of a solve: the states that are kept, their times, and what they cost."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffsde.solvers.dense import DenseOutput
from diffsde.solvers.grids import Grid
from diffsde.solvers.state import SolveState, Step
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.clock import seconds_on
from diffsde.system.host import on_host

__all__ = ["Recorder"]


class _Frames:
    """A sequence of states, written into one tensor if their number is known.

    Args:
        like: a state.
        expected: the largest number of states; None if it is unknown.
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

    def cut(self, count: int) -> None:
        """Forget all states but the first `count`."""
        del self._states[count:]
        self._count = count

    def last(self) -> Tensor:
        """The newest state."""
        return (self._states if self._room is None else self._room)[self._count - 1]

    def all(self) -> Tensor:
        """Every state so far, (T, *shape of a state)."""
        if self._room is None:
            return torch.stack(self._states)
        whole = self._count == len(self._room)
        return self._room if whole else self._room[: self._count].clone()


class Recorder:
    """Keeps the states of a solve as its steps come in.

    Args:
        method: the solver's name.
        state: what the method was given.
        grid: the nodes, and which states to keep.
        shape: of the batch, as it came in.
        denoises: whether the last state will be followed by the clean image.
        resume: solves on from a step, given stop rules.
        clock: the name of the clock, if it has one.

    Attributes:
        last: the newest step.
        us: times of the saved states, in the solver's time.
        stats: what the solve has cost so far.
    """

    def __init__(
        self,
        method: str,
        state: SolveState,
        grid: Grid,
        shape: torch.Size,
        *,
        denoises: bool,
        resume: Callable[[Step, dict[str, Any]], Trajectory],
        clock: str | None,
    ) -> None:
        self.method, self.state, self.grid, self.shape = method, state, grid, shape
        self._resume, self.clock = resume, clock
        self.stats, self._started = Stats(), time.perf_counter()
        self.us: list[float] = []
        self._calls: list[int] = []  # evaluations until each saved state
        self._calls_by_step = [0]  # evaluations until the start and until the end of each step
        self._frames = _Frames(state.x, self._expected(denoises))
        self._clean: Tensor | None = None
        self._estimates: list[Tensor] | None = None
        self._nodes, self._kept = grid.us.tolist(), grid.kept.tolist()
        self._node = 0
        self.last = Step(grid.us[0], state.x)
        if self._kept[0]:
            self._keep(self.last)

    def _expected(self, denoises: bool) -> int | None:
        """How many states will be saved, if that is known; a graph is kept state by state."""
        unknown = self.grid.every or torch.is_grad_enabled()
        return None if unknown else int(self.grid.kept.sum()) + denoises

    # -- while the method steps ----------------------------------------------------

    def start_clock(self) -> None:
        """Count the seconds from here on, once the device has done what it was told before."""
        self._started = seconds_on(self.state.x.device)

    def count_step(self) -> None:
        """One more step, or for samples with steps of their own the most that one has taken."""
        own = self.state.steps
        self.stats.steps = self.stats.steps + 1 if own is None else int(own.max())

    def take(self, step: Step) -> None:
        """Make a step the newest one, and keep its state if it is to be saved."""
        self.last = step
        self.count_cost()
        self._calls_by_step.append(self.stats.nfe)
        reached = self._reached(float(step.u))
        if self.grid.every or (reached is not None and self._kept[reached]):
            self._keep(step)

    def count_cost(self) -> None:
        """Bring the statistics up to date."""
        self.stats.nfe = self.state.equation.dynamics.counted.calls
        self.stats.rejected = self.state.rejected
        self.stats.seconds = time.perf_counter() - self._started

    def cut_back(self, steps: int, x: Tensor | None) -> None:
        """Take back all but the first steps of a solve that goes from node to node.

        Args:
            steps: how many are left.
            x: the state after them; None if every state is saved.
        """
        u = self.grid.us[steps]
        kept = bisect_right(self.us, float(u))
        self._frames.cut(kept)
        del self.us[kept:], self._calls[kept:]
        del self._calls_by_step[steps + 1 :]
        self._clean = self._estimates = None
        self._node = self.stats.steps = steps
        self.last = Step(u, self._frames.last() if x is None else x)

    @property
    def finished(self) -> bool:
        """Whether the last node has been reached."""
        return self._node == len(self._nodes) - 1

    def close(self) -> None:
        """Keep the newest state where the solve has ended early."""
        if not self.finished and (not self.us or self.us[-1] != float(self.last.u)):
            self._keep(self.last)

    def _reached(self, u: float) -> int | None:
        """The node on which the method has just landed, if it is one."""
        following = self._node + 1
        if following < len(self._nodes) and u == self._nodes[following]:
            self._node = following
            return following
        return None

    def _keep(self, step: Step) -> None:
        self.us.append(float(step.u))
        self._save(step.x, self._calls_by_step[-1])

    def _save(self, x: Tensor, calls: int) -> None:
        self._calls.append(calls)
        self._frames.add(x)

    # -- after the last step ---------------------------------------------------------

    def estimate(self) -> None:
        """Add the clean image as it is seen from each saved state."""
        pairs = zip(self.us, self._frames.all(), strict=True)
        self._estimates = [self._denoised(u, x) for u, x in pairs]

    def denoise(self) -> None:
        """Add the clean image, at t = 0, after the last state."""
        self._clean = self._denoised(float(self.last.u), self.last.x)
        self._save(self._clean, self.state.equation.dynamics.counted.calls)

    def _denoised(self, u: float, x: Tensor) -> Tensor:
        denoise = self.state.equation.dynamics.denoise
        assert denoise is not None  # `solve` has asked for it before the solve began
        return denoise(x, on_host(self.time(u)).to(x))

    # -- what is handed back -----------------------------------------------------------

    def time(self, u: Tensor | float) -> float:
        """t at the solver's time u."""
        place = on_host(u, torch.float64)
        return float(self.state.equation.clock.time(place))

    def exact_time(self, u: Tensor | float) -> float:
        """t at the solver's time u; on a node, exactly the time that was asked for."""
        exact = self.state.times.get(float(u))
        return self.time(u) if exact is None else exact

    def trajectory(self, dense: DenseOutput | None = None) -> Trajectory:
        """The path so far; given `dense`, with the states between the saved ones."""
        self.count_cost()
        # Only at the start and here does the clock wait for the device.
        self.stats.seconds = seconds_on(self.state.x.device) - self._started
        ts = self._times()
        if self._clean is not None:
            ts = torch.cat([ts, ts.new_zeros(1)])
        dynamics = self.state.equation.dynamics
        process = dynamics.process
        return Trajectory(
            ts,
            self.states(),
            self.method,
            self.stats,
            self.shape[1:] if dynamics.shape is None else tuple(dynamics.shape),
            None if process is None else _finite(process.diffusion(ts)),
            None if process is None else process.marginal_std(ts),
            self.estimates(),
            on_host(self._calls),
            dynamics.kind,
            dynamics.data_range,
            self.clock,
            _dense=dense,
            _resume=None if self.finished else partial(self._resume, self.last),
        )

    def states(self) -> Tensor:
        """The saved states, (T, B, …)."""
        return self._frames.all().reshape(-1, *self.shape)

    def estimates(self) -> Tensor | None:
        """The clean images as they are seen from them, (T, B, …), if they were asked for."""
        if self._estimates is None:
            return None
        last = [] if self._clean is None else [self._clean]
        return torch.stack([*self._estimates, *last]).reshape(-1, *self.shape)

    def _times(self) -> Tensor:
        """t of each saved state."""
        return on_host([self.exact_time(u) for u in self.us], torch.float64)


def _finite(curve: Tensor) -> Tensor | None:
    """A curve for plots; None if it is infinite somewhere, as g is where a process has no end."""
    return curve if bool(curve.isfinite().all()) else None
