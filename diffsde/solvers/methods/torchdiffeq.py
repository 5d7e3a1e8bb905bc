r"""torchdiffeq's methods, as rows of the registry.

The names and the coefficients are read from the installed release. As for torchsde, the loop is
ours, so that every accepted step is seen: the whole trajectory, limits, a failure that hands back
the path so far. The methods that choose their own steps choose them for each sample by itself
(see `pairs`), where torchdiffeq has one step for the whole batch. Given fixed nodes, they take
their Runge–Kutta step without the step control.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from inspect import isabstract
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
from diffsde.solvers.option_values import positive, whole
from diffsde.solvers.pairs import PAIR_OPTIONS, Pair, pair_ways
from diffsde.solvers.registry import REGISTRY, Solver, register
from diffsde.solvers.state import SolveState, Step, Walk
from diffsde.system.host import on_host

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
    "implicit_adams": (
        4,
        None,
        _HAIRER,
        "Up to five evaluations a step, until the whole batch has converged, so an image depends a "
        "little on its neighbours, and the host waits for a device up to five times a step; not "
        "for sampling.",
    ),
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
        "Steps in float64 on the CPU, to which every evaluation comes from a device; one step for "
        "the whole batch, so an image depends on its neighbours to the tolerance. Also RK23 and "
        "DOP853; its implicit methods need a matrix of every pixel by every pixel.",
    ),
}
_ITERATE = ("implicit_adams", "fixed_adams")
_MOST = 12  # values that an Adams method may look back on
_NEEDS_MIDDLE = 5  # from this order on, the states within a step need the one at half of it
_LARGEST_JACOBIAN = 2**28  # bytes that a method which nobody has looked at may take

# Options that differ from torchdiffeq's own defaults.
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "explicit_adams": {"max_order": 5},
    "scipy_solver": {"solver": "RK45"},
}


class _Function:
    """The drift as torchdiffeq's classes call it."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation

    def __call__(self, u: Tensor, x: Tensor, *, perturb: Any = None) -> Tensor:
        return self.equation.f(u, x)


class _FixedGrid:
    """A fixed-grid method as a step function."""

    def __init__(self, name: str, state: SolveState) -> None:
        _check_room(name, state.x)
        self._function, cls = _Function(state.equation), SOLVERS[name]
        # The Adams methods put their weights, in float64, where y0 is: on the host they go with
        # the tensors of any device.
        weighs = issubclass(cls, AdamsBashforthMoulton)
        self._solver = cls(
            func=self._function,
            y0=torch.zeros((), dtype=state.x.dtype, device="cpu") if weighs else state.x,
            rtol=state.rtol,
            atol=state.atol,
            norm=rms_norm,
            **{**OWN_DEFAULTS.get(name, {}), **state.options},
        )

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        change, _ = self._solver._step_func(self._function, u0, u1 - u0, u1, x)
        return x + change


def _pair_of(cls: Any) -> Pair:
    """The tableau of an adaptive method."""
    tableau = cls.tableau
    return Pair(
        cls.order,
        tableau.alpha.tolist(),
        [row.tolist() for row in tableau.beta],
        tableau.c_sol.tolist(),
        tableau.c_error.tolist(),
        cls.mid.tolist() if cls.order >= _NEEDS_MIDDLE else (),
    )


def _walk_scipy(state: SolveState) -> Walk:
    """SciPy's steppers, one for each stretch between two nodes."""
    options = {**OWN_DEFAULTS["scipy_solver"], **state.options}
    cls = _scipy_class(options.pop("solver"))
    x, first_step = state.x, options.pop("first_step", None)
    shape, like = state.x.shape, state.x

    def slope(u: float, y: Any) -> Any:
        point = torch.from_numpy(y).to(like).reshape(shape)
        place = on_host(u, torch.float64)
        return state.checks.fetch(state.equation.f(place, point).detach()).flatten().numpy()

    def stepper_from(u0: float, u1: float, x: Tensor, first: float | None) -> Any:
        y = x.detach().cpu().double().flatten().numpy()
        how = {"rtol": state.rtol, "atol": state.atol, **options}
        return cls(slope, u0, y, u1, first_step=first and min(first, u1 - u0), **how)

    for u0, u1 in pairwise(state.nodes.tolist()):
        stepper = stepper_from(u0, u1, x, first_step)
        while stepper.status == "running":
            message = stepper.step()
            if stepper.status == "failed":
                raise BlowUp(f"SciPy's {cls.__name__} gave up: {message}")
            first_step = stepper.step_size
            x = torch.from_numpy(stepper.y).to(like).reshape(shape)
            altered = yield Step(on_host(stepper.t, torch.float64), x)
            if altered is not None:
                x = altered
                if stepper.status == "running":
                    stepper = stepper_from(stepper.t, u1, x, first_step)


def _scipy_name(value: Any, name: str) -> str:
    """The name of one of SciPy's steppers."""
    valid = ("RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA")
    if value not in valid:
        raise InputError(f"{name} = {value!r}: {name_list(str(value), valid)}")
    return str(value)


def _scipy_class(name: str) -> Any:
    from scipy import integrate  # a second of loading that other methods need not wait for

    return getattr(integrate, name)


def _kind_of(cls: type) -> dict[str, Any]:
    """What the row of a class holds beside its facts."""
    if issubclass(cls, RKAdaptiveStepsizeODESolver):
        return {"adaptive": True, "options": PAIR_OPTIONS}
    if issubclass(cls, ScipyWrapperODESolver):
        options = {"solver": _scipy_name, "first_step": positive, "max_step": positive}
        return {"adaptive": True, "options": options}
    several = issubclass(cls, AdamsBashforthMoulton)
    extra = {"max_order": whole(1, _MOST), "max_iters": whole()} if several else {}
    return {"adaptive": False, "multistep": several, "options": extra}


def _ways(name: str, cls: type) -> dict[str, Any]:
    """The step function and the walk of a class."""
    if issubclass(cls, ScipyWrapperODESolver):
        return {"walk": _walk_scipy, "differentiable": False}
    if issubclass(cls, RKAdaptiveStepsizeODESolver):
        return pair_ways(_pair_of(cls))
    # A method that nobody has looked at may be implicit, and then it iterates as well.
    iterates = name in _ITERATE or name not in _FACTS
    return {"one_step": lambda state: _FixedGrid(name, state), "iterates": iterates}


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


def _rows(solvers: Mapping[str, type]) -> list[Solver]:
    """The rows of all classes that can be used here; others are left out, never used by half.

    A later torchdiffeq may bring a method that is written here already, such as tsit5.
    """
    return [
        _row(name, cls)
        for name, cls in solvers.items()
        if not _written_here(name) and (name in _FACTS or _can_be_used(cls))
    ]


def _written_here(name: str) -> bool:
    row = REGISTRY.get(("ode", name))
    return row is not None and row.family != "torchdiffeq"


def _can_be_used(cls: type) -> bool:
    """Whether a method of a later torchdiffeq has all that is asked of one of its kind."""
    if issubclass(cls, RKAdaptiveStepsizeODESolver):
        return all(hasattr(cls, name) for name in ("order", "tableau", "mid"))
    return issubclass(cls, FixedGridODESolver) and not isabstract(cls)


for _solver in _rows(SOLVERS):
    register(_solver)
