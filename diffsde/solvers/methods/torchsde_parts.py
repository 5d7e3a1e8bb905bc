r"""The parts of torchsde that are used here and that it keeps private.

They may move in any release, so they are imported in this file alone.
"""

from __future__ import annotations

from importlib.metadata import version

try:
    from torchsde._core.base_sde import ForwardSDE
    from torchsde._core.methods import select as method_class
    from torchsde.settings import METHODS
except ImportError as error:
    raise ImportError(
        f"diffsde uses parts of torchsde that the installed version {version('torchsde')} lacks "
        f"({error}): install torchsde 0.2.6, or a newer diffsde"
    ) from error

__all__ = ["METHODS", "ForwardSDE", "method_class"]
