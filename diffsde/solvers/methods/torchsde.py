r"""torchsde's methods, as rows of the registry.

The loop of `torchsde.sdeint` interpolates and accumulates time in float32, so `solve` has a
loop of its own and uses the step functions of torchsde's method classes. The names are read
from the installed release.

The noise of a diffusion model depends on time alone: Itô and Stratonovich agree, every method
applies, products with g are products of numbers, derivatives of g vanish and the Lévy area has
no effect. `_Additive` is the equation in those terms. `_Own` is a user's SDE, whose noise may
depend on the state, in the solver's time.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.contract import ContractSDE
from diffsde.errors import InputError
from diffsde.solvers.equation import Equation
from diffsde.solvers.in_steps import Counting, InSteps, NoiseInSteps
from diffsde.solvers.methods.fitting import fitting_methods, method_names, reason_against
from diffsde.solvers.methods.torchsde_parts import ForwardSDE, method_class
from diffsde.solvers.registry import Solver, register
from diffsde.solvers.state import SolveState
from diffsde.system.host import on_host
from diffsde.system.numbers import truth_value

__all__ = ["class_for"]

# For additive noise: strong order, weak order, evaluations of the drift, source, advice.
_FACTS: dict[str, tuple[float, float, int, str, str]] = {
    "euler": (
        1.0,
        1,
        1,
        "Maruyama, 1955",
        "The reference: robust, slow. Uniform t wants 500 steps.",
    ),
    "milstein": (
        1.0,
        1,
        1,
        "Milstein, 1975",
        "The same as euler here, since g does not depend on x.",
    ),
    "srk": (
        1.5,
        2,
        2,
        "Rößler, SIAM J. Numer. Anal. 48 (2010), SRA1",
        "The highest strong order of torchsde. Fixed steps with clock='karras' are nearer than "
        "adaptive ones at equal cost; adaptive=True pays with clock='t'.",
    ),
    "midpoint": (
        1.0,
        1,
        2,
        "Kloeden, Platen, 1992",
        "Two evaluations a step; good in clock='karras'.",
    ),
    "heun": (
        1.0,
        2,
        2,
        "Burrage, Burrage, Tian, Proc. R. Soc. A 460 (2004)",
        "As midpoint, and of a higher weak order.",
    ),
    "euler_heun": (1.0, 1, 1, "Kloeden, Platen, 1992", "euler, with g averaged over the step."),
    "reversible_heun": (
        1.0,
        1,
        1,
        "Kidger et al., arXiv 2105.13493",
        "One evaluation a step, for gradients. Undamped: its error grows by (s(T) / spread)², so "
        "it is not for sampling images.",
    ),
    "log_ode": (
        1.0,
        1,
        2,
        "Foster, Oberhauser, Lyons, arXiv 2002.04025",
        "The same as midpoint here, since the Lévy area has no effect.",
    ),
}
_UNIT = on_host([0.0, 1.0], torch.float64)  # both ends of a step, counted in steps
_LOSES_LAW = {
    "reversible_heun": "it does not damp its own error, which grows by "
    "(s(T) / spread of the data)², however short the steps. It is for gradients, grad=True or "
    "'adjoint'; to sample take 'srk', 'sosra' or 'euler'",
}
_UNKNOWN = (
    0.5,
    None,
    None,
    f"torchsde {version('torchsde')}",
    "Not known to this version of diffsde: taken to have strong order 0.5.",
)


class _Additive:
    """An equation with additive noise, in the terms that torchsde's steps ask for."""

    noise_type = "additive"

    def __init__(self, equation: Equation | InSteps, sde_type: str) -> None:
        self.equation, self.sde_type = equation, sde_type
        self.f, self.g_prod = equation.f, equation.g_prod

    def f_and_g_prod(self, u: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.f(u, y), self.g_prod(u, y, v)

    def g_prod_and_gdg_prod(
        self, u: Tensor, y: Tensor, v1: Tensor, v2: Tensor
    ) -> tuple[Tensor, float]:
        return self.g_prod(u, y, v1), 0.0

    def f_and_g(self, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.f(u, y), self.equation.g(u, y)

    def prod(self, g: Tensor, v: Tensor) -> Tensor:
        return g * v

    def dg_ga_jvp_column_sum(self, u: Tensor, y: Tensor, a: Tensor) -> float:
        return 0.0


class _Own(torch.nn.Module):
    """A user's SDE in the solver's time, with the part of torchsde's contract that it has."""

    def __init__(self, equation: Equation | InSteps, own: ContractSDE, sde_type: str) -> None:
        super().__init__()
        self.noise_type, self.sde_type = own.noise_type, sde_type
        self.f = equation.f
        offered = {
            "g": equation.diffusion,
            "g_prod": equation.g_prod,
            "f_and_g": equation.f_and_g,
            "f_and_g_prod": equation.f_and_g_prod,
        }
        for name, method in offered.items():
            if hasattr(own.own, name):
                setattr(self, name, method)
        if own.has_diffusion:
            self.g = equation.diffusion
        elif not hasattr(self, "g_prod"):
            self.g_prod = equation.g_prod


class _Method:
    """A method of torchsde as a step function."""

    def __init__(self, name: str, state: SolveState) -> None:
        self._state = state
        # For additive noise srk asks twice for the drift at the start of a step.
        self._asks_twice = name == "srk" and state.equation.own is None
        self._cls = class_for(name, state.equation)
        self._solver = self._made(state.equation, state.noise)
        self._extra: Any = None

    def _made(self, equation: Equation | InSteps, noise: Any) -> Any:
        """torchsde's solver of an equation."""
        return self._cls(
            sde=_as_torchsde(equation, self._cls.sde_type),
            bm=noise,
            dt=None,
            adaptive=False,
            rtol=None,
            atol=None,
            dt_min=None,
            options=dict(self._state.options),
        )

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        with self._state.equation.one_start(u0) if self._asks_twice else nullcontext():
            if u0.dim():
                return self._own_steps(u0, u1, x)
            if self._extra is None:
                self._extra = self._solver.init_extra_solver_state(u0, x)
            x1, self._extra = self._solver.step(u0, u1, x, self._extra)
        return x1

    def _own_steps(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        """A step of its own for each sample, from u₀ to u₁, (B, 1)."""
        counting = Counting(torch.stack([u0, u1]), u1 - u0)
        noise = NoiseInSteps(self._state.bound_noise, counting)
        solver = self._made(InSteps(self._state.equation, counting), noise)
        v0, v1 = _UNIT.unbind()
        return solver.step(v0, v1, x, solver.init_extra_solver_state(v0, x))[0]


def _as_torchsde(equation: Equation | InSteps, sde_type: str) -> Any:
    """The equation as torchsde's methods take it, in the calculus that a method wants."""
    if equation.own is None:
        return _Additive(equation, sde_type)
    return ForwardSDE(_Own(equation, equation.own, sde_type))


def class_for(name: str, equation: Equation) -> Any:
    """The class of a method, for the calculus that the equation is written in.

    Raises:
        InputError: the method is for another calculus, for other noise, or asks for g where
            only its products are known.
    """
    own = equation.own
    if own is None:
        return method_class(name, "ito")
    reason = reason_against(name, own)
    if reason is not None:
        raise InputError(f"{name} {reason}. Methods that fit: {', '.join(fitting_methods(own))}")
    return method_class(name, own.sde_type)


def _row(name: str) -> Solver:
    order, weak_order, evaluations, source, advice = _FACTS.get(name, _UNKNOWN)
    return Solver(
        name,
        "sde",
        "torchsde",
        order,
        adaptive=False,
        evaluations=evaluations,
        source=source,
        advice=advice,
        weak_order=weak_order,
        one_step=lambda state: _Method(name, state),
        multistep=name == "reversible_heun",
        options={"grad_free": truth_value} if name == "milstein" else {},
        loses_law=_LOSES_LAW.get(name, ""),
    )


for _name in method_names():
    register(_row(_name))
