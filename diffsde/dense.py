r"""Dense output: the state between the saved ones.

The equation is solved on, with the solver itself, from the nearest saved state before the
time asked for, on the nodes of the solve that lie between. So the answer has the solver's
order whatever the solver is, and for an SDE it lies on the same Brownian path. A multistep
method cannot begin in the middle: there the flow is interpolated by the cubic through two
neighbouring states and their drifts (Hermite), whose error is O(h⁴).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers import Move, Run, Solver

__all__ = ["dense_output"]


def dense_output(
    solver: Solver,
    walk: Callable[[Run], Iterator[Move]],
    run: Run,
    us: Tensor,
    states: list[Tensor],
) -> Callable[[float], Tensor]:
    """A function of t that gives the state, (B, D), anywhere in the interval of a solve.

    Args:
        solver: that made the path.
        walk: gives the states after each step of a run.
        run: as it was solved.
        us: (T,) times of the saved states, in the solver's time.
        states: the saved states.
    """

    def at(t: float) -> Tensor:
        u = run.equation.clock.place(torch.tensor(t, dtype=torch.float64))
        k = int((us <= u).sum()) - 1
        if us[k] == u:
            return states[k]
        with torch.no_grad():
            if solver.multistep:
                return _hermite(solver, run, us, states, k, u)
            return _solved_on(walk, run, us[k], states[k], u)

    return at


def _solved_on(
    walk: Callable[[Run], Iterator[Move]], run: Run, start: Tensor, x: Tensor, u: Tensor
) -> Tensor:
    if run.noise is not None and run.path is None:
        raise InputError(
            "an SDE's state between its steps depends on its Brownian path, and this solve kept "
            "none: give noise=BrownianPath(seed)"
        )
    between = run.nodes[(run.nodes > start) & (run.nodes < u)]
    nodes = torch.cat([start[None], between, u[None]])
    part = replace(run, x=x, nodes=nodes, steps=torch.zeros(len(x), dtype=torch.long))
    for move in walk(part):
        x = move.x
    return x


def _hermite(
    solver: Solver, run: Run, us: Tensor, states: list[Tensor], k: int, u: Tensor
) -> Tensor:
    if run.equation.stochastic or run.options.get("S_churn"):
        raise InputError(f"{solver.name} with noise has no dense output: save the times you need")
    (u0, u1), (x0, x1) = us[k : k + 2], states[k : k + 2]
    f0, f1 = run.equation.f(u0, x0), run.equation.f(u1, x1)
    h = u1 - u0
    r = (u - u0) / h
    straight = (1 - r) * x0 + r * x1
    bend = (1 - 2 * r) * (x1 - x0) + (r - 1) * h * f0 + r * h * f1
    return straight + r * (r - 1) * bend
