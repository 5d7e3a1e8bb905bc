r"""diffsde: diffusion models as differential equations.

An SDE and a score make a reverse problem; `solve` takes it with a solver picked by name;
the trajectory is looked at:

    model = diffsde.load_pretrained("mnist")
    rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    x1 = model.sde.prior_sample((16, *model.shape), seed=0)
    sol = diffsde.solve(rev, x1, method="euler", steps=500, seed=0)
    diffsde.animate(sol, "em.gif")
"""

from diffsde.animation import animate
from diffsde.brownian import BrownianPath
from diffsde.check import check
from diffsde.checkpoint import load_model, load_pretrained, save_model
from diffsde.data import load_images
from diffsde.ensemble import ensemble
from diffsde.errors import (
    CheckpointError,
    DataError,
    DiffSDEError,
    InputError,
    SolveError,
    TrainingError,
    UnknownSolverError,
)
from diffsde.integrate import solve
from diffsde.interchange import from_denoiser
from diffsde.likelihood import log_likelihood
from diffsde.networks import ScoreUNet
from diffsde.plots import film_strip, plot_bands, plot_images, plot_paths
from diffsde.reverse import ProbabilityFlow, ReverseSDE
from diffsde.score import GaussianScore, MixtureScore, ScoreModel, score_matching_loss
from diffsde.sde import SDE, VESDE, VPSDE, SubVPSDE
from diffsde.solvers import list_solvers
from diffsde.speed import optimize
from diffsde.training import train
from diffsde.trajectory import Trajectory
from diffsde.work_precision import work_precision

__version__ = "0.1.0"

__all__ = [
    "SDE",
    "VESDE",
    "VPSDE",
    "BrownianPath",
    "CheckpointError",
    "DataError",
    "DiffSDEError",
    "GaussianScore",
    "InputError",
    "MixtureScore",
    "ProbabilityFlow",
    "ReverseSDE",
    "ScoreModel",
    "ScoreUNet",
    "SolveError",
    "SubVPSDE",
    "TrainingError",
    "Trajectory",
    "UnknownSolverError",
    "animate",
    "check",
    "ensemble",
    "film_strip",
    "from_denoiser",
    "list_solvers",
    "load_images",
    "load_model",
    "load_pretrained",
    "log_likelihood",
    "optimize",
    "plot_bands",
    "plot_images",
    "plot_paths",
    "save_model",
    "score_matching_loss",
    "solve",
    "train",
    "work_precision",
]
