r"""torchdiffeq's methods, as rows of the registry.

As for torchsde, the step is the library's and the loop is ours, so that every accepted
step is seen: the whole trajectory, limits, a failure that hands back the path so far.
The names are read from the installed release.

An adaptive method given fixed nodes takes its Runge–Kutta step without the step control.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import BlowUp
from diffsde.errors import InputError, name_list
from diffsde.solvers.equation import Equation
from diffsde.solvers.methods.torchdiffeq_parts import (
    SOLVERS,
    AdamsBashforthMoulton,
    FixedGridODESolver,
    RKAdaptiveStepsizeODESolver,
    ScipyWrapperODESolver,
    rms_norm,
)
from diffsde.solvers.registry import Solver, register
from diffsde.solvers.state import SolveState, Step

__all__ = ["OWN_DEFAULTS"]

_HAIRER = "Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I"

# Order, evaluations of the drift for each accepted step, source, advice.
_FACTS: dict[str, tuple[int, int | None, str, str]] = {
    "euler": (1, 1, "Euler, 1768", "One evaluation a step; in clock='sigma' it is DDIM."),
    "midpoint": (2, 2, _HAIRER, "The best built-in one at 20 evaluations, in clock='karras'."),
    "heun2": (2, 2, _HAIRER, "EDM's method, in clock='karras' (arXiv 2206.00364)."),
    "heun3": (3, 3, _HAIRER, "Good from about 40 evaluations, in clock='karras'."),
    "rk4": (4, 4, "Kutta, 1901, the 3/8 rule", "Good from about 40 evaluations."),
    "explicit_adams": (
        4,
        None,
        _HAIRER,
        "Runs with max_order 5, which is order 4: torchdiffeq's own 12 diverges on this stiff "
        "flow at any number of steps. From 20 steps, with clock='karras'.",
    ),
    "implicit_adams": (4, None, _HAIRER, "Up to five evaluations a step; not for sampling."),
    "fixed_adams": (4, None, _HAIRER, "Another name of implicit_adams."),
    "adaptive_heun": (2, 1, _HAIRER, "Low order: for loose tolerances only."),
    "fehlberg2": (2, 2, "Fehlberg, 1969", "Low order: for loose tolerances only."),
    "bosh3": (3, 3, "Bogacki, Shampine, 1989", "For tolerances of 1e-2 to 1e-4."),
    "dopri5": (5, 6, "Dormand, Prince, 1980", "The default; clock='log_sigma' halves its cost."),
    "dopri8": (8, 13, "Prince, Dormand, 1981", "For references at tight tolerances in float64."),
    "scipy_solver": (
        5,
        None,
        "SciPy; options={'solver': 'RK45'} as in the tutorial of arXiv 2011.13456",
        "Steps in float64 on the CPU; also RK23 and DOP853. Its implicit methods need a matrix "
        "of every pixel by every pixel.",
    ),
}
_LARGEST_JACOBIAN = 2**28  # bytes that a method which nobody has looked at may take

# Options that differ from torchdiffeq's own defaults.
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "explicit_adams": {"max_order": 5},
    "scipy_solver": {"solver": "RK45"},
}


class _Function:
    """The drift as torchdiffeq's classes call it, with the hooks they look for."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation
        self.rejected = 0

    def __call__(self, u: Tensor, x: Tensor, *, perturb: Any = None) -> Tensor:
        return self.equation.f(u, x)

    def callback_step(self, u: Tensor, x: Tensor, h: Tensor) -> None: ...

    def callback_accept_step(self, u: Tensor, x: Tensor, h: Tensor) -> None: ...

    def callback_reject_step(self, u: Tensor, x: Tensor, h: Tensor) -> None:
        self.rejected += 1


def _make(name: str, state: SolveState, function: _Function, **more: Any) -> Any:
    return SOLVERS[name](
        func=function,
        y0=state.x,
        rtol=state.rtol,
        atol=state.atol,
        **{"norm": rms_norm, **state.options, **more},
    )


class _FixedGrid:
    """A fixed-grid method as a step function."""

    def __init__(self, name: str, state: SolveState) -> None:
        _check_room(name, state.x)
        self._function = _Function(state.equation)
        state = replace(state, options={**OWN_DEFAULTS.get(name, {}), **state.options})
        self._solver = _make(name, state, self._function)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        change, _ = self._solver._step_func(self._function, u0, u1 - u0, u1, x)
        return x + change


class _Tableau:
    """The Runge–Kutta step of an adaptive method, without its step control.

    It is written out here because torchdiffeq's own takes times in the dtype of the states. Where
    the last stage of a step is the first of the next, its slope is handed on, so each step must
    begin where the last one ended.
    """

    def __init__(self, name: str, state: SolveState) -> None:
        tableau = _make(name, state, _Function(state.equation)).tableau
        self._f = state.equation.f
        self._nodes = tableau.alpha.tolist()
        self._rows = [row.tolist() for row in tableau.beta]
        self._weights = tableau.c_sol.tolist()
        # The last stage of one step is the first of the next, where the tableau says so.
        self._shared = self._nodes[-1] == 1 and self._weights[:-1] == self._rows[-1]
        self._slope: Tensor | None = None  # at the end of the last step, where it is known

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        h = u1 - u0
        slopes, stage = [self._f(u0, x) if self._slope is None else self._slope], x
        for c, row in zip(self._nodes, self._rows, strict=True):
            stage = x + h * _combined(row, slopes)
            slopes.append(self._f(u1 if c == 1 else u0 + c * h, stage))
        if not self._shared:
            return x + h * _combined(self._weights, slopes)
        self._slope = slopes[-1]
        return stage


