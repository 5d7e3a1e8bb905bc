r"""`solve`: one door to every solver.

It knows no diffusion: whatever becomes an `Equation` is walked along by the solver of the
name given, step by step, while this module keeps the path, counts, watches limits, and
hands back what there is when something goes wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffsde import samplers, torchdiffeq_methods, torchsde_methods  # noqa: F401  (fill the registry)
from diffsde.adaptive import ADAPTIVE_OPTIONS, walk_adaptive
from diffsde.adjoint import check_adjoint, walk_adjoint
from diffsde.brownian import BrownianPath, SequentialBrownian
from diffsde.dense import dense_output
from diffsde.equation import (
    Equation,
    EvaluationError,
    Limit,
    is_torchsde,
    kind_of,
    make_equation,
)
from diffsde.errors import DiffSDEError, InputError, SolveError, name_list
from diffsde.grids import Grid, Save, checked_times, make_grid
from diffsde.reverse import ReverseProblem
from diffsde.sde import SDE
from diffsde.seeds import checked_seed
from diffsde.solvers import Move, Run, Solver, find_solver, walk_fixed
from diffsde.trajectory import Stats, Trajectory

__all__ = ["solve"]

Callback = Callable[[float, Tensor, Stats], Any]
Event = Callable[[float, Tensor], Any]

_DEFAULT_METHOD = {"sde": "euler", "ode": "dopri5"}
_DEFAULT_STEPS = 500  # as in the tutorial
_DEFAULT_TOLERANCE = {"sde": 1e-2, "ode": 1e-5}


@dataclass(frozen=True)
class Limits:
    """When a solve ends before its time."""

    max_steps: int | None = None
    max_nfe: int | None = None
    max_seconds: float | None = None
    callback: Callback | None = None
    event: Event | None = None


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
        callback: called as (t, x, stats) after each step; a true answer ends the solve.
        event: called as (t, x); the solve ends after the step in which it changes sign.
        max_steps, max_nfe, max_seconds: limits; reaching one raises.
        denoise: end a reverse problem with one more evaluation: the state at ε, which still
            holds noise of std s(ε), is followed by the best guess at the image without it,
            E[x(0) | x(ε)], as a frame at t = 0. The tutorial's loops do so silently.
        estimates: keep E[x(0) | x(t)], what the score takes the clean image to be, beside each
            saved state, as `denoised`; one more evaluation for each.
        grad: True keeps the graph, for back-propagation through the solve; "adjoint" solves
            for the gradient backwards instead, in the memory of one step (see
            `diffsde.adjoint`; torchsde's and torchdiffeq's methods, even steps).
        progress: show a progress bar.
        options: for the method itself, such as {"max_order": 4} for implicit_adams.

    Returns:
        The path, with times in t in the order solved, from start to end.

    Raises:
        InputError: an argument does not fit; `UnknownSolverError` for a method's name.
        SolveError: the solve stopped before its end; its `trajectory` is the path so far.
    """
    _check_state(x, problem)
    kind = kind_of(problem)
    solver = find_solver(_DEFAULT_METHOD[kind] if method is None else method, kind)
    plan = _Plan(
        problem=problem,
        solver=solver,
        adaptive=_adaptive(solver, adaptive),
        ts=None if ts is None else checked_times(ts, _bounds(problem), "ts"),
        steps=_checked_count(steps, "steps"),
        clock=clock,
        seed=checked_seed(seed),
        noise=_checked_noise(noise, seed, kind),
        rtol=_tolerance(rtol, kind, "rtol"),
        atol=_tolerance(atol, kind, "atol"),
        save=save,
        limits=Limits(
            _checked_count(max_steps, "max_steps"),
            _checked_count(max_nfe, "max_nfe"),
            max_seconds,
            callback,
            event,
        ),
        denoise=_checked_denoiser(denoise, "denoise", problem),
        estimates=_checked_denoiser(estimates, "estimates", problem),
        grad=_checked_grad(grad, solver, _adaptive(solver, adaptive)),
        progress=progress,
        options=_checked_options(options, solver, _adaptive(solver, adaptive)),
    )
    plan.check_times()
    if chunk is None:
        return plan.solve(x, first)
    return _in_chunks(plan, x, first, _checked_count(chunk, "chunk") or len(x))


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
        own = _bounds(self.problem)
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
        flat = x if not _is_flat(self.problem) else x.reshape(len(x), -1)
        run = self.run(equation, grid, flat, first)
        with torch.set_grad_enabled(bool(self.grad)):
            path = _Path(self, equation, run, grid, x.shape)
            path.walk(self.walk(run))
            if self.estimates:
                path.estimate()
            if self.denoise:
                path.denoise()
        return path.trajectory(dense=not self.denoise and self.grad != "adjoint")

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
            steps=torch.zeros(len(x), dtype=torch.long),
        )
        if self.solver.kind == "ode":
            return run
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


