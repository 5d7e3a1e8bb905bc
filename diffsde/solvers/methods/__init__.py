r"""Methods: the steps of every solver, a file for each origin.

Importing this folder fills the registry.
"""

from diffsde.solvers.methods import native, torchdiffeq, torchsde

__all__ = ["native", "torchdiffeq", "torchsde"]
