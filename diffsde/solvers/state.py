r"""The state of a solve, and what a step is.

A method is given a `SolveState`, which holds the equation, the nodes and the noise, and yields a
`Step` for every step that it accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from diffsde.errors import InputError
from diffsde.noise.ahead import DrawnAhead
from diffsde.noise.brownian import BoundBrownian
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import address_of
from diffsde.solvers.checks import Checks
from diffsde.solvers.coefficients import Row, StepTable
from diffsde.solvers.equation import Equation

__all__ = ["FixedStep", "OneStep", "SolveState", "Step", "StepNumbers", "Stepping", "Walk"]


@dataclass(frozen=True)
class Step:
    """An accepted step: it ends in the state x, (B, D), at the solver's time u."""

    u: Tensor
    x: Tensor


@dataclass(frozen=True)
class StepNumbers:
    """Normal numbers for the steps of a solve, by the time t at which a step begins."""

    drawn: DrawnAhead
    times: Mapping[float, float]

    def __call__(self, u: Tensor, which: int = 0) -> Tensor:
        """The numbers of that set for the step that begins at the node u, (B, …)."""
        return self.drawn.at(self.address(float(u), which))

    def address(self, u: float, which: int) -> int:
        """Where the numbers of that set are, at the node u."""
        return address_of(self.times[u]) + which * 2**64


@dataclass
class SolveState:
    """What a method is given.

    Attributes:
        equation: the equation to solve.
        x: (B, D), the state at the first node.
        nodes: (n + 1,) float64 times u, rising. A fixed-step method steps from one to the
            next; an adaptive one lands on each.
        noise: the Brownian motion of an SDE.
        path: the same as a function of time, for methods that subdivide steps.
        rtol, atol: tolerances of adaptive methods.
        options: further settings of the method.
        samples: index of each row of x, on which its noise depends.
        seed: seed of all random numbers.
        times: the time t of each node, by which its random numbers are addressed.
        rejected: how many steps an adaptive method has rejected.
        steps: (B,) accepted steps, where each sample has its own; otherwise None.
        watched: whether someone looks at the states between the nodes.
        planned: how many steps the whole solve has, of which `nodes` may be the rest.
        checks: of the numbers that come in.
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
    times: Mapping[float, float] = field(default_factory=dict)
    rejected: int = 0
    steps: Tensor | None = None
    watched: bool = False
    planned: int | None = None
    checks: Checks = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.planned is None:
            self.planned = len(self.nodes) - 1

    def after(self, u: Tensor, x: Tensor) -> SolveState:
        """What remains of the solve from the node u on, with another state there."""
        return replace(self, x=x, nodes=self.nodes[self.nodes >= u])

    def table(self, rule: Callable[[Tensor, Tensor], Row]) -> StepTable:
        """Coefficients of a step, a function of its two ends, tabulated over the grid."""
        return StepTable(rule, self.nodes, self.x)

    def increment(self, u0: Tensor, u1: Tensor) -> Tensor:
        """The Brownian increment W over [u0, u1], (B, D)."""
        return self.bound_noise.increment(u0, u1, area=False)[0]

    def increment_and_integral(self, u0: Tensor, u1: Tensor) -> tuple[Tensor, Tensor]:
        """W over [u0, u1], and the integral of W from u0 to u1, both (B, D)."""
        w, integral = self.bound_noise.increment(u0, u1, area=True)
        return w, w if integral is None else integral

    def numbers(self, purpose: str, asked: Iterable[tuple[float, int]]) -> StepNumbers:
        """Normal numbers of the states' shape, for steps that begin at the nodes of this solve.

        Args:
            purpose: see `diffsde.noise.seeds`.
            asked: for which nodes, in their order, and which set of numbers there: 0, 1, …
        """
        x, table = self.x, NormalTable(self.seed, purpose)
        drawn = DrawnAhead(table, self.samples, x.shape[1:], x.dtype, x.device)
        found = StepNumbers(drawn, self.times)
        drawn.expect(found.address(u, which) for u, which in asked)
        return found

    @property
    def channels(self) -> int:
        """m, the number of Brownian motions that drive a sample."""
        return self.bound_noise.shape[1]

    @property
    def bound_noise(self) -> BoundBrownian:
        """The Brownian motion, of an equation that has one."""
        if self.noise is None:
            raise InputError("this equation has no noise")
        return self.noise


class OneStep(Protocol):
    """A method as a step: from x at u0 to the state at u1."""

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor: ...


FixedStep = Callable[[SolveState], OneStep]
Walk = Generator[Step, Tensor | None, None]
"""Steps as they are accepted. A state that is sent back takes the place of the one just given:
the method begins anew there, and knows nothing of the steps before."""

Stepping = Callable[[SolveState], Walk]
"""A method in motion."""
