r"""What a method asks of an equation before it begins."""

from __future__ import annotations

import torch

from diffsde.equations.dynamics import ENDLESS, Semilinear
from diffsde.errors import InputError
from diffsde.solvers.methods.fitting import fitting_methods
from diffsde.solvers.state import SolveState
from diffsde.system.host import on_host

__all__ = ["additive", "number_eta", "semilinear"]


def semilinear(
    state: SolveState, name: str, *, any_eta: bool = False, any_level: bool = False
) -> Semilinear:
    """The structure that a method of diffusion models uses.

    Args:
        state: of the solve.
        name: of the method.
        any_eta: whether it takes an η that is a function of time.
        any_level: whether it begins where the noise level is infinite, too.

    Raises:
        InputError: the equation has no score, or the method does not take its η or its first
            noise level.
    """
    found = state.equation.dynamics.semilinear
    if found is None:
        raise InputError(
            f"{name} works with a score: expected a ReverseSDE or a ProbabilityFlow, found "
            f"{state.equation.dynamics.name}"
        )
    if not any_eta:
        number_eta(found, name)
    clock = state.equation.clock
    last = on_host(max(clock.start, clock.end), torch.float64)
    if not any_level and not float(found.process.noise_level(last)) < ENDLESS:
        raise InputError(
            f"{name} counts in the noise level σ, which is infinite at t = {float(last):g}: give "
            "the process an earlier end, such as T=0.999, or take a method that counts in t, "
            "'heun2' or 'rk4' for the flow and 'srk' or 'euler' for the SDE"
        )
    return found


def number_eta(linear: Semilinear, name: str) -> float:
    """η, for a method that takes a number.

    Raises:
        InputError: it is a function of time.
    """
    if callable(linear.eta):
        raise InputError(
            f"{name} takes a number η, and here η is a function of time: give eta= a number, or "
            "take another method of the reverse SDE, such as 'sde_dpmpp_2m', 'srk' or 'euler'"
        )
    return linear.eta


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
