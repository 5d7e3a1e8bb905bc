r"""Methods: the steps of every solver, a file for each origin.

Importing this folder fills the registry, in the order in which tables list the rows.
"""

# ruff: noqa: I001  (the order of the rows)
from diffsde.solvers.methods import (
    tutorial,
    exponential,
    single_step,
    adams,
    additive,
    edm,
    restart,
    tsitouras,
    torchdiffeq,
    torchsde,
)

__all__ = [
    "adams",
    "additive",
    "edm",
    "exponential",
    "restart",
    "single_step",
    "torchdiffeq",
    "torchsde",
    "tsitouras",
    "tutorial",
]
