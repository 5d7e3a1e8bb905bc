r"""The parts of torchdiffeq that are used here and that it keeps private.

They may move in any release, so they are imported in this file alone.
"""

from __future__ import annotations

from importlib.metadata import version

try:
    from torchdiffeq._impl.fixed_adams import AdamsBashforthMoulton
    from torchdiffeq._impl.misc import _rms_norm as rms_norm
    from torchdiffeq._impl.odeint import SOLVERS
    from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver
    from torchdiffeq._impl.scipy_wrapper import ScipyWrapperODESolver
    from torchdiffeq._impl.solvers import FixedGridODESolver
except ImportError as error:
    raise ImportError(
        f"diffsde uses parts of torchdiffeq that the installed version {version('torchdiffeq')} "
        f"lacks ({error}): install torchdiffeq 0.2.5, or a newer diffsde"
    ) from error

__all__ = [
    "SOLVERS",
    "AdamsBashforthMoulton",
    "FixedGridODESolver",
    "RKAdaptiveStepsizeODESolver",
    "ScipyWrapperODESolver",
    "rms_norm",
]
