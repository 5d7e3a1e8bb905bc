r"""Dynamics: what a solver needs to know of a problem, whatever the problem is.

A problem is an equation in t,

    dx  =  f(x, t) dt  +  g(t) dw,

and a `Dynamics` holds its parts: the drift f, the diffusion g, the interval and the direction of
time, and what else is known. Solvers read a `Dynamics` and ask for nothing else, so they know
neither scores nor networks. Each kind of problem makes its own:

- a `ReverseSDE`, a `ProbabilityFlow` and a forward `SDE` by their method `to_dynamics`;
- an object that follows torchsde's contract, and a function (t, x), by `dynamics_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from diffsde.equations.contract import ContractSDE, follows_contract
from diffsde.equations.counted import AtTime, Counted, at_times
from diffsde.equations.ranges import UNIT, Range
from diffsde.errors import InputError

__all__ = ["ENDLESS", "Dynamics", "Field", "Process", "Semilinear", "dynamics_of"]


ENDLESS = 1e15  # a noise level that leaves no digit of the data in float64 is as good as infinite


class Process(Protocol):
    """A forward process, as far as clocks and exponential methods need it: see `SDE`."""

    T: float

    def diffusion(self, t: Tensor | float) -> Tensor: ...

    def marginal_scale(self, t: Tensor | float) -> Tensor: ...

    def marginal_std(self, t: Tensor | float) -> Tensor: ...

    def noise_level(self, t: Tensor | float) -> Tensor: ...

    def noise_level_slope(self, t: Tensor | float) -> Tensor: ...

    def time_of_noise_level(self, level: Tensor | float) -> Tensor: ...


@dataclass(frozen=True)
class Field:
    """A function of (x, t), and the same function at times that are known beforehand.

    Attributes:
        call: called (x, t); t is a scalar or of shape (B,).
        at: takes times (n,) and returns n functions of x.
    """

    call: Callable[[Tensor, Tensor], Tensor]
    at: Callable[[Tensor], Sequence[AtTime]]

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.call(x, t)


@dataclass(frozen=True)
class Semilinear:
    """The structure that exponential methods use: x / a obeys an equation linear but for D.

    Attributes:
        process: a(t), s(t) and the noise level.
        score: ∇ log p_t(x), of x's shape; D = (x + s² score) / a is the denoiser.
        eta: η of the family of reverse equations (see `reverse`), 0 for the flow: a number, or a
            function of t.
    """

    process: Process
    score: Field
    eta: float | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Dynamics:
    """The parts of a problem.

    Attributes:
        name: of the problem's class, for error texts.
        kind: "sde" or "ode": which of the registry's solvers it takes.
        drift: f(x, t), counted.
        counted: the function whose evaluations are counted: the score, or else the drift.
        interval: the start and the end of t; None if the problem does not say.
        origin: the time from which a solver's time is counted, whatever part is solved.
        falls: whether t runs from a large value to a small one.
        diffusion: g(t) of noise that depends on time alone; None for an ODE or for `own`.
        own: a user's SDE of torchsde's contract, whose noise may depend on the state; else None.
        shape: of one sample; None if any will do.
        data_range: the values of black and of white, where samples are images.
        flat: whether the drift is given states (B, D); if not, they keep their shape.
        sample_times: whether the drift takes t of shape (B,), a time for each sample.
        scale: how large a number of a state may well be: the prior's std or mean, or the data,
            whichever is largest; infinite if unknown.
        process: the forward process behind the problem; None for other equations.
        semilinear: its structure for exponential methods; None for other equations.
        denoise: E[x(0) | x(t) = x], called (x, t); None for other equations.
        module: holds the parameters to which gradients flow.
    """

    name: str
    kind: str
    drift: Field
    counted: Counted
    interval: tuple[float, float] | None = None
    origin: float = 0.0
    falls: bool = False
    diffusion: Callable[[Tensor], Tensor] | None = None
    own: ContractSDE | None = None
    shape: tuple[int, ...] | None = None
    data_range: Range = UNIT
    flat: bool = True
    sample_times: bool = False
    scale: float = math.inf
    process: Process | None = None
    semilinear: Semilinear | None = None
    denoise: Callable[[Tensor, Tensor], Tensor] | None = None
    module: nn.Module | None = None


def dynamics_of(problem: Any) -> Dynamics:
    """The dynamics of a problem, with a count of evaluations that begins at zero.

    Args:
        problem: a `ReverseSDE`, a `ProbabilityFlow`, a forward `SDE` or another object with a
            method `to_dynamics`; an object of torchsde's contract (`f`, `g`, `noise_type`,
            `sde_type`); or a function (t, x), the right-hand side of an ODE.

    Raises:
        InputError: it is none of these.
    """
    if hasattr(problem, "to_dynamics"):
        made: Dynamics = problem.to_dynamics()
        return made
    if follows_contract(problem):
        own = ContractSDE(problem)
        return _of_function(problem, own.f, "drift", own)
    if callable(problem):
        return _of_function(problem, lambda y, t: problem(t, y), "right-hand side", None)
    raise InputError(
        f"problem = {type(problem).__name__}: expected a ReverseSDE, a ProbabilityFlow, an "
        "SDE, a torchsde object with f, g, noise_type and sde_type, or a function (t, x)"
    )


def _of_function(
    problem: Any, drift: Callable[[Tensor, Tensor], Tensor], name: str, own: ContractSDE | None
) -> Dynamics:
    """Someone else's equation; it may say by attributes where it runs and what it is made from."""
    counted = Counted(drift, name)
    process = getattr(problem, "sde", None)
    return Dynamics(
        name=type(problem).__name__,
        kind="ode" if own is None else "sde",
        drift=Field(counted, partial(at_times, counted)),
        counted=counted,
        interval=getattr(problem, "interval", None),
        own=own,
        shape=getattr(problem, "shape", None),
        flat=own is not None,
        sample_times=own is not None or bool(getattr(problem, "sample_times", False)),
        process=process if hasattr(process, "noise_level") else None,
        module=problem if isinstance(problem, nn.Module) else None,
    )
