r"""The registry of solvers: a row for each method.

A row has a name, the kind of equation that the method solves, its origin, its order, the cost
of a step, and the method itself. Rows are registered where the methods live
(`diffsde.solvers.methods`); everything else asks the row and never compares names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from diffsde.errors import InputError
from diffsde.solvers.option_values import Check
from diffsde.solvers.state import FixedStep, SolveState, Step, Stepping, Walk

__all__ = ["REGISTRY", "Solver", "register", "register_own", "walk_fixed"]


def _never(options: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True)
class Solver:
    """One row of the registry.

    Attributes:
        name: what `solve(method=…)` takes.
        kind: "sde" or "ode".
        family: the library it comes from: torchsde, torchdiffeq or diffsde.
        order: of convergence: of the ODE method, or strong, path by path, for additive noise.
        weak_order: of an SDE's method, law by law, for noise that depends on time alone, as the
            tests measure it: on a linear equation, and by one step of a nonlinear one where steps
            stand alone. None for an ODE, and where the law has an error that no step removes.
        adaptive: whether it chooses its own steps unless told not to.
        evaluations: of the score for each step; None if that varies.
        source: paper or text that defines it.
        advice: what a user should know before choosing it.
        one_step: makes the step function, for methods that have one.
        walk: gives the states after each accepted step, for methods that step by themselves.
        multistep: whether a step uses the ones before it, or counts them.
        options: the keywords that `options=` may hold, each with what checks its value.
        noisy: whether, with these options, its steps have noise that is not the equation's.
        loses_law: why samples of a reverse problem have another law, and what to take instead;
            empty for methods to sample with.
        differentiable: whether a graph is kept through its steps.
        iterates: whether its fixed steps iterate until they meet rtol and atol.
    """

    name: str
    kind: str
    family: str
    order: float
    adaptive: bool
    evaluations: float | None
    source: str
    advice: str = ""
    weak_order: float | None = None
    one_step: FixedStep | None = field(default=None, repr=False)
    walk: Stepping | None = field(default=None, repr=False)
    multistep: bool = False
    options: Mapping[str, Check] = field(default_factory=dict, repr=False, hash=False)
    noisy: Callable[[Mapping[str, Any]], bool] = field(default=_never, repr=False)
    loses_law: str = field(default="", repr=False)
    differentiable: bool = field(default=True, repr=False)
    iterates: bool = field(default=False, repr=False)

    @property
    def can_adapt(self) -> bool:
        """Whether `solve(adaptive=True)` may be asked for."""
        one_step = self.one_step is not None and not self.multistep
        return self.adaptive or (self.kind == "sde" and one_step)


REGISTRY: dict[tuple[str, str], Solver] = {}


def register(solver: Solver) -> Solver:
    """Add a row. A name is unique within its kind."""
    key = (solver.kind, solver.name)
    if key in REGISTRY:
        raise InputError(f"a solver {solver.name!r} of kind {solver.kind!r} is there already")
    if solver.one_step is None and solver.walk is None:
        raise InputError(f"solver {solver.name!r}: give one_step, walk, or both")
    REGISTRY[key] = solver
    return solver


def register_own(
    name: str,
    kind: str,
    order: float,
    one_step: FixedStep,
    *,
    evaluations: float | None,
    source: str,
    advice: str,
    weak_order: float | None = None,
    multistep: bool = False,
    options: Mapping[str, Check] | None = None,
    noisy: Callable[[Mapping[str, Any]], bool] = _never,
) -> Solver:
    """Add a row of a method that is written here; it takes fixed steps, unless told otherwise."""
    return register(
        Solver(
            name=name,
            kind=kind,
            family="diffsde",
            order=order,
            adaptive=False,
            evaluations=evaluations,
            source=source,
            advice=advice,
            weak_order=weak_order,
            one_step=one_step,
            multistep=multistep,
            options=options or {},
            noisy=noisy,
        )
    )


def walk_fixed(solver: Solver, state: SolveState) -> Walk:
    """Step from node to node; each step begins where the last one ended."""
    if solver.one_step is None:
        raise InputError(f"{solver.name} chooses its own steps: it has no fixed-step form")
    state.equation.on_grid(state.nodes)
    method = solver.one_step(state)
    x = state.x
    for u0, u1 in pairwise(state.nodes.unbind()):
        x = method.step(u0, u1, x)
        altered = yield Step(u1, x)
        if altered is not None:
            x, method = altered, solver.one_step(state.after(u1, altered))
