r"""A request: all that a solve needs beside the state, and the way from there to a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from diffsde.equations.dynamics import Dynamics
from diffsde.errors import InputError
from diffsde.noise.brownian import SequentialBrownian
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.seeds import address_of
from diffsde.solvers.adjoint import walk_adjoint
from diffsde.solvers.checks import Checks
from diffsde.solvers.equation import Equation
from diffsde.solvers.grids import Grid, Save, make_grid
from diffsde.solvers.noisy_attempts import walk_noisy
from diffsde.solvers.registry import Solver, walk_fixed
from diffsde.solvers.state import SolveState, Stepping
from diffsde.solvers.stop_rules import StopRules

__all__ = ["DEFAULT_STEPS", "Request"]

DEFAULT_STEPS = 500  # as in the tutorial
_SAVED_TIMES = 50  # of an SDE whose steps are adaptive


@dataclass(frozen=True)
class Request:
    """The checked arguments of `solve`, but for the state.

    Attributes:
        by_hand: whether every step is handed out as it is accepted, and none is kept.
    """

    problem: Any
    solver: Solver
    adaptive: bool
    ts: Tensor | None
    steps: int | None
    clock: str | Callable[[Tensor], Tensor]
    seed: int
    noise: BrownianPath | None
    rtol: float
    atol: float
    save: Save
    rules: StopRules
    denoise: bool
    estimates: bool
    grad: bool | str
    progress: bool | str
    options: Mapping[str, Any]
    by_hand: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """The start and the end of t, if they were given."""
        return None if self.ts is None else (float(self.ts[0]), float(self.ts[-1]))

    def check_times(self, dynamics: Dynamics) -> None:
        """Check the direction of time, and which of steps and ts is given."""
        if self.ts is None:
            return
        if len(self.ts) < 2:
            raise InputError("ts: expected at least two times, the start and the end")
        if self.steps is not None and len(self.ts) > 2:
            raise InputError(
                f"steps = {self.steps} and {len(self.ts)} times ts: give steps, or ts, or two "
                "times ts (the start and the end) with steps"
            )
        if self.solver.kind == "sde" and bool(self.ts[0] > self.ts[-1]) != dynamics.falls:
            wanted = "decreasing, from noise to data" if dynamics.falls else "increasing"
            raise InputError(
                f"ts: expected {wanted} times for this SDE, bounds {dynamics.interval}"
            )
        if len(self.ts) == 2 and self.steps is None and not self.adaptive:
            raise InputError(
                f"ts has two times and {self.solver.name} takes fixed steps, so this would be one "
                "step: give steps= as well (steps=1 if one is meant)"
            )

    def grid(self, equation: Equation) -> Grid:
        """The nodes, and which states to keep."""
        steps, ts = self.steps, self.ts
        if steps is not None:
            ts = None  # it gave the interval alone
        if steps is None and ts is None:
            if not self.adaptive:
                steps = DEFAULT_STEPS
            elif self.solver.kind == "sde":
                steps = _SAVED_TIMES if self.save == "all" else None
        grid = make_grid(equation.clock, steps, ts, self.save, adaptive=self.adaptive)
        return grid.unkept() if self.by_hand else grid

    def stepping(self) -> Stepping:
        """The method in motion, in the way that was asked for."""
        solver = self.solver
        if self.grad == "adjoint":
            return partial(walk_adjoint, solver)
        if self.adaptive and solver.kind == "sde":
            return partial(walk_noisy, solver)
        if solver.walk is not None and (self.adaptive or solver.one_step is None):
            return solver.walk
        return partial(walk_fixed, solver)

    def state(
        self, equation: Equation, grid: Grid, x: Tensor, samples: Sequence[int]
    ) -> SolveState:
        """What the method is given: some samples with their noise."""
        state = SolveState(
            equation,
            x,
            grid.us,
            self.rtol,
            self.atol,
            self.options,
            samples=samples,
            seed=self.seed,
            watched=grid.every or self.rules.watch or self.by_hand,
            times=dict(zip(grid.us.tolist(), grid.ts.tolist(), strict=True)),
            checks=self._checks(equation, grid, x),
        )
        equation.dynamics.counted.check = state.checks.evaluation
        if self.solver.kind == "ode":
            return state
        if self.adaptive or self.noise is not None:
            state.path = self.noise or BrownianPath(self.seed)
            state.noise = state.path.bind(**_batch(state), commutes=equation.commutes)
            _check_resolution(grid, state.path)
        else:
            # A number belongs to the time t of its node, in whatever grid the node stands.
            _check_addresses(grid)
            commutes = equation.commutes
            state.noise = SequentialBrownian(
                self.seed, **_batch(state), times=state.times, commutes=commutes
            )
        return state

    @property
    def checked_rarely(self) -> bool:
        """Whether nobody needs to know before the end that each step is good.

        A rule that needs every step does, and so does a method that chooses its steps.
        """
        by_nodes = not self.adaptive and self.solver.one_step is not None
        return by_nodes and not (self.by_hand or self.rules.look)

    def _checks(self, equation: Equation, grid: Grid, x: Tensor) -> Checks:
        own = self.solver.advice
        hint = f" ({self.solver.name}: {own.rstrip('.')})" if own else ""
        advice = f"Take more steps, another solver or another clock{hint}"
        keep = self.checked_rarely and not bool(grid.kept.all())
        return Checks(x, equation.dynamics.scale, advice, keep=keep)


def _batch(state: SolveState) -> dict[str, Any]:
    """What a source of noise must know of the batch."""
    x = state.x
    size = (len(x), state.equation.channels(x))
    return {"size": size, "samples": state.samples, "dtype": x.dtype, "device": x.device}


def _check_resolution(grid: Grid, path: BrownianPath) -> None:
    shortest = float(grid.us.diff().min())
    if shortest < path.resolution:
        raise InputError(
            f"two times of this solve are {shortest:.3g} apart in the clock, but the Brownian path "
            f"has a resolution of {path.resolution:.3g}: take fewer steps, or "
            f"noise=BrownianPath({path.seed}, resolution={0.5 * shortest:.1g})"
        )


def _check_addresses(grid: Grid) -> None:
    addresses = {address_of(t) for t in grid.ts.tolist()}
    if len(addresses) < len(grid.ts):
        raise InputError(
            f"{len(grid.ts)} times of which {len(grid.ts) - len(addresses)} are equal in float32: "
            "the noise of a step is addressed by its time; take fewer steps"
        )
