r"""The arguments of `solve`, each checked before anything is computed.

Every error names what came, what was expected and what to do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import largest_magnitude
from diffsde.equations.dynamics import Dynamics, dynamics_of
from diffsde.equations.graphs import ordinary
from diffsde.errors import InputError
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.seeds import checked_seed
from diffsde.solvers.adjoint import check_adjoint
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.grids import Save, checked_times
from diffsde.solvers.options import checked_options
from diffsde.solvers.registry import Solver
from diffsde.solvers.request import Request
from diffsde.solvers.stop_rules import StopRules
from diffsde.system.numbers import real_number, truth_value, whole_number

__all__ = ["checked_adaptive", "checked_tolerances", "make_request"]

_DEFAULT_METHOD = {"sde": "euler", "ode": "dopri5"}

_STATES = (torch.float32, torch.float64)
_DEFAULT_TOLERANCE = {"sde": 1e-2, "ode": 1e-5}


def make_request(
    problem: Any,
    x: Tensor,
    method: str | None,
    *,
    steps: int | None,
    ts: Any,
    clock: str | Callable[[Tensor], Tensor],
    seed: int | None,
    rtol: float | None,
    atol: float | None,
    adaptive: bool | None,
    options: Mapping[str, Any] | None,
    noise: BrownianPath | None,
    progress: bool | str,
    grad: bool | str,
    save: Save = "all",
    denoise: bool = False,
    estimates: bool = False,
    by_hand: bool = False,
    **rules: Any,
) -> tuple[Tensor, Request]:
    """The states to begin with, and what was asked for; see `solve` for each argument.

    Raises:
        InputError: an argument does not fit.
        UserWarning: the method is not for sampling; at the line that called our caller.
    """
    dynamics = dynamics_of(problem)
    _check_state(x, dynamics)
    kind = dynamics.kind
    solver = find_solver(_DEFAULT_METHOD[kind] if method is None else method, kind)
    adapts = checked_adaptive(solver, adaptive)
    path = _checked_noise(noise, seed, kind)
    relative, absolute = checked_tolerances(rtol, atol, solver, adapts)
    request = Request(
        problem=problem,
        solver=solver,
        adaptive=adapts,
        ts=None if ts is None else checked_times(ts, dynamics.interval, "ts"),
        steps=None if steps is None else whole_number(steps, "steps"),
        clock=clock,
        seed=path.seed if path is not None else checked_seed(seed),
        noise=path,
        rtol=relative,
        atol=absolute,
        save=save,
        rules=StopRules.checked(**rules),
        denoise=_checked_denoiser(denoise, "denoise", dynamics),
        estimates=_checked_denoiser(estimates, "estimates", dynamics),
        grad=_checked_grad(grad, solver, adapts),
        progress=progress,
        options=checked_options(options, solver, adapts),
        by_hand=by_hand,
    )
    request.check_times(dynamics)
    if solver.loses_law and dynamics.semilinear is not None and not grad:
        words = f"{solver.name} ends in another law than that of {dynamics.name}"
        # Level 1 is this function, 2 its caller, such as `solve`, and 3 the caller's decorator.
        warnings.warn(f"{words}: {solver.loses_law}", UserWarning, stacklevel=4)
    # A method that differentiates, as milstein does, must not take x for a start of its own graph.
    return ordinary(x) if grad else ordinary(x).detach(), request


def _check_state(x: Tensor, dynamics: Dynamics) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(f"x = {type(x).__name__}: expected a tensor of floating-point numbers")
    if x.dtype not in _STATES:
        raise InputError(
            f"x is {x.dtype}: expected float32 or float64, because a step changes digits that "
            "half precision does not have. Let the network compute in half precision instead, "
            "as diffsde.optimize does"
        )
    if x.dim() < 2 or not x.numel():
        raise InputError(f"x has shape {tuple(x.shape)}: expected (B, C, H, W) or (B, D)")
    shape = dynamics.shape
    if shape is not None and x[0].numel() != torch.Size(shape).numel():
        raise InputError(
            f"x has shape {tuple(x.shape)}: expected (B, {', '.join(map(str, shape))}), the "
            "shape of the problem, or the same flat"
        )
    if not math.isfinite(largest_magnitude(x)):
        raise InputError("x holds numbers that are not finite")


def _checked_denoiser(wanted: bool, name: str, dynamics: Dynamics) -> bool:
    if truth_value(wanted, name) and dynamics.denoise is None:
        raise InputError(f"{name}: only a ReverseSDE or a ProbabilityFlow knows clean images")
    return wanted


def _checked_grad(grad: bool | str, solver: Solver, adaptive: bool) -> bool | str:
    if grad == "adjoint":
        check_adjoint(solver, adaptive)
    elif not isinstance(grad, bool):
        raise InputError(f"grad = {grad!r}: expected True, False or 'adjoint'")
    if grad is True and not solver.differentiable:
        raise InputError(
            f"grad=True: {solver.name} steps in NumPy, which keeps no graph. Use another method, "
            "or grad='adjoint'"
        )
    return grad


def checked_adaptive(solver: Solver, wanted: bool | None) -> bool:
    if wanted is None:
        return solver.adaptive
    if truth_value(wanted, "adaptive") and not solver.can_adapt:
        raise InputError(f"{solver.name} takes fixed steps only: leave adaptive out")
    if not wanted and solver.one_step is None:
        raise InputError(f"{solver.name} chooses its own steps: leave adaptive out")
    return wanted


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


def checked_tolerances(
    rtol: float | None, atol: float | None, solver: Solver, adaptive: bool
) -> tuple[float, float]:
    """Both tolerances, with the defaults filled in.

    Raises:
        InputError: one is no number ≥ 0, both are 0, or the steps go by neither.
    """
    relative, absolute = (
        _DEFAULT_TOLERANCE[solver.kind] if value is None else _checked_tolerance(value, name)
        for name, value in (("rtol", rtol), ("atol", atol))
    )
    if relative == 0 == absolute:
        raise InputError("rtol = atol = 0: expected at least one of them above 0")
    if (rtol, atol) != (None, None) and not (adaptive or solver.iterates):
        given = f"atol = {atol}" if rtol is None else f"rtol = {rtol}"
        raise InputError(
            f"{given}: {solver.name} takes fixed steps, which no tolerance changes. Leave it out "
            f"and choose the number of steps, or {_adaptive_instead(solver)}"
        )
    return relative, absolute


def _checked_tolerance(value: float, name: str) -> float:
    return real_number(value, name, "a number ≥ 0", 0.0)


def _adaptive_instead(solver: Solver) -> str:
    """What makes steps go by a tolerance, for whoever has asked for fixed ones."""
    if solver.adaptive:
        return "leave adaptive=False out"
    if solver.can_adapt:
        return "ask for adaptive=True"
    return "take dopri5" if solver.kind == "ode" else "take srk with adaptive=True"
