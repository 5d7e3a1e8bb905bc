from .catalogue import (
    find_solver as find_solver,
    list_solvers as list_solvers,
    usual_kind as usual_kind,
)
from .citing import Citations as Citations, cite as cite
from .registry import Solver as Solver, register as register
from .solving import solve as solve
from .state import SolveState as SolveState, Step as Step
from .stepping import AcceptedStep as AcceptedStep, Steps as Steps, steps as steps
from .stop_rules import STOP as STOP
from .trajectory import Stats as Stats, Trajectory as Trajectory