@dataclass
class _Path:
    """A path while it is walked."""

    plan: _Plan
    equation: Equation
    run: Run
    grid: Grid
    shape: torch.Size
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
        problem = self.plan.problem
        self.bound: float | None = None
        if isinstance(problem, ReverseProblem):
            self.bound = 100 * max(float(self.run.x.detach().abs().max()), problem.sde.prior_std)
        if self.grid.kept[0]:
            self._keep(self.last)

    # -- walking -----------------------------------------------------------------

    def walk(self, moves: Iterator[Move]) -> None:
        """Follow the solver to the end, or hand back the path so far."""
        total = None if self.plan.adaptive else len(self.grid.us) - 1
        bar = tqdm(total=total, unit="step", disable=not self.plan.progress)
        try:
            with bar:
                for move in moves:
                    self._take(move)
                    bar.update()
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
        own = self.plan.solver.advice
        hint = f" ({self.plan.solver.name}: {own.rstrip('.')})" if own else ""
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
        self.stats.nfe = self.equation.meter.calls
        self.stats.rejected = self.run.rejected
        self.stats.seconds = time.perf_counter() - self.started

    def denoise(self) -> None:
        """Follow the last state with the clean image, at t = 0."""
        self.equation.meter.limit = None
        self.clean = self._clean(self.last.u, self.last.x)

    def estimate(self) -> None:
        """The clean image as seen from each saved state."""
        self.equation.meter.limit = None
        pairs = zip(self.us, self.states, strict=True)
        self.estimates = [self._clean(u, x) for u, x in pairs]

    def _clean(self, u: Tensor, x: Tensor) -> Tensor:
        return self.equation.problem.denoise(x, torch.tensor(self._time(u)).to(x))

    def _end(self) -> None:
        """Keep the last good state, also where the path ends early."""
        unfinished = self._node < len(self.grid.us) - 1
        if unfinished and (not self.us or float(self.us[-1]) != float(self.last.u)):
            self._keep(self.last)

    def _wants_to_stop(self) -> bool:
        limits = self.plan.limits
        if self._node == len(self.grid.us) - 1:
            return False
        if limits.max_steps is not None and self.stats.steps >= limits.max_steps:
            raise Limit(f"max_steps = {limits.max_steps} steps are taken")
        if limits.max_seconds is not None and self.stats.seconds >= limits.max_seconds:
            raise Limit(f"max_seconds = {limits.max_seconds} are over")
        return self._callback_stops() or self._event_stops()

    def _callback_stops(self) -> bool:
        callback = self.plan.limits.callback
        if callback is None:
            return False
        return bool(callback(self._time(self.last.u), self._shaped(self.last.x), self.stats))

    def _event_stops(self) -> bool:
        event = self.plan.limits.event
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
            f"{self.plan.solver.name} stopped after {self.stats.steps} steps at t = {t:.6g}, "
            f"where the state was last good: {words}. "
            "The path so far is in this error's trajectory",
            self.trajectory(dense=False),
        )

    # -- what is handed back -----------------------------------------------------

    def _time(self, u: Tensor) -> float:
        return float(self.equation.clock.time(torch.as_tensor(u)))

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)

    def trajectory(self, *, dense: bool) -> Trajectory:
        """The path so far."""
        self._count()
        us = torch.stack(self.us)
        ts, states = self._times(us), list(self.states)
        if self.clean is not None:
            ts, states = torch.cat([ts, ts.new_zeros(1)]), [*states, self.clean]
        ys = torch.stack(states).reshape(len(ts), *self.shape)
        diffusion, std = _curves(self.plan.problem, ts)
        return Trajectory(
            ts,
            ys,
            self.plan.solver.name,
            self.stats,
            tuple(getattr(self.plan.problem, "shape", self.shape[1:])),
            diffusion,
            std,
            self._estimates(),
            _dense=self._dense(us) if dense else None,
        )

    def _estimates(self) -> Tensor | None:
        if self.estimates is None:
            return None
        last = [] if self.clean is None else [self.clean]
        return torch.stack([*self.estimates, *last]).reshape(-1, *self.shape)

    def _dense(self, us: Tensor) -> Callable[[float], Tensor]:
        self.equation.meter.limit = None
        plan, run, states, shape = self.plan, self.run, list(self.states), self.shape
        at = dense_output(plan.solver, plan.walk, run, us, states)
        return lambda t: at(t).reshape(shape)

    def _times(self, us: Tensor) -> Tensor:
        """t of each saved state; on nodes, exactly the times that were asked for."""
        exact = dict(zip(self.grid.us.tolist(), self.grid.ts.tolist(), strict=True))
        found = self.equation.clock.time(us).tolist()
        listed = [exact.get(u, t) for u, t in zip(us.tolist(), found, strict=True)]
        return torch.tensor(listed, dtype=torch.float64)


