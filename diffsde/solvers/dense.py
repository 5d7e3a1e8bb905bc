r"""Dense output: the state between the saved ones.

To find the state at a time, the solver itself goes on from the nearest saved state before it,
over the nodes that lie between. The answer therefore has the order of the solver, and for an SDE
it lies on the same Brownian path. A multistep method cannot begin in the middle; there the flow
is interpolated by the cubic through two neighbouring states and their drifts (Hermite), whose
error is O(h⁴).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diffsde.equations.graphs import ordinary_mode
from diffsde.errors import InputError
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import SolveState, Step, Stepping
from diffsde.system.host import on_host

__all__ = ["DenseOutput", "dense_output", "within_step"]

DenseOutput = Callable[[Tensor, float], Tensor]


def dense_output(
    solver: Solver,
    walk: Stepping,
    state: SolveState,
    us: Tensor,
) -> DenseOutput:
    """A function of the saved states, (T, B, …), and of t, that gives the state at t, (B, …).

    Args:
        solver: the solver that made the path.
        walk: its method in motion.
        state: what the method was given.
        us: (T,) times of the saved states, in the solver's time.
    """
    state = replace(state, noise=None)  # it is large, and a path is bound again when needed

    def at(ys: Tensor, t: float) -> Tensor:
        states = ys.reshape(len(ys), *state.x.shape)
        u = state.equation.clock.place(on_host(t, torch.float64))
        k = int((us <= u).sum()) - 1
        if us[k] == u:
            return ys[k]
        with ordinary_mode(), torch.no_grad():
            if solver.multistep:
                x = _hermite(solver, state, us, states, k, u)
            else:
                x = _solved_on(walk, state, us[k], states[k], u)
            return x.reshape(ys[k].shape)

    return at


def within_step(
    solver: Solver,
    walk: Stepping,
    state: SolveState,
    before: Step,
    after: Step,
) -> Callable[[Tensor], Tensor]:
    """A function of u that gives the state, (B, D), within a step that was just taken.

    It takes a shorter step of the same solver. After a multistep method it follows the cubic
    through the two ends, and a straight line where the path of the noise was not kept.
    """
    pathless = state.equation.stochastic and state.path is None
    if pathless or (solver.multistep and _noisy(solver, state)):
        length = after.u - before.u
        return lambda u: before.x + (u - before.u) / length * (after.x - before.x)
    us, ends = torch.stack([before.u, after.u]).double(), torch.stack([before.x, after.x])
    if solver.multistep:
        return lambda u: _hermite(solver, state, us, ends, 0, u)
    if solver.kind == "ode" and solver.adaptive:  # begin with all of the way
        state = replace(state, options={**state.options, "first_step": float(us[1] - us[0])})
    return lambda u: _solved_on(walk, state, us[0], before.x, u)


def _solved_on(walk: Stepping, state: SolveState, start: Tensor, x: Tensor, u: Tensor) -> Tensor:
    if state.equation.stochastic and state.path is None:
        raise InputError(
            "an SDE's state between its steps depends on its Brownian path, and this solve kept "
            "none: give noise=BrownianPath(seed)"
        )
    between = state.nodes[(state.nodes > start) & (state.nodes < u)]
    nodes = torch.cat([start[None], between, u[None]])
    part = replace(state, x=x, nodes=nodes)
    if part.noise is None and part.path is not None:
        size = (len(x), state.equation.channels(x))
        part.noise = part.path.bind(
            size, state.samples, x.dtype, x.device, commutes=state.equation.commutes
        )
    for step in walk(part):
        x = step.x
    return x


def _hermite(
    solver: Solver, state: SolveState, us: Tensor, states: Tensor, k: int, u: Tensor
) -> Tensor:
    if _noisy(solver, state):
        raise InputError(f"{solver.name} with noise has no dense output: save the times you need")
    (u0, u1), (x0, x1) = us[k : k + 2], states[k : k + 2]
    f0, f1 = state.equation.f(u0, x0), state.equation.f(u1, x1)
    h = u1 - u0
    r = (u - u0) / h
    straight = (1 - r) * x0 + r * x1
    bend = (1 - 2 * r) * (x1 - x0) + (r - 1) * h * f0 + r * h * f1
    return straight + r * (r - 1) * bend


def _noisy(solver: Solver, state: SolveState) -> bool:
    return state.equation.stochastic or solver.noisy(state.options)
