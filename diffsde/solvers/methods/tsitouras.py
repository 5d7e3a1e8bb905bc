r"""Tsitouras's pair of orders 5 and 4, which torchdiffeq has not.

The end of a step is its last stage, so a step costs six evaluations. The pair's own interpolant
of order 4 is the quartic through both ends, their slopes and the state at half the step (see
`diffsde.solvers.interpolation`), where it has the weights `_MIDDLE`.

Source: Tsitouras, Computers & Mathematics with Applications 62 (2011), 770–775, tables 1 and 2.
"""

from __future__ import annotations

from diffsde.solvers.pairs import PAIR_OPTIONS, Pair, pair_ways
from diffsde.solvers.registry import Solver, register

__all__ = ["TSITOURAS"]

_LAST = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
_MIDDLE = (
    0.1074123523009688,
    0.011356249999999998,
    0.39560903056045305,
    -0.3447521435259353,
    1.316185364958164,
    -1.0170608542936517,
    0.03125,
)

TSITOURAS = Pair(
    order=5,
    nodes=(0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    rows=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
        _LAST,
    ),
    weights=(*_LAST, 0.0),
    errors=(
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ),
    middle=_MIDDLE,
)

register(
    Solver(
        name="tsit5",
        kind="ode",
        family="diffsde",
        order=5,
        adaptive=True,
        evaluations=6,
        source="Tsitouras, Computers & Mathematics with Applications 62 (2011), 770–775",
        advice="As dopri5, and on these flows no nearer at equal cost; clock='log_sigma'.",
        options=PAIR_OPTIONS,
        **pair_ways(TSITOURAS),
    )
)