def _curves(problem: Any, ts: Tensor) -> tuple[Tensor | None, Tensor | None]:
    sde = problem if isinstance(problem, SDE) else getattr(problem, "sde", None)
    if not isinstance(sde, SDE):
        return None, None
    return sde.diffusion(ts), sde.marginal_std(ts)


def _in_chunks(plan: _Plan, x: Tensor, first: int, size: int) -> Trajectory:
    """Solve part after part; the noise of a sample does not depend on its part."""
    own_steps = plan.adaptive and plan.solver.kind == "ode"
    if own_steps and plan.steps is None and plan.ts is None and plan.save == "all":
        raise InputError(
            f"chunk with {plan.solver.name}: every part would have times of its own. "
            "Give steps=, ts=, or save= with a number of times"
        )
    done: list[Trajectory] = []
    for start in range(0, len(x), size):
        done.append(plan.solve(x[start : start + size], first + start))
    return _joined(done)


def _joined(parts: list[Trajectory]) -> Trajectory:
    stats = Stats(
        max(p.stats.nfe for p in parts),
        max(p.stats.steps for p in parts),
        sum(p.stats.rejected for p in parts),
        sum(p.stats.seconds for p in parts),
    )
    one = parts[0]
    estimates = [p.denoised for p in parts if p.denoised is not None]
    return Trajectory(
        one.ts,
        torch.cat([p.ys for p in parts], dim=1),
        one.method,
        stats,
        one.shape,
        one.diffusion,
        one.std,
        torch.cat(estimates, dim=1) if estimates else None,
        _dense=lambda t: torch.cat([p(t) for p in parts]),
    )


# -- checks ------------------------------------------------------------------------


def _is_flat(problem: Any) -> bool:
    """Whether the solver sees flat states; a user's ODE is given them as they are."""
    return isinstance(problem, (ReverseProblem, SDE)) or is_torchsde(problem)


def _bounds(problem: Any) -> tuple[float, float] | None:
    bounds: tuple[float, float] | None = getattr(problem, "interval", None)
    return bounds


def _check_state(x: Tensor, problem: Any) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(f"x = {type(x).__name__}: expected a tensor of floating-point numbers")
    if x.dim() < 2 or not x.numel():
        raise InputError(f"x has shape {tuple(x.shape)}: expected (B, C, H, W) or (B, D)")
    shape = getattr(problem, "shape", None)
    if shape is not None and x[0].numel() != torch.Size(shape).numel():
        raise InputError(
            f"x has shape {tuple(x.shape)}: expected (B, {', '.join(map(str, shape))}), the "
            "shape of the problem, or the same flat"
        )
    if not bool(torch.isfinite(x).all()):
        raise InputError("x holds numbers that are not finite")


def _checked_denoiser(wanted: bool, name: str, problem: Any) -> bool:
    if wanted and not isinstance(problem, ReverseProblem):
        raise InputError(f"{name}: only a ReverseSDE or a ProbabilityFlow knows clean images")
    return wanted


def _checked_grad(grad: bool | str, solver: Solver, adaptive: bool) -> bool | str:
    if grad == "adjoint":
        check_adjoint(solver, adaptive)
    elif not isinstance(grad, bool):
        raise InputError(f"grad = {grad!r}: expected True, False or 'adjoint'")
    return grad


def _adaptive(solver: Solver, wanted: bool | None) -> bool:
    if wanted is None:
        return solver.adaptive
    if wanted and not solver.can_adapt:
        raise InputError(f"{solver.name} takes fixed steps only: leave adaptive out")
    if not wanted and solver.one_step is None:
        raise InputError(f"{solver.name} chooses its own steps: leave adaptive out")
    return wanted


def _checked_count(value: int | None, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} = {value!r}: expected a whole number ≥ 1")
    return value


def _checked_noise(noise: Any, seed: int | None, kind: str) -> BrownianPath | None:
    if noise is None:
        return None
    if not isinstance(noise, BrownianPath):
        raise InputError(f"noise = {type(noise).__name__}: expected a BrownianPath")
    if kind == "ode":
        raise InputError("noise: an ODE has none; leave it out")
    if seed is not None and seed != noise.seed:
        raise InputError(f"seed = {seed} and a path of seed {noise.seed}: give one of them")
    return noise


def _tolerance(value: float | None, kind: str, name: str) -> float:
    if value is None:
        return _DEFAULT_TOLERANCE[kind]
    if not value > 0:
        raise InputError(f"{name} = {value}: expected a number > 0")
    return float(value)


def _checked_options(
    options: Mapping[str, Any] | None, solver: Solver, adaptive: bool
) -> Mapping[str, Any]:
    valid = solver.options | (ADAPTIVE_OPTIONS if adaptive and solver.kind == "sde" else set())
    for name in options or {}:
        if name not in valid:
            raise InputError(
                f"options[{name!r}] is none of {solver.name}'s: {name_list(name, valid)}"
                if valid
                else f"options[{name!r}]: {solver.name} has no options"
            )
    return dict(options or {})
