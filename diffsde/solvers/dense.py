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
from diffsde.solvers.registry import Move, Run, Solver, walk_fixed

__all__ = ["DenseOutput", "dense_output", "within_step"]

DenseOutput = Callable[[Tensor, float], Tensor]


def dense_output(
    solver: Solver,
    walk: Callable[[Run], Iterator[Move]],
    run: Run,
    us: Tensor,
) -> DenseOutput:
    """A function of the saved states, (T, B, …), and of t, that gives the state at t, (B, …).

    Args:
        solver: that made the path.
        walk: gives the states after each step of a run.
        run: as it was solved.
        us: (T,) times of the saved states, in the solver's time.
    """
    run = replace(run, noise=None)  # it is large; a path is bound anew when it is needed

    def at(ys: Tensor, t: float) -> Tensor:
        states = ys.reshape(len(ys), *run.x.shape)
        u = run.equation.clock.place(torch.tensor(t, dtype=torch.float64))
        k = int((us <= u).sum()) - 1
        if us[k] == u:
            return ys[k]
        with torch.no_grad():
            if solver.multistep:
                x = _hermite(solver, run, us, states, k, u)
            else:
                x = _solved_on(walk, run, us[k], states[k], u)
            run.equation.forget()
            return x.reshape(ys[k].shape)

    return at


def within_step(
    solver: Solver,
    walk: Callable[[Run], Iterator[Move]],
    run: Run,
    before: Move,
    after: Move,
) -> Callable[[Tensor], Tensor]:
    """A function of u that gives the state, (B, D), within a step that was just taken.

    It is a shorter step of the same solver; after a multistep method the cubic of the two
    ends; and a straight line where there is noise whose path was not kept.
    """
    pathless = run.equation.stochastic and run.path is None
    if pathless or (solver.multistep and _noisy(run)):
        length = after.u - before.u
        return lambda u: before.x + (u - before.u) / length * (after.x - before.x)
    us, ends = torch.stack([before.u, after.u]).double(), torch.stack([before.x, after.x])
    if solver.multistep:
        return lambda u: _hermite(solver, run, us, ends, 0, u)
    own_steps = solver.one_step is None or solver.kind == "sde"
    step = walk if own_steps else (lambda part: walk_fixed(solver, part))
    return lambda u: _solved_on(step, run, us[0], before.x, u)


def _solved_on(
    walk: Callable[[Run], Iterator[Move]], run: Run, start: Tensor, x: Tensor, u: Tensor
) -> Tensor:
    if run.equation.stochastic and run.path is None:
        raise InputError(
            "an SDE's state between its steps depends on its Brownian path, and this solve kept "
            "none: give noise=BrownianPath(seed)"
        )
    between = run.nodes[(run.nodes > start) & (run.nodes < u)]
    nodes = torch.cat([start[None], between, u[None]])
    part = replace(run, x=x, nodes=nodes)
    if part.noise is None and part.path is not None:
        size, samples = (len(x), x[0].numel()), run.samples
        part.noise = part.path.bind(size, run.equation.duration, samples, x.dtype, x.device)
    for move in walk(part):
        x = move.x
    return x


def _hermite(solver: Solver, run: Run, us: Tensor, states: Tensor, k: int, u: Tensor) -> Tensor:
    if _noisy(run):
        raise InputError(f"{solver.name} with noise has no dense output: save the times you need")
    (u0, u1), (x0, x1) = us[k : k + 2], states[k : k + 2]
    f0, f1 = run.equation.f(u0, x0), run.equation.f(u1, x1)
    h = u1 - u0
    r = (u - u0) / h
    straight = (1 - r) * x0 + r * x1
    bend = (1 - 2 * r) * (x1 - x0) + (r - 1) * h * f0 + r * h * f1
    return straight + r * (r - 1) * bend


def _noisy(run: Run) -> bool:
    return run.equation.stochastic or bool(run.options.get("S_churn"))
