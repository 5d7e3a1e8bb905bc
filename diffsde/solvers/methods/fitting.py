r"""Which of torchsde's methods fit a user's SDE: by its calculus, its noise, and what it offers."""

from __future__ import annotations

from diffsde.equations.contract import ContractSDE
from diffsde.solvers.methods.torchsde_parts import METHODS, method_class

__all__ = ["fitting_methods", "method_names", "reason_against"]

# The noise for which a method needs g, or its derivatives, and not only products with it.
_ASK_FOR_DIFFUSION = {
    "milstein": {"diagonal", "scalar"},
    "srk": {"diagonal", "scalar"},
    "log_ode": {"general"},
    "reversible_heun": {"diagonal", "scalar", "additive", "general"},
}


def method_names() -> list[str]:
    """The methods of the installed torchsde."""
    # The adjoint methods run backwards along a solve of torchsde's own; they solve nothing.
    return [name for name in METHODS.all() if not name.startswith("adjoint_")]


def fitting_methods(own: ContractSDE) -> list[str]:
    """The methods of torchsde that solve a user's SDE."""
    return [name for name in method_names() if reason_against(name, own) is None]


def reason_against(name: str, own: ContractSDE) -> str | None:
    """Why a method does not fit a user's SDE; None if it does."""
    cls = method_class(name, own.sde_type)
    # Where the noise does not depend on the state, Itô and Stratonovich agree.
    if own.noise_type != "additive" and cls.sde_type != own.sde_type:
        return (
            f"solves {cls.sde_type} SDEs, but {own.name} is {own.sde_type} and its noise may "
            "depend on the state, so the two differ"
        )
    if own.noise_type not in cls.noise_types:
        return f"does not take {own.noise_type} noise, which {own.name} has"
    if own.noise_type in _ASK_FOR_DIFFUSION.get(name, ()) and not own.has_diffusion:
        return f"asks for g itself, and {own.name} has only its products"
    return None
