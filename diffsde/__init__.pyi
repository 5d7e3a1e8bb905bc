from . import (
    analysis as analysis,
    cli as cli,
    data as data,
    equations as equations,
    errors as errors,
    evaluation as evaluation,
    noise as noise,
    scores as scores,
    solvers as solvers,
    system as system,
    training as training,
    views as views,
)
from .analysis.budgets import work_precision as work_precision
from .analysis.checking import check as check
from .analysis.dataset_likelihood import evaluate_likelihood as evaluate_likelihood
from .analysis.ensemble_plots import plot_ensemble as plot_ensemble
from .analysis.ensembles import ensemble as ensemble
from .analysis.latents import decode as decode, encode as encode, interpolate as interpolate
from .analysis.likelihood import log_likelihood as log_likelihood
from .analysis.speed import optimize as optimize
from .analysis.variational import variational_bound as variational_bound
from .data.images import load_images as load_images
from .equations.forward import SDE as SDE
from .equations.reverse import ProbabilityFlow as ProbabilityFlow, ReverseSDE as ReverseSDE
from .equations.schedule import ScheduleSDE as ScheduleSDE
from .equations.straight import StraightSDE as StraightSDE
from .equations.variance_exploding import EDMSDE as EDMSDE, VESDE as VESDE
from .equations.variance_preserving import VPSDE as VPSDE, SubVPSDE as SubVPSDE
from .errors import (
    BlowUpError as BlowUpError,
    CheckpointError as CheckpointError,
    DataError as DataError,
    DiffSDEError as DiffSDEError,
    FileError as FileError,
    InputError as InputError,
    LaunchError as LaunchError,
    LimitError as LimitError,
    SolveError as SolveError,
    TrainingError as TrainingError,
    UnknownSolverError as UnknownSolverError,
)
from .evaluation.scoring import evaluate as evaluate
from .noise.brownian_path import BrownianPath as BrownianPath
from .scores.azula import from_azula as from_azula
from .scores.checkpoint import (
    load_model as load_model,
    load_pretrained as load_pretrained,
    save_model as save_model,
)
from .scores.denoisers import from_denoiser as from_denoiser
from .scores.diffusers import from_diffusers as from_diffusers
from .scores.exact import GaussianScore as GaussianScore, MixtureScore as MixtureScore
from .scores.guidance import (
    autoguidance as autoguidance,
    classifier_free as classifier_free,
    classifier_guided as classifier_guided,
)
from .scores.model import ScoreModel as ScoreModel
from .scores.noise_prediction import from_noise_prediction as from_noise_prediction
from .scores.observations import (
    deblurring as deblurring,
    inpainting as inpainting,
    linear_inverse as linear_inverse,
    super_resolution as super_resolution,
)
from .scores.score_matching import score_matching_loss as score_matching_loss
from .scores.score_unet import ScoreUNet as ScoreUNet
from .scores.tempering import tempered as tempered
from .scores.velocity import from_velocity as from_velocity
from .solvers.catalogue import list_solvers as list_solvers
from .solvers.citing import cite as cite
from .solvers.solving import solve as solve
from .solvers.stepping import steps as steps
from .solvers.stop_rules import STOP as STOP
from .solvers.trajectory import Trajectory as Trajectory
from .training.loop import train as train
from .views.animation import animate as animate
from .views.images import film_strip as film_strip, plot_images as plot_images
from .views.laws import plot_bands as plot_bands, plot_marginals as plot_marginals
from .views.paths import plot_paths as plot_paths
from .views.plane import plot_plane as plot_plane
from .views.signals import plot_signals as plot_signals

__version__: str
