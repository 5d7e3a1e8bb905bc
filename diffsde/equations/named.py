r"""Forward SDEs by the names that checkpoints and recipes use.

An SDE in this registry must be rebuildable from its `config()`, so `ScheduleSDE`, which is
made of functions, is not in it.
"""

from __future__ import annotations

from diffsde.equations.forward import SDE
from diffsde.equations.straight import StraightSDE
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE, SubVPSDE

__all__ = ["SDES"]

SDES: dict[str, type[SDE]] = {
    "VESDE": VESDE,
    "VPSDE": VPSDE,
    "SubVPSDE": SubVPSDE,
    "EDMSDE": EDMSDE,
    "StraightSDE": StraightSDE,
}
