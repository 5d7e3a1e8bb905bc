r"""Parts: the solve of some samples at a time, from what was asked for to a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import require_finite
from diffsde.equations.dynamics import dynamics_of
from diffsde.solvers.dense import dense_output, within_step
from diffsde.solvers.driver import Driver
from diffsde.solvers.equation import make_equation
from diffsde.solvers.events import Watch, event_value
from diffsde.solvers.recorder import Recorder
from diffsde.solvers.registry import Solver
from diffsde.solvers.request import Request
from diffsde.solvers.state import SolveState, Step, Stepping, Walk
from diffsde.solvers.stop_rules import Event, StopRules
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.host import on_host

__all__ = ["Part", "solve_part"]


@dataclass(frozen=True)
class Part:
    """A solve in motion.

    Attributes:
        request: what was asked for.
        driver: follows the steps.
        stepping: the method.
        state: what the method is given.
    """

    request: Request
    driver: Driver
    stepping: Stepping
    state: SolveState

    @classmethod
    def of(
        cls, request: Request, x: Tensor, samples: Sequence[int], begin: Step | None = None
    ) -> Part:
        """The solve of some samples, before its first step.

        Args:
            request: what to solve.
            x: (B, …), the states at the start; or, with `begin`, any states of this shape.
            samples: the index of each.
            begin: the step from which a solve that was stopped goes on.
        """
        dynamics = dynamics_of(request.problem)
        dynamics.counted.limit = request.rules.max_nfe
        equation = make_equation(dynamics, x, request.interval, request.clock)
        grid = request.grid(equation)
        flat = x.reshape(len(x), -1) if dynamics.flat else x
        planned = len(grid.us) - 1
        if begin is not None:
            grid, flat = grid.after(begin.u, equation.clock), begin.x
        state, stepping = request.state(equation, grid, flat, samples), request.stepping()
        state.planned = planned
        recorder = Recorder(
            request.solver.name,
            state,
            grid,
            x.shape,
            denoises=request.denoise,
            resume=partial(_resumed, request, x, samples),
            clock=request.clock if isinstance(request.clock, str) else None,
        )
        watch = _watch(request.rules.event, request.solver, stepping, state, x.shape)
        rarely = request.checked_rarely
        driver = Driver(request.solver, recorder, request.rules, watch, rarely=rarely)
        return cls(request, driver, stepping, state)

    def steps(self) -> Walk:
        """The steps as they are accepted, each checked and recorded."""
        total = None if self.request.adaptive else len(self.state.nodes) - 1
        walk = self.stepping(self.state)
        self.driver.recorder.start_clock()
        return self.driver.steps(walk, total=total, progress=self.request.progress)

    def add_clean_images(self) -> None:
        """Record the clean images that were asked for."""
        if self.request.estimates:
            self.driver.recorder.estimate()
        if self.request.denoise:
            self.driver.recorder.denoise()

    def finished(self) -> Trajectory:
        """The trajectory of a solve that has ended, with the clean images that were asked for."""
        request, recorder = self.request, self.driver.recorder
        # What is asked for from here on is not limited.
        counted = self.state.equation.dynamics.counted
        counted.limit = None
        with self.driver.path_so_far_in_errors():
            self.add_clean_images()
            self.driver.look()
        counted.check = require_finite  # nobody looks any more at what is asked for later
        if request.denoise or request.grad == "adjoint":
            return recorder.trajectory()
        us = on_host(recorder.us, torch.float64)
        return recorder.trajectory(dense_output(request.solver, self.stepping, self.state, us))


def solve_part(
    request: Request, x: Tensor, samples: Sequence[int], begin: Step | None = None
) -> Trajectory:
    """The trajectory of some samples; see `Part.of`."""
    part = Part.of(request, x, samples, begin)
    for _ in part.steps():
        pass
    return part.finished()


def _resumed(
    request: Request, x: Tensor, samples: Sequence[int], begin: Step, rules: dict[str, Any]
) -> Trajectory:
    again = replace(request, rules=StopRules.checked(**rules))
    with torch.set_grad_enabled(bool(request.grad)):
        return solve_part(again, x, samples, begin)


def _watch(
    event: Event | None, solver: Solver, stepping: Stepping, state: SolveState, shape: torch.Size
) -> Watch | None:
    """Looks for the event along the path of this solve."""
    if event is None:
        return None
    time = state.equation.clock.time

    def in_solver_time(u: Tensor, x: Tensor) -> float | bool:
        return event_value(event(float(time(u)), x.reshape(shape).clone()))

    @contextmanager
    def within(before: Step, after: Step) -> Iterator[Callable[[Tensor], Tensor]]:
        with state.equation.one_start(before.u):  # every shorter step begins where this one did
            yield within_step(solver, stepping, state, before, after)

    return Watch(in_solver_time, within)
