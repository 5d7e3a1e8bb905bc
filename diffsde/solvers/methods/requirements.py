r"""What a method asks of an equation before it begins."""

from __future__ import annotations

from diffsde.equations.dynamics import Semilinear
from diffsde.errors import InputError
from diffsde.solvers.methods.fitting import fitting_methods
from diffsde.solvers.state import SolveState

__all__ = ["additive", "semilinear"]


def semilinear(state: SolveState, name: str) -> Semilinear:
    """The structure that a method of diffusion models uses.

    Raises:
        InputError: the equation has no score.
    """
    found = state.equation.dynamics.semilinear
    if found is None:
        raise InputError(
            f"{name} works with a score: expected a ReverseSDE or a ProbabilityFlow, found "
            f"{state.equation.dynamics.name}"
        )
    return found


def additive(state: SolveState, name: str) -> SolveState:
    """The same state, if its noise does not depend on x.

    Raises:
        InputError: the noise may depend on x.
    """
    own = state.equation.own
    if own is not None and own.noise_type != "additive":
        raise InputError(
            f"{name} is for noise that does not depend on the state, and {own.name} has "
            f"{own.noise_type} noise. Methods that fit: {', '.join(fitting_methods(own))}"
        )
    return state
