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
for `reversible_heun`, whose steps can be undone. The libraries take one step for the whole batch.

Sources: Chen et al., arXiv 1806.07366; Li, Wong, Chen, Duvenaud, arXiv 2001.01328; Kidger
et al., arXiv 2105.13493.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint
from torchsde import BaseBrownian, sdeint_adjoint

from diffsde.equations.contract import ContractSDE
from diffsde.errors import InputError
from diffsde.noise.brownian import BoundBrownian
from diffsde.solvers.equation import Equation
from diffsde.solvers.methods.torchdiffeq import OWN_DEFAULTS
from diffsde.solvers.methods.torchsde import class_for
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import SolveState, Step, Walk

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


@dataclass(frozen=True)
class _Counting:
    """Time counted in steps: v = 0, 1, …, n at the nodes, which are h apart."""

    nodes: Tensor
    h: float

    @classmethod
    def of(cls, nodes: Tensor) -> _Counting:
        h = float(nodes[-1] - nodes[0]) / (len(nodes) - 1)
        if float((nodes.diff() - h).abs().max()) > _UNEVEN * h:
            raise InputError(
                "grad='adjoint' takes even steps in the clock: give steps=, and save='all', 'last' "
                "or a number that divides them; for other times, a clock of your own"
            )
        return cls(nodes, h)

    def place(self, v: Tensor) -> Tensor:
        """The solver's time u at v."""
        return self.nodes[0] + v.detach().to("cpu", torch.float64) * self.h


def walk_adjoint(solver: Solver, state: SolveState) -> Walk:
    """The states at the nodes, all solved for before the first is given."""
    counting, equation = _Counting.of(state.nodes), state.equation
    places = torch.arange(len(state.nodes), dtype=state.x.dtype, device=state.x.device)
    solved = _sde if equation.stochastic else _ode
    states = solved(solver, state, counting, places, _parameters(equation))
    equation.dynamics.counted.limit = None  # evaluations of the way back are not the solve's
    for u, x in zip(state.nodes[1:].unbind(), states[1:].unbind(), strict=True):
        yield Step(u, x)


def _parameters(equation: Equation) -> tuple[Tensor, ...]:
    """The parameters of the problem and of its score, to which gradients flow."""
    module = equation.dynamics.module
    return () if module is None else tuple(p for p in module.parameters() if p.requires_grad)


def _ode(
    solver: Solver,
    state: SolveState,
    counting: _Counting,
    places: Tensor,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    def slope(v: Tensor, x: Tensor) -> Tensor:
        return counting.h * state.equation.f(counting.place(v), x)

    for name in ("beta", "norm"):
        if name in state.options:
            raise InputError(
                f"options[{name!r}] with grad='adjoint': torchdiffeq's own controller takes the "
                "steps, one for the whole batch. Leave it out, or use grad=True"
            )
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
        adjoint_options={**options, **back},
        adjoint_params=parameters,
    )


def _sde(
    solver: Solver,
    state: SolveState,
    counting: _Counting,
    places: Tensor,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    if state.noise is None:
        raise InputError("this equation has no noise")
    return sdeint_adjoint(
        _in_steps(solver.name, state.equation, counting),
        state.x,
        places,
        bm=_NoiseInSteps(state.noise, counting),
        method=solver.name,
        dt=1.0,
        options=dict(state.options),
        adjoint_params=parameters,
    )


def _in_steps(name: str, equation: Equation, counting: _Counting) -> nn.Module:
    if equation.own is None:
        return _AdditiveInSteps(name, equation, counting)
    cls = class_for(name, equation)
    return _OwnInSteps(equation, equation.own, cls.sde_type, counting)


class _AdditiveInSteps(nn.Module):
    """An equation whose noise depends on time alone, in time counted in steps.

    reversible_heun wants g itself, as a diagonal; the others make do with its products.
    """

    def __init__(self, name: str, equation: Equation, counting: _Counting) -> None:
        super().__init__()
        self.equation, self.counting = equation, counting
        self.sde_type = class_for(name, equation).sde_type
        if name == "reversible_heun":
            self.noise_type, self.g = "diagonal", self._g
        else:
            self.noise_type, self.g_prod = "additive", self._g_prod

    def f(self, v: Tensor, x: Tensor) -> Tensor:
        return self.counting.h * self.equation.f(self.counting.place(v), x)

    def _factor(self, v: Tensor) -> Tensor:
        return math.sqrt(self.counting.h) * self.equation.g(self.counting.place(v))

    def _g(self, v: Tensor, x: Tensor) -> Tensor:
        return self._factor(v).expand_as(x)

    def _g_prod(self, v: Tensor, _: Tensor, z: Tensor) -> Tensor:
        return self._factor(v) * z


class _OwnInSteps(nn.Module):
    """A user's SDE in time counted in steps."""

    def __init__(
        self, equation: Equation, own: ContractSDE, sde_type: str, counting: _Counting
    ) -> None:
        super().__init__()
        self.equation, self.counting = equation, counting
        self.noise_type, self.sde_type = own.noise_type, sde_type
        if own.has_diffusion:
            self.g = self._g
        else:
            self.g_prod = self._g_prod

    def f(self, v: Tensor, x: Tensor) -> Tensor:
        return self.counting.h * self.equation.f(self.counting.place(v), x)

    def _g(self, v: Tensor, x: Tensor) -> Tensor:
        return math.sqrt(self.counting.h) * self.equation.diffusion(self.counting.place(v), x)

    def _g_prod(self, v: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return math.sqrt(self.counting.h) * self.equation.g_prod(self.counting.place(v), x, z)


class _NoiseInSteps(BaseBrownian):
    """The noise of a solve, in time counted in steps: the intervals in any order."""

    levy_area_approximation = "foster"
    shape = torch.Size()
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, noise: BoundBrownian, counting: _Counting) -> None:
        self.noise, self.counting = noise, counting
        self.shape, self.dtype, self.device = noise.shape, noise.dtype, noise.device

    def __call__(
        self, va: Tensor, vb: Tensor, return_U: bool = False, return_A: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        h, k = self.counting.h, round(float(va))
        ends = self.counting.nodes[k], self.counting.nodes[k + 1]
        w, u = self.noise.over(*ends, return_U)
        found = [w / math.sqrt(h)]
        found += [] if u is None else [u / h**1.5]
        found += [self.noise.levy_area(*ends) / h] if return_A else []
        return tuple(found) if len(found) > 1 else found[0]

    def __repr__(self) -> str:
        return f"_NoiseInSteps({self.noise!r})"
