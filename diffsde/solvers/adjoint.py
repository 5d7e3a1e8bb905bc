r"""Gradients by the adjoint method: the memory of one step, whatever the number of steps.

With λ = ∂L/∂x, back-propagation through dx = f du + g dw is itself an equation, solved from
the end to the start together with the state:

    dλ  =  −(∂f/∂x)ᵀ λ du,        dL/dθ  =  ∫ (∂f/∂θ)ᵀ λ du,

(the noise is additive, so it does not enter). torchdiffeq and torchsde solve it with their
own methods; here they are given the equation in its clock, with time counted in steps,
v = u / h, so that every node is a whole number, which no rounding misses:

    dx  =  h f du(v)  +  √h g dw(v),        v = 0, 1, …, n.

The gradient is that of the equation, not of its discretisation: it agrees with
back-propagation through the solve (`grad=True`) up to the error of the steps, and exactly
for `reversible_heun`, whose steps can be undone.

Sources: Chen et al., arXiv 1806.07366; Li, Wong, Chen, Duvenaud, arXiv 2001.01328; Kidger
et al., arXiv 2105.13493.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint
from torchsde import BaseBrownian, sdeint_adjoint

from diffsde.errors import InputError
from diffsde.noise.brownian import BoundBrownian
from diffsde.solvers.equation import Equation
from diffsde.solvers.methods.torchdiffeq import OWN_DEFAULTS
from diffsde.solvers.methods.torchsde_parts import method_class
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import SolveState, Step

__all__ = ["check_adjoint", "walk_adjoint"]

_UNEVEN = 1e-6  # two steps that differ by less of their length are even


def check_adjoint(solver: Solver, adaptive: bool) -> None:
    """Whether a method has an adjoint.

    Raises:
        InputError: it is none of the two libraries', or not as they step.
    """
    if solver.family not in ("torchsde", "torchdiffeq"):
        raise InputError(
            f"grad='adjoint': {solver.name} is neither torchsde's nor torchdiffeq's, and only "
            "these have adjoints. Use grad=True"
        )
    if adaptive != solver.adaptive:
        steps = "steps of its own" if adaptive else "fixed steps"
        raise InputError(
            f"grad='adjoint': {solver.name} has no adjoint with {steps}. Use grad=True"
        )


def walk_adjoint(solver: Solver, state: SolveState) -> Iterator[Step]:
    """The states at the nodes, all solved for before the first is given."""
    count = len(state.nodes) - 1
    h = state.nodes[-1] / count
    if float((state.nodes.diff() - h).abs().max()) > _UNEVEN * float(h):
        raise InputError(
            "grad='adjoint' takes even steps in the clock: give steps=, and save='all', 'last' "
            "or a number that divides them; for other times, a clock of your own"
        )
    equation = state.equation
    if equation.stochastic and not equation.additive:
        raise InputError(
            f"grad='adjoint': the noise of {equation.dynamics.name} may depend on the "
            "state. Call torchsde.sdeint_adjoint yourself, or use grad=True"
        )
    parameters = _parameters(equation)
    places = torch.arange(count + 1, dtype=state.x.dtype, device=state.x.device)
    states = (_sde if equation.stochastic else _ode)(solver, state, float(h), places, parameters)
    equation.dynamics.counted.limit = None  # evaluations of the way back are not the solve's
    for u, x in zip(state.nodes[1:].unbind(), states[1:].unbind(), strict=True):
        yield Step(u, x)


def _parameters(equation: Equation) -> tuple[Tensor, ...]:
    """The parameters of the problem and of its score, to which gradients flow."""
    module = equation.dynamics.module
    return () if module is None else tuple(p for p in module.parameters() if p.requires_grad)


def _ode(
    solver: Solver, state: SolveState, h: float, places: Tensor, parameters: tuple[Tensor, ...]
) -> Tensor:
    def slope(v: Tensor, x: Tensor) -> Tensor:
        return h * state.equation.f(_place(v, h), x)

    options = {**OWN_DEFAULTS.get(solver.name, {}), **state.options}
    # Adaptive methods land on the nodes, on the way there and back.
    there = {"step_t": places[1:]} if solver.walk is not None and solver.one_step else {}
    back = {"step_t": places[:-1]} if there else {}
    return odeint_adjoint(
        slope,
        state.x,
        places,
        rtol=state.rtol,
        atol=state.atol,
        method=solver.name,
        options={**options, **there},
        adjoint_options={**{k: v for k, v in options.items() if k != "norm"}, **back},
        adjoint_params=parameters,
    )


def _sde(
    solver: Solver, state: SolveState, h: float, places: Tensor, parameters: tuple[Tensor, ...]
) -> Tensor:
    if state.noise is None:
        raise InputError("this equation has no noise")
    return sdeint_adjoint(
        _Clocked(solver.name, state, h),
        state.x,
        places,
        bm=_Counted(state.noise, h),
        method=solver.name,
        dt=1.0,
        options=dict(state.options),
        adjoint_params=parameters,
    )


def _place(v: Tensor, h: float) -> Tensor:
    return v.detach().to("cpu", torch.float64) * h


class _Clocked(nn.Module):
    """The equation in time counted in steps, as torchsde takes it.

    reversible_heun wants g itself, as a diagonal; the others make do with its products.
    """

    def __init__(self, name: str, state: SolveState, h: float) -> None:
        super().__init__()
        self.equation, self.h = state.equation, h
        self.sde_type = method_class(name, "ito").sde_type
        if name == "reversible_heun":
            self.noise_type, self.g = "diagonal", self._g
        else:
            self.noise_type, self.g_prod = "additive", self._g_prod

    def f(self, v: Tensor, x: Tensor) -> Tensor:
        return self.h * self.equation.f(_place(v, self.h), x)

    def _g(self, v: Tensor, x: Tensor) -> Tensor:
        return (math.sqrt(self.h) * self.equation.g(_place(v, self.h))).expand_as(x)

    def _g_prod(self, v: Tensor, _: Tensor, z: Tensor) -> Tensor:
        return math.sqrt(self.h) * self.equation.g(_place(v, self.h)) * z


class _Counted(BaseBrownian):
    """The noise of a solve, in time counted in steps: the k-th interval in any order."""

    levy_area_approximation = "foster"
    shape = torch.Size()
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, noise: BoundBrownian, h: float) -> None:
        self.noise, self.h = noise, h
        self.shape, self.dtype, self.device = noise.shape, noise.dtype, noise.device

    def __call__(
        self, va: Tensor, vb: Tensor, return_U: bool = False, return_A: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        w, u = self.noise.step(round(float(va)), self.h, return_U)
        w = w / math.sqrt(self.h)
        area = (w.new_zeros(1, 1, 1).expand(*w.shape, w.shape[1]),) if return_A else ()
        found = (w, *([] if u is None else [u / self.h**1.5]), *area)
        return found if len(found) > 1 else w

    def __repr__(self) -> str:
        return f"_Counted({self.noise!r})"
