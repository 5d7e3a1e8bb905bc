from .coupling import COUPLINGS as COUPLINGS
from .loop import train as train
from .objectives import OBJECTIVES as OBJECTIVES, Objective as Objective
from .recipes import (
    OPTIMIZERS as OPTIMIZERS,
    RECIPES as RECIPES,
    SCHEDULES as SCHEDULES,
    Recipe as Recipe,
)
from .run_folder import RunFolder as RunFolder
from .teacher import Teacher as Teacher