def _combined(weights: list[float], slopes: list[Tensor]) -> Tensor:
    return sum(w * k for w, k in zip(weights, slopes, strict=True) if w)  # type: ignore[return-value]


def _walk_adaptive(name: str, state: SolveState) -> Iterator[Step]:
    """torchdiffeq's adaptive stepping, landing on every node and nowhere beyond."""
    function = _Function(state.equation)
    solver = _make(name, state, function, step_t=state.nodes[1:])
    solver._before_integrate(state.nodes)
    # Its first step is a function of the state. A gradient through the places of the nodes would
    # be one of the error of the steps.
    solver.rk_state = solver.rk_state._replace(dt=solver.rk_state.dt.detach())
    end = state.nodes[-1]
    while solver.rk_state.t1 < end:
        before = solver.rk_state.t1
        try:
            solver.rk_state = solver._adaptive_step(solver.rk_state)
        except AssertionError as error:  # torchdiffeq's word for a step that became too small
            raise BlowUp(
                f"the step became too small ({error}): loosen rtol and atol "
                f"(now {state.rtol:g}, {state.atol:g}), or use another clock or float64"
            ) from error
        state.rejected = function.rejected
        if solver.rk_state.t1 > before:
            # The length of a step depends on the states; its end is a number all the same.
            yield Step(solver.rk_state.t1.detach(), solver.rk_state.y1)


def _walk_scipy(state: SolveState) -> Iterator[Step]:
    """SciPy's steppers, one for each stretch between two nodes."""
    options = {**OWN_DEFAULTS["scipy_solver"], **state.options}
    cls = _scipy_class(options.pop("solver"))
    x, first_step = state.x, options.pop("first_step", None)
    shape, like = state.x.shape, state.x

    def slope(u: float, y: Any) -> Any:
        point = torch.from_numpy(y).to(like).reshape(shape)
        place = torch.tensor(u, dtype=torch.float64)
        return state.equation.f(place, point).double().flatten().cpu().numpy()

    for u0, u1 in pairwise(state.nodes.tolist()):
        step = None if first_step is None else min(first_step, u1 - u0)
        y = x.detach().double().flatten().cpu().numpy()
        stepper = cls(
            slope, u0, y, u1, rtol=state.rtol, atol=state.atol, first_step=step, **options
        )
        while stepper.status == "running":
            message = stepper.step()
            if stepper.status == "failed":
                raise BlowUp(f"SciPy's {cls.__name__} gave up: {message}")
            x = torch.from_numpy(stepper.y).to(like).reshape(shape)
            yield Step(torch.tensor(stepper.t, dtype=torch.float64), x)
        first_step = stepper.step_size


def _scipy_class(name: str) -> Any:
    valid = ("RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA")
    if name not in valid:
        raise InputError(f"options['solver'] = {name!r}: {name_list(str(name), valid)}")
    from scipy import integrate  # a second of loading that other methods need not wait for

    return getattr(integrate, name)


def _kind_of(cls: type) -> dict[str, Any]:
    """What the row of a class holds beside its facts."""
    if issubclass(cls, RKAdaptiveStepsizeODESolver):
        options = {"norm", "first_step", "min_step", "max_step", "safety", "ifactor", "dfactor"}
        return {"adaptive": True, "options": frozenset(options)}
    if issubclass(cls, ScipyWrapperODESolver):
        options = {"solver", "first_step", "max_step"}
        return {"adaptive": True, "options": frozenset(options)}
    several = issubclass(cls, AdamsBashforthMoulton)
    extra = {"max_order", "max_iters"} if several else set()
    return {"adaptive": False, "multistep": several, "options": frozenset(extra)}


def _ways(name: str, cls: type) -> dict[str, Any]:
    """The step function and the walk of a class."""
    if issubclass(cls, ScipyWrapperODESolver):
        return {"walk": _walk_scipy, "differentiable": False}
    if issubclass(cls, RKAdaptiveStepsizeODESolver):
        return {
            "one_step": lambda state: _Tableau(name, state),
            "walk": lambda state: _walk_adaptive(name, state),
        }
    return {"one_step": lambda state: _FixedGrid(name, state)}


def _row(name: str, cls: type) -> Solver:
    order, evaluations, source, advice = _FACTS.get(name) or _unknown(cls)
    facts: dict[str, Any] = {"evaluations": evaluations, "source": source, "advice": advice}
    return Solver(name, "ode", "torchdiffeq", order, **facts, **_kind_of(cls), **_ways(name, cls))


def _unknown(cls: type) -> tuple[int, None, str, str]:
    """The facts of a method that a later torchdiffeq has brought."""
    installed = version("torchdiffeq")
    advice = "Not known to this version of diffsde: its order is torchdiffeq's own claim."
    return getattr(cls, "order", 1), None, f"torchdiffeq {installed}", advice


def _check_room(name: str, x: Tensor) -> None:
    """Refuse an unknown method where, if it is implicit, it would fill the memory.

    torchdiffeq's implicit methods build the Jacobian of the whole flattened state.

    Raises:
        InputError: that Jacobian would take more than 256 MB.
    """
    needed = x.numel() ** 2 * x.element_size()
    if name not in _FACTS and needed > _LARGEST_JACOBIAN:
        raise InputError(
            f"{name} of torchdiffeq {version('torchdiffeq')} is not known to this version of "
            f"diffsde. If it is implicit, its Jacobian of {x.numel()} by {x.numel()} values takes "
            f"{needed / 1e9:.3g} GB. Take a solver whose row has a cost, or solve fewer values"
        )


for _name, _cls in SOLVERS.items():
    if issubclass(_cls, (FixedGridODESolver, RKAdaptiveStepsizeODESolver, ScipyWrapperODESolver)):
        register(_row(_name, _cls))
