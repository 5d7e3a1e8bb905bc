r"""`solve`: one door to every solver.

`solve` checks its arguments and gathers them into a `Request`. Each part of the batch goes one
way down from there, as a `Part`: the request makes an equation, a grid and a `SolveState`; a
method steps along them; a `Driver` follows its steps; a `Recorder` keeps the states and hands back
the path.

`solve` has many arguments. The everyday ones come first; the rare ones (stop rules, a noise
path, chunks, gradients) stay plain keywords beside them, because each stands for itself, a call
passes one or two of them at most, and an object that gathered them would be one more to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.graphs import ordinary_mode
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.seeds import numbered
from diffsde.solvers.arguments import make_request
from diffsde.solvers.captured import check_capture
from diffsde.solvers.chunks import solve_in_chunks
from diffsde.solvers.grids import Save
from diffsde.solvers.parts import solve_part
from diffsde.solvers.stop_rules import Callback, Event
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.numbers import truth_value, whole_number

__all__ = ["solve"]


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
    capture: bool = False,
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
            takes steps of its own, for each sample by itself, and lands on this many equal
            times. By default an SDE lands on 50 times, and of a flow the times are kept at which
            the steps of its first sample end; there the others come from dense output.
        ts: the times in t to step on, in order, instead of `steps`; an adaptive solver lands
            on them. Two times with `steps` give the interval and the number of steps.
        clock: the time in which steps are equal: "t", "sigma", "log_sigma", "karras", or a map
            from [0, 1] to t.
        seed: seed of the noise. The numbers of a step depend on the seed, the sample and the
            time at which the step begins. Drawn from torch's generator by default.
        rtol, atol: tolerances of adaptive solvers; by default 1e-5 for ODEs, 1e-2 for SDEs.
            Fixed steps go by none, and refuse one.
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
        capture: with chunk, on CUDA and with fixed steps: capture what the device is told for a
            chunk as a graph, and replay it for those after it. The samples are the same, but have
            no dense output. It is for small networks or chunks, where telling the device takes
            longer than computing.
        first: index of the first sample, if the batch is part of a larger one.
        callback: called as (t, x, stats) after each step, with a copy of the state; it ends the
            solve by returning `diffsde.STOP`, and by nothing else.
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
    x, request = make_request(
        problem,
        x,
        method,
        steps=steps,
        ts=ts,
        clock=clock,
        seed=seed,
        rtol=rtol,
        atol=atol,
        adaptive=adaptive,
        save=save,
        progress=progress,
        options=options,
        noise=noise,
        denoise=denoise,
        estimates=estimates,
        grad=grad,
        max_steps=max_steps,
        max_nfe=max_nfe,
        max_seconds=max_seconds,
        callback=callback,
        event=event,
    )
    samples = numbered(first, len(x))
    if truth_value(capture, "capture"):
        check_capture(request, x, chunk)
    with torch.set_grad_enabled(bool(request.grad)):
        if chunk is None:
            return solve_part(request, x, samples)
        size = whole_number(chunk, "chunk")
        return solve_in_chunks(request, x, samples.start, size, capture=capture)
