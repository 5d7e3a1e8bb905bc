r"""`solve`: one door to every solver.

`solve` checks its arguments and gathers them into a `Request`. Each part of the batch goes one
way down from there: the request makes an equation, a grid and a `SolveState`; a method steps
along them; a `Driver` follows its steps; a `Recorder` keeps the states and hands back the path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.dynamics import dynamics_of
from diffsde.equations.graphs import ordinary, ordinary_mode
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.seeds import checked_seed
from diffsde.solvers.arguments import (
    check_state,
    checked_adaptive,
    checked_count,
    checked_denoiser,
    checked_grad,
    checked_noise,
    checked_options,
    checked_tolerance,
)
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.chunks import solve_in_chunks
from diffsde.solvers.grids import Save, checked_times
from diffsde.solvers.request import Request, solve_part
from diffsde.solvers.stop_rules import Callback, Event, StopRules
from diffsde.solvers.trajectory import Trajectory

__all__ = ["solve"]

_DEFAULT_METHOD = {"sde": "euler", "ode": "dopri5"}


@ordinary_mode()
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
    dynamics = dynamics_of(problem)
    check_state(x, dynamics)
    x = ordinary(x)
    kind = dynamics.kind
    solver = find_solver(_DEFAULT_METHOD[kind] if method is None else method, kind)
    adapts = checked_adaptive(solver, adaptive)
    path = checked_noise(noise, seed, kind)
    request = Request(
        problem=problem,
        solver=solver,
        adaptive=adapts,
        ts=None if ts is None else checked_times(ts, dynamics.interval, "ts"),
        steps=checked_count(steps, "steps"),
        clock=clock,
        seed=path.seed if path is not None else checked_seed(seed),
        noise=path,
        rtol=checked_tolerance(rtol, kind, "rtol"),
        atol=checked_tolerance(atol, kind, "atol"),
        save=save,
        rules=StopRules(
            checked_count(max_steps, "max_steps"),
            checked_count(max_nfe, "max_nfe"),
            max_seconds,
            callback,
            event,
        ),
        denoise=checked_denoiser(denoise, "denoise", dynamics),
        estimates=checked_denoiser(estimates, "estimates", dynamics),
        grad=checked_grad(grad, solver, adapts),
        progress=progress,
        options=checked_options(options, solver, adapts),
    )
    request.check_times(dynamics)
    with torch.set_grad_enabled(bool(request.grad)):
        if chunk is None:
            return solve_part(request, x, first)
        return solve_in_chunks(request, x, first, checked_count(chunk, "chunk") or len(x))
