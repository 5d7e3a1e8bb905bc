from .loop import train as train
from .objectives import OBJECTIVES as OBJECTIVES
from .objectives import Objective as Objective
from .recipes import RECIPES as RECIPES
from .recipes import SCHEDULES as SCHEDULES
from .recipes import Recipe as Recipe
from .run_folder import RunFolder as RunFolder
from .teacher import Teacher as Teacher
