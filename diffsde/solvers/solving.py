r"""`solve`: one door to every solver.

It knows no diffusion: whatever becomes an `Equation` is walked along by the solver of the
name given, step by step, while a `Path` keeps, counts and watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import InputError
from diffsde.noise.brownian import BrownianPath, SequentialBrownian
from diffsde.noise.seeds import checked_seed
from diffsde.solvers.adaptive import walk_adaptive
from diffsde.solvers.adjoint import walk_adjoint
from diffsde.solvers.arguments import (
    bounds_of,
    check_state,
    checked_adaptive,
    checked_count,
    checked_denoiser,
    checked_grad,
    checked_noise,
    checked_options,
    checked_tolerance,
    is_flat,
)
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.equation import Equation, kind_of, make_equation
from diffsde.solvers.grids import Grid, Save, checked_times, make_grid
from diffsde.solvers.recorder import Callback, Event, Limits, Path
from diffsde.solvers.registry import Move, Run, Solver, walk_fixed
from diffsde.solvers.trajectory import Stats, Trajectory

__all__ = ["solve"]

_DEFAULT_METHOD = {"sde": "euler", "ode": "dopri5"}
_DEFAULT_STEPS = 500  # as in the tutorial


def solve(
    problem: Any,
    x: Tensor,
    method: str | None = None,
    *,
    steps: int | None = None,
    ts: Sequence[float] | Tensor | None = None,
    clock: str | Callable[[Tensor], Tensor] = "t",
    seed: int | None = None,
    noise: BrownianPath | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    adaptive: bool | None = None,
    save: Save = "all",
    chunk: int | None = None,
    first: int = 0,
    callback: Callback | None = None,
    event: Event | None = None,
    max_steps: int | None = None,
    max_nfe: int | None = None,
    max_seconds: float | None = None,
    denoise: bool = False,
    estimates: bool = False,
    grad: bool | str = False,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Trajectory:
    """Solve a problem by the solver of that name.

    Args:
        problem: a `ReverseSDE`, a `ProbabilityFlow`, a forward `SDE`, any torchsde object,
            or a function (t, x) for an ODE.
        x: the state at the start, (B, C, H, W) or (B, D).
        method: a name from `list_solvers`; "euler" for an SDE and "dopri5" for an ODE if
            left out.
        steps: how many steps, even in the clock; 500 if left out. For an adaptive solver:
            at how many even times, beside the start, it lands (it steps between as it
            must); if left out, the flow keeps every step that was accepted, an SDE lands
            on 50.
        ts: the times in t to step on, in order, instead of `steps`; for an adaptive solver,
            to land on. Two times and `steps` divide the interval between the two.
        clock: in which the steps are even: "t", "sigma", "log_sigma", "karras", or a map
            from [0, 1] to t.
        seed: of the noise: sample i has noise of its own that depends on (seed, i) alone.
            Drawn from torch's generator if left out.
        noise: a `BrownianPath`, to meet the same path with other steps and solvers.
        rtol, atol: tolerances of adaptive solvers; 1e-5 for ODEs, 1e-2 for SDEs.
        adaptive: True gives any SDE solver its own steps; False takes an adaptive ODE
            method's step on the fixed grid. The method's own way if left out.
        save: "all" states, the "last", a number of them (even in the clock, with both
            ends), or at the given times, with the last of which the solve ends. Saved times
            are stepped on, never interpolated.
        chunk: solve so many samples at a time, to bound memory; the samples are the same.
        first: index of the first sample, where the batch is part of a larger one.
        callback: called as (t, x, stats) after each step, the last one too; a true answer
            ends the solve.
        event: called as (t, x) once for each state, gives a number; the solve ends where it
            crosses zero, to 1e-6 of the step in which it changes sign. The state there is a
            shorter step of the same solver, so it has its order; after a multistep method,
            such as dpmpp_2m, it lies on the cubic of the step's two ends; for an SDE it is on
            the Brownian path if `noise` is given or the steps are adaptive, otherwise on a
            straight line between the two ends. No gradient flows through the time found.
        max_steps, max_nfe, max_seconds: limits; reaching one raises.
        denoise: end a reverse problem with one more evaluation: the state at ε, which still
            holds noise of std s(ε), is followed by the best guess at the image without it,
            E[x(0) | x(ε)], as a frame at t = 0. The tutorial's loops do so silently.
        estimates: keep E[x(0) | x(t)], what the score takes the clean image to be, beside each
            saved state, as `denoised`; one more evaluation for each.
        grad: True keeps the graph, for back-propagation through the solve; "adjoint" solves
            for the gradient backwards instead, in the memory of one step (see
            `diffsde.solvers.adjoint`; torchsde's and torchdiffeq's methods, even steps).
        progress: show a progress bar.
        options: for the method itself, such as {"max_order": 4} for implicit_adams.

    Returns:
        The path, with times in t in the order solved, from start to end.

    Raises:
        InputError: an argument does not fit; `UnknownSolverError` for a method's name.
        SolveError: the solve stopped before its end; its `trajectory` is the path so far.
    """
    check_state(x, problem)
    kind = kind_of(problem)
    solver = find_solver(_DEFAULT_METHOD[kind] if method is None else method, kind)
    plan = _Plan(
        problem=problem,
        solver=solver,
        adaptive=checked_adaptive(solver, adaptive),
        ts=None if ts is None else checked_times(ts, bounds_of(problem), "ts"),
        steps=checked_count(steps, "steps"),
        clock=clock,
        seed=checked_seed(seed),
        noise=checked_noise(noise, seed, kind),
        rtol=checked_tolerance(rtol, kind, "rtol"),
        atol=checked_tolerance(atol, kind, "atol"),
        save=save,
        limits=Limits(
            checked_count(max_steps, "max_steps"),
            checked_count(max_nfe, "max_nfe"),
            max_seconds,
            callback,
            event,
        ),
        denoise=checked_denoiser(denoise, "denoise", problem),
        estimates=checked_denoiser(estimates, "estimates", problem),
        grad=checked_grad(grad, solver, checked_adaptive(solver, adaptive)),
        progress=progress,
        options=checked_options(options, solver, checked_adaptive(solver, adaptive)),
    )
    plan.check_times()
    if chunk is None:
        return plan.solve(x, first)
    return _in_chunks(plan, x, first, checked_count(chunk, "chunk") or len(x))


@dataclass(frozen=True)
class _Plan:
    """All that a solve needs beside the state."""

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
    limits: Limits
    denoise: bool
    estimates: bool
    grad: bool | str
    progress: bool
    options: Mapping[str, Any]

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.ts is None else (float(self.ts[0]), float(self.ts[-1]))

    def check_times(self) -> None:
        """The direction of time, and which of steps and ts is given."""
        if self.ts is None:
            return
        if len(self.ts) < 2:
            raise InputError("ts: expected at least two times, the start and the end")
        if self.steps is not None and len(self.ts) > 2:
            raise InputError(
                f"steps = {self.steps} and {len(self.ts)} times ts: give steps, or ts, or two "
                "times ts (the start and the end) with steps"
            )
        own = bounds_of(self.problem)
        if self.solver.kind == "sde":
            falls = isinstance(self.problem, ReverseProblem)
            wanted = "decreasing, from noise to data" if falls else "increasing"
            if bool(self.ts[0] > self.ts[-1]) != falls:
                raise InputError(f"ts: expected {wanted} times for this SDE, bounds {own}")

    def grid(self, equation: Equation) -> Grid:
        steps, ts = self.steps, self.ts
        if ts is not None and (steps is not None or (len(ts) == 2 and not self.adaptive)):
            ts, steps = None, steps or 1
        if steps is None and ts is None:
            if not self.adaptive:
                steps = _DEFAULT_STEPS
            elif self.solver.kind == "sde":
                steps = 50 if self.save == "all" else None
        return make_grid(equation.clock, steps, ts, self.save, adaptive=self.adaptive)

    def solve(self, x: Tensor, first: int) -> Trajectory:
        """The trajectory of samples first, …, first + B − 1."""
        equation = make_equation(self.problem, x, self.interval, self.clock, self.limits.max_nfe)
        grid = self.grid(equation)
        flat = x if not is_flat(self.problem) else x.reshape(len(x), -1)
        run = self.run(equation, grid, flat, first)
        with torch.set_grad_enabled(bool(self.grad)):
            path = Path(self.solver, run, grid, x.shape, self.limits, self.walk, self.denoise)
            total = None if self.adaptive else len(grid.us) - 1
            path.walk(self.walk(run), total=total, progress=self.progress)
            if self.estimates:
                path.estimate()
            if self.denoise:
                path.denoise()
            between = not self.denoise and self.grad != "adjoint"
            return path.trajectory(self.walk if between else None)

    def run(self, equation: Equation, grid: Grid, x: Tensor, first: int) -> Run:
        samples = range(first, first + len(x))
        run = Run(
            equation,
            x,
            grid.us,
            self.rtol,
            self.atol,
            self.options,
            samples=samples,
            seed=self.seed,
        )
        if self.solver.kind == "ode":
            return run
        if self.adaptive:
            run.steps = torch.zeros(len(x), dtype=torch.long)
        if self.adaptive or self.noise is not None:
            run.path = self.noise or BrownianPath(self.seed)
            run.noise = run.path.bind(x.shape, equation.duration, samples, x.dtype, x.device)
        else:
            run.noise = SequentialBrownian(self.seed, x.shape, samples, x.dtype, x.device)
        return run

    def walk(self, run: Run) -> Iterator[Move]:
        """The states after each step."""
        if self.grad == "adjoint":
            return walk_adjoint(self.solver, run)
        if self.adaptive and self.solver.kind == "sde":
            return walk_adaptive(self.solver, run)
        if self.solver.walk is not None and (self.adaptive or self.solver.one_step is None):
            return self.solver.walk(run)
        return walk_fixed(self.solver, run)


def _in_chunks(plan: _Plan, x: Tensor, first: int, size: int) -> Trajectory:
    """Solve part after part; the noise of a sample does not depend on its part."""
    own_steps = plan.adaptive and plan.solver.kind == "ode"
    if own_steps and plan.steps is None and plan.ts is None and plan.save == "all":
        raise InputError(
            f"chunk with {plan.solver.name}: every part would have times of its own. "
            "Give steps=, ts=, or save= with a number of times"
        )
    if plan.limits.event is not None:
        raise InputError("chunk with event: every part would end at a time of its own")
    parts: list[Trajectory] = []
    for start in range(0, len(x), size):
        part = plan.solve(x[start : start + size], first + start)
        if not parts:
            ys = part.ys.new_empty((len(part), *x.shape))
        if len(part) != len(ys):
            raise InputError("chunk with callback: the parts were stopped at different times")
        # Only the joined states stay in memory.
        ys[:, start : start + size] = part.ys
        part.ys = ys[:, start : start + size]
        parts.append(part)
    return _joined(parts, ys)


def _joined(parts: list[Trajectory], ys: Tensor) -> Trajectory:
    stats = Stats(
        max(p.stats.nfe for p in parts),
        max(p.stats.steps for p in parts),
        sum(p.stats.rejected for p in parts),
        sum(p.stats.seconds for p in parts),
    )
    one = parts[0]
    estimates = [p.denoised for p in parts if p.denoised is not None]
    evaluations = [p.evaluations for p in parts if p.evaluations is not None]
    return Trajectory(
        one.ts,
        ys,
        one.method,
        stats,
        one.shape,
        one.diffusion,
        one.std,
        torch.cat(estimates, dim=1) if estimates else None,
        torch.stack(evaluations).amax(0),
        _dense=lambda ys, t: torch.cat([p(t) for p in parts]),
    )
