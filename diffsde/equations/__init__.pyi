from .clocks import CLOCKS as CLOCKS
from .clocks import Clock as Clock
from .clocks import make_clock as make_clock
from .forward import (
    EDMSDE as EDMSDE,
)
from .forward import (
    SDE as SDE,
)
from .forward import (
    SDES as SDES,
)
from .forward import (
    VESDE as VESDE,
)
from .forward import (
    VPSDE as VPSDE,
)
from .forward import (
    ScheduleSDE as ScheduleSDE,
)
from .forward import (
    SubVPSDE as SubVPSDE,
)
from .reverse import (
    PROBLEMS as PROBLEMS,
)
from .reverse import (
    ProbabilityFlow as ProbabilityFlow,
)
from .reverse import (
    ReverseProblem as ReverseProblem,
)
from .reverse import (
    ReverseSDE as ReverseSDE,
)
