r"""Gradients by the adjoint method: the memory of one step, whatever the number of steps.

With λ = ∂L/∂x, back-propagation through dx = f du + g dw is itself an equation, solved from
the end to the start together with the state:

    dλ  =  −(∂f/∂x)ᵀ λ du,        dL/dθ  =  ∫ (∂f/∂θ)ᵀ λ du,

(the noise is additive, so it does not enter). torchdiffeq and torchsde solve it with their
own methods; here they are given the equation in its clock, with time counted in steps (see
`in_steps`), so that every node is a whole number, which no rounding misses.

The gradient is that of the equation, not of its discretisation: it agrees with
back-propagation through the solve (`grad=True`) up to the error of the steps, and exactly
for `reversible_heun`, whose steps can be undone. The libraries take one step for the whole batch.

Sources: Chen et al., arXiv 1806.07366; Li, Wong, Chen, Duvenaud, arXiv 2001.01328; Kidger
et al., arXiv 2105.13493.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint
from torchsde import sdeint_adjoint

from diffsde.errors import InputError
from diffsde.solvers.equation import Equation
from diffsde.solvers.in_steps import Counting, InSteps, NoiseInSteps
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


def _even(nodes: Tensor) -> Counting:
    """Time counted in even steps between nodes."""
    h = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    if float((nodes.diff() - h).abs().max()) > _UNEVEN * float(h):
        raise InputError(
            "grad='adjoint' takes even steps in the clock: give steps=, and save='all', 'last' "
            "or a number that divides them; for other times, a clock of your own"
        )
    return Counting(nodes, h)


def walk_adjoint(solver: Solver, state: SolveState) -> Walk:
    """The states at the nodes, all solved for before the first is given."""
    counting, equation = _even(state.nodes), state.equation
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
    counting: Counting,
    places: Tensor,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    def slope(v: Tensor, x: Tensor) -> Tensor:
        return counting.length(x) * state.equation.f(counting.place(v), x)

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
    counting: Counting,
    places: Tensor,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    if state.noise is None:
        raise InputError("this equation has no noise")
    return sdeint_adjoint(
        _in_steps(solver.name, state.equation, counting),
        state.x,
        places,
        bm=NoiseInSteps(state.noise, counting),
        method=solver.name,
        dt=1.0,
        options=dict(state.options),
        adjoint_params=parameters,
    )


def _in_steps(name: str, equation: Equation, counting: Counting) -> nn.Module:
    """The equation as torchsde's adjoint takes it, in time counted in steps."""
    own, sde_type = equation.own, class_for(name, equation).sde_type
    inside = InSteps(equation, counting)
    if own is not None:
        part = {"g": inside.diffusion} if own.has_diffusion else {"g_prod": inside.g_prod}
        return _Parts(own.noise_type, sde_type, inside.f, part)
    # reversible_heun wants g itself, as a diagonal; the others make do with its products.
    if name == "reversible_heun":
        diagonal = {"g": lambda v, x: inside.g(v, x).expand_as(x)}
        return _Parts("diagonal", sde_type, inside.f, diagonal)
    return _Parts("additive", sde_type, inside.f, {"g_prod": inside.g_prod})


class _Parts(nn.Module):
    """An object of torchsde's contract, from its parts."""

    def __init__(
        self,
        noise_type: str,
        sde_type: str,
        f: Callable[[Tensor, Tensor], Tensor],
        noise: Mapping[str, Callable[..., Tensor]],
    ) -> None:
        super().__init__()
        self.noise_type, self.sde_type, self.f = noise_type, sde_type, f
        for name, part in noise.items():
            setattr(self, name, part)
