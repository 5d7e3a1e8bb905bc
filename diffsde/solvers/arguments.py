r"""The arguments of `solve`, each checked before anything is computed.

Every error names what came, what was expected and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import largest_magnitude
from diffsde.equations.dynamics import Dynamics
from diffsde.errors import InputError, name_list
from diffsde.noise.brownian_path import BrownianPath
from diffsde.solvers.adjoint import check_adjoint
from diffsde.solvers.noisy_attempts import NOISY_OPTIONS
from diffsde.solvers.registry import Solver
from diffsde.system.numbers import real_number

__all__ = [
    "check_state",
    "checked_adaptive",
    "checked_denoiser",
    "checked_grad",
    "checked_noise",
    "checked_options",
    "checked_tolerance",
]

_STATES = (torch.float32, torch.float64)
_DEFAULT_TOLERANCE = {"sde": 1e-2, "ode": 1e-5}


def check_state(x: Tensor, dynamics: Dynamics) -> None:
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


def checked_denoiser(wanted: bool, name: str, dynamics: Dynamics) -> bool:
    if wanted and dynamics.denoise is None:
        raise InputError(f"{name}: only a ReverseSDE or a ProbabilityFlow knows clean images")
    return wanted


def checked_grad(grad: bool | str, solver: Solver, adaptive: bool) -> bool | str:
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
    if wanted and not solver.can_adapt:
        raise InputError(f"{solver.name} takes fixed steps only: leave adaptive out")
    if not wanted and solver.one_step is None:
        raise InputError(f"{solver.name} chooses its own steps: leave adaptive out")
    return wanted


def checked_noise(noise: Any, seed: int | None, kind: str) -> BrownianPath | None:
    if noise is None:
        return None
    if not isinstance(noise, BrownianPath):
        raise InputError(f"noise = {type(noise).__name__}: expected a BrownianPath")
    if kind == "ode":
        raise InputError("noise: an ODE has none; leave it out")
    if seed is not None and seed != noise.seed:
        raise InputError(f"seed = {seed} and a path of seed {noise.seed}: give one of them")
    return noise


def checked_tolerance(value: float | None, kind: str, name: str) -> float:
    if value is None:
        return _DEFAULT_TOLERANCE[kind]
    return real_number(value, name, "a number ≥ 0", 0.0)


def checked_options(
    options: Mapping[str, Any] | None, solver: Solver, adaptive: bool
) -> Mapping[str, Any]:
    valid = solver.options | (NOISY_OPTIONS if adaptive and solver.kind == "sde" else set())
    for name in options or {}:
        if name not in valid:
            raise InputError(
                f"options[{name!r}] is none of {solver.name}'s: {name_list(name, valid)}"
                if valid
                else f"options[{name!r}]: {solver.name} has no options"
            )
    return dict(options or {})
