r"""The registry of solvers, and what a solver is.

A solver is a row: a name, the kind of equation it takes, where it comes from, its order,
what a step costs, and `walk`, which takes a `Run` and gives the states after each accepted
step. Rows are declared where the method lives (`torchsde_methods`, `torchdiffeq_methods`,
`samplers`); everything else asks the row and compares no names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from torch import Tensor

from diffsde.errors import InputError
from diffsde.noise.brownian import BoundBrownian, BrownianPath
from diffsde.solvers.equation import Equation
from diffsde.solvers.tables import Row, StepTable

__all__ = [
    "REGISTRY",
    "FixedStep",
    "Move",
    "OneStep",
    "Run",
    "Solver",
    "register",
    "walk_fixed",
]


@dataclass(frozen=True)
class Move:
    """An accepted step: the state x, (B, D), at the solver's time u."""

    u: Tensor
    x: Tensor


@dataclass
class Run:
    """What a solver is given.

    Attributes:
        equation: to be solved.
        x: (B, D), the state at u = 0.
        nodes: (n + 1,) float64 times u from 0 to the end. A fixed-step solver steps from
            one to the next; an adaptive one lands on each.
        noise: the Brownian motion of an SDE.
        path: the same as a function of time, for solvers that subdivide steps.
        rtol, atol: tolerances of adaptive solvers.
        options: for the method, beside what `solve` itself takes.
        samples: index of each row of x, on which its noise depends.
        seed: of all noise.
        rejected: counted by adaptive solvers.
        steps: (B,) accepted steps, where each sample has its own; else None.
    """

    equation: Equation
    x: Tensor
    nodes: Tensor
    rtol: float
    atol: float
    options: Mapping[str, Any] = field(default_factory=dict)
    noise: BoundBrownian | None = None
    path: BrownianPath | None = None
    samples: Sequence[int] = ()
    seed: int = 0
    rejected: int = 0
    steps: Tensor | None = None

    def table(self, rule: Callable[[Tensor, Tensor], Row]) -> StepTable:
        """Coefficients of a step, a function of its two ends, looked up step by step."""
        return StepTable(rule, self.nodes, self.x)

    def increment(self, u0: Tensor, u1: Tensor) -> Tensor:
        """The Brownian increment W over [u0, u1], (B, D)."""
        return self._noise().increment(u0, u1, area=False)[0]

    def increment_and_integral(self, u0: Tensor, u1: Tensor) -> tuple[Tensor, Tensor]:
        """W over [u0, u1], and the integral of W from u0 to u1, both (B, D)."""
        w, integral = self._noise().increment(u0, u1, area=True)
        return w, w if integral is None else integral

    def _noise(self) -> BoundBrownian:
        if self.noise is None:
            raise InputError("this equation has no noise")
        return self.noise


class OneStep(Protocol):
    """A method as a step: from x at u0 to the state at u1."""

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor: ...


FixedStep = Callable[[Run], OneStep]


@dataclass(frozen=True)
class Solver:
    """One row of the registry.

    Attributes:
        name: what `solve(method=…)` takes.
        kind: "sde" or "ode".
        family: the library it comes from: torchsde, torchdiffeq or diffsde.
        order: of convergence: strong, for additive noise, or of the ODE method.
        adaptive: whether it chooses its own steps unless told not to.
        evaluations: of the score for each step; None if that varies.
        source: paper or text that defines it.
        advice: what a user should know before choosing it.
        one_step: makes the step function, for methods that have one.
        walk: gives the states after each accepted step, for methods that step by themselves.
        multistep: whether a step uses the ones before it, or counts them.
        options: the keywords that `options=` may hold.
    """

    name: str
    kind: str
    family: str
    order: float
    adaptive: bool
    evaluations: float | None
    source: str
    advice: str = ""
    one_step: FixedStep | None = field(default=None, repr=False)
    walk: Callable[[Run], Iterator[Move]] | None = field(default=None, repr=False)
    multistep: bool = False
    options: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def can_adapt(self) -> bool:
        """Whether `solve(adaptive=True)` may be asked for."""
        one_step = self.one_step is not None and not self.multistep
        return self.adaptive or (self.kind == "sde" and one_step)


REGISTRY: dict[tuple[str, str], Solver] = {}


def register(solver: Solver) -> Solver:
    """Add a row; names are unique within a kind."""
    key = (solver.kind, solver.name)
    if key in REGISTRY:
        raise InputError(f"a solver {solver.name!r} of kind {solver.kind!r} is there already")
    if solver.one_step is None and solver.walk is None:
        raise InputError(f"solver {solver.name!r}: give one_step, walk, or both")
    REGISTRY[key] = solver
    return solver


def walk_fixed(solver: Solver, run: Run) -> Iterator[Move]:
    """Step from node to node."""
    if solver.one_step is None:
        raise InputError(f"{solver.name} chooses its own steps: it has no fixed-step form")
    run.equation.on_grid(run.nodes)
    method = solver.one_step(run)
    x = run.x
    for u0, u1 in pairwise(run.nodes.unbind()):
        x = method.step(u0, u1, x)
        yield Move(u1, x)
