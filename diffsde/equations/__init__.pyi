from .clocks import CLOCKS as CLOCKS, Clock as Clock, make_clock as make_clock
from .eta import eta_between as eta_between
from .forward import SDE as SDE, expand as expand
from .named import SDES as SDES
from .reverse import (
    PROBLEMS as PROBLEMS,
    ProbabilityFlow as ProbabilityFlow,
    ReverseProblem as ReverseProblem,
    ReverseSDE as ReverseSDE,
)
from .rows import own_rows as own_rows
from .schedule import InterpolantSDE as InterpolantSDE, ScheduleSDE as ScheduleSDE
from .straight import StraightSDE as StraightSDE
from .variance_exploding import EDMSDE as EDMSDE, VESDE as VESDE
from .variance_preserving import VPSDE as VPSDE, SubVPSDE as SubVPSDE
