r"""`solve`: one door to every solver.

`solve` checks its arguments and gathers them into a `Request`. Each part of the batch goes one
way down from there: the request makes an equation, a grid and a `SolveState`; a method steps
along them; a `Driver` follows its steps; a `Recorder` keeps the states and hands back the path.

`solve` has many arguments. The everyday ones come first; the rare ones (stop rules, a noise
path, chunks, gradients) stay plain keywords beside them, because each stands for itself, a call
passes one or two of them at most, and an object that gathered them would be one more to learn.
"""

from __future__ import annotations

import warnings
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
from diffsde.system.numbers import whole_number

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
    rtol: float | None = None,
    atol: float | None = None,
    adaptive: bool | None = None,
    save: Save = "all",
    progress: bool | str = False,
    options: Mapping[str, Any] | None = None,
    noise: BrownianPath | None = None,
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
) -> Trajectory:
    """Solve a problem by the solver of that name.

    Args:
        problem: a `ReverseSDE`, a `ProbabilityFlow`, a forward `SDE`, an object of torchsde's
            contract, or a function (t, x), the right-hand side of an ODE.
        x: the state at the start, (B, C, H, W) or (B, D).
        method: a name from `list_solvers`; by default "euler" for an SDE and "dopri5" for an
            ODE.
        steps: the number of steps, equal in the clock; 500 by default. An adaptive solver
            takes steps of its own and lands on this many equal times; by default a flow keeps
            each accepted step, and an SDE lands on 50 times.
        ts: the times in t to step on, in order, instead of `steps`; an adaptive solver lands
            on them. Two times with `steps` give the interval and the number of steps.
        clock: the time in which steps are equal: "t", "sigma", "log_sigma", "karras", or a map
            from [0, 1] to t.
        seed: seed of the noise. The numbers of a step depend on the seed, the sample and the
            time at which the step begins. Drawn from torch's generator by default.
        rtol, atol: tolerances of adaptive solvers; by default 1e-5 for ODEs, 1e-2 for SDEs.
        adaptive: True lets an SDE solver choose its own steps; False takes the steps of an
            adaptive ODE method on the fixed grid. By default each method does as it is made.
        save: which states to keep: "all", "last", a number of them, equally spaced in the
            clock and with both ends, or times; the solve ends at the last of these times.
            Saved times are stepped on, never interpolated.
        progress: show a progress bar; a text, such as "Euler–Maruyama", names it.
        options: settings of the method itself, such as {"max_order": 4} for implicit_adams.

    Other Parameters:
        noise: a `BrownianPath`, so that other solvers and steps meet the same noise.
        chunk: solve this many samples at a time, to bound memory; it changes no sample.
        first: index of the first sample, if the batch is part of a larger one.
        callback: called as (t, x, stats) after each step; it ends the solve by returning
            `diffsde.STOP`, and by nothing else.
        event: a function (t, x) that returns a number or a condition; the solve ends where the
            number crosses zero or the condition changes, which is located to 1e-6 of a step.
            The state there comes from a shorter step of the same solver; after a multistep
            method, such as dpmpp_2m, from the cubic through the two ends of the step. For an
            SDE it lies on the Brownian path if `noise` is given or the steps are adaptive, and
            otherwise on a straight line between the two ends. No gradient flows through the
            time found.
        max_steps, max_nfe, max_seconds: limits; a solve that reaches one raises `LimitError`.
        denoise: end a reverse problem with one more evaluation. The state at ε still holds
            noise of std s(ε); the best estimate of the image without it, E[x(0) | x(ε)],
            follows as a frame at t = 0. The tutorial's loops do so silently.
        estimates: keep the estimate E[x(0) | x(t)] of the clean image beside each saved state,
            as `denoised`; each costs one evaluation.
        grad: True keeps the graph for back-propagation through the solve. "adjoint" solves
            backwards for the gradient, in the memory of one step, with methods of torchsde
            and torchdiffeq and equal steps (see `diffsde.solvers.adjoint`).

    Returns:
        The path, with times in t in the order solved.

    Raises:
        InputError: an argument does not fit; `UnknownSolverError` for a method's name.
        UserWarning: the method is not for sampling: reversible_heun on a reverse problem.
        SolveError: the solve stopped before its end, by a `BlowUpError`, a `LimitError`, or
            an exception of the score or the callback, which is its cause. Its `trajectory` is
            the path so far. A KeyboardInterrupt stays one and has the same attribute.
    """
    dynamics = dynamics_of(problem)
    check_state(x, dynamics)
    x = ordinary(x)
    kind = dynamics.kind
    solver = find_solver(_DEFAULT_METHOD[kind] if method is None else method, kind)
    adapts = checked_adaptive(solver, adaptive)
    first = whole_number(first, "first", 0)
    path = checked_noise(noise, seed, kind)
    request = Request(
        problem=problem,
        solver=solver,
        adaptive=adapts,
        ts=None if ts is None else checked_times(ts, dynamics.interval, "ts"),
        steps=None if steps is None else whole_number(steps, "steps"),
        clock=clock,
        seed=path.seed if path is not None else checked_seed(seed),
        noise=path,
        rtol=checked_tolerance(rtol, kind, "rtol"),
        atol=checked_tolerance(atol, kind, "atol"),
        save=save,
        rules=StopRules.checked(
            max_steps=max_steps,
            max_nfe=max_nfe,
            max_seconds=max_seconds,
            callback=callback,
            event=event,
        ),
        denoise=checked_denoiser(denoise, "denoise", dynamics),
        estimates=checked_denoiser(estimates, "estimates", dynamics),
        grad=checked_grad(grad, solver, adapts),
        progress=progress,
        options=checked_options(options, solver, adapts),
    )
    request.check_times(dynamics)
    request.check_tolerances()
    if solver.loses_law and dynamics.semilinear is not None and not grad:
        words = f"{solver.name} ends in another law than that of {dynamics.name}"
        # Level 1 is this function, and 2 its decorator.
        warnings.warn(f"{words}: {solver.loses_law}", UserWarning, stacklevel=3)
    with torch.set_grad_enabled(bool(request.grad)):
        if chunk is None:
            return solve_part(request, x, first)
        return solve_in_chunks(request, x, first, whole_number(chunk, "chunk"))
