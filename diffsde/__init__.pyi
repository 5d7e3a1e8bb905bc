from . import (
    analysis as analysis,
)
from . import (
    cli as cli,
)
from . import (
    data as data,
)
from . import (
    equations as equations,
)
from . import (
    errors as errors,
)
from . import (
    evaluation as evaluation,
)
from . import (
    noise as noise,
)
from . import (
    scores as scores,
)
from . import (
    solvers as solvers,
)
from . import (
    system as system,
)
from . import (
    training as training,
)
from . import (
    views as views,
)
from .analysis.budgets import work_precision as work_precision
from .analysis.checking import check as check
from .analysis.ensemble_plots import plot_ensemble as plot_ensemble
from .analysis.ensembles import ensemble as ensemble
from .analysis.latents import decode as decode
from .analysis.latents import encode as encode
from .analysis.latents import interpolate as interpolate
from .analysis.likelihood import (
    evaluate_likelihood as evaluate_likelihood,
)
from .analysis.likelihood import (
    log_likelihood as log_likelihood,
)
from .analysis.speed import optimize as optimize
from .data.images import load_images as load_images
from .equations.forward import (
    EDMSDE as EDMSDE,
)
from .equations.forward import (
    SDE as SDE,
)
from .equations.forward import (
    VESDE as VESDE,
)
from .equations.forward import (
    VPSDE as VPSDE,
)
from .equations.forward import (
    ScheduleSDE as ScheduleSDE,
)
from .equations.forward import (
    SubVPSDE as SubVPSDE,
)
from .equations.reverse import ProbabilityFlow as ProbabilityFlow
from .equations.reverse import ReverseSDE as ReverseSDE
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    DataError as DataError,
)
from .errors import (
    DiffSDEError as DiffSDEError,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    SolveError as SolveError,
)
from .errors import (
    TrainingError as TrainingError,
)
from .errors import (
    UnknownSolverError as UnknownSolverError,
)
from .evaluation.metrics import evaluate as evaluate
from .noise.brownian import BrownianPath as BrownianPath
from .scores.checkpoint import (
    load_model as load_model,
)
from .scores.checkpoint import (
    load_pretrained as load_pretrained,
)
from .scores.checkpoint import (
    save_model as save_model,
)
from .scores.guidance import (
    classifier_free as classifier_free,
)
from .scores.guidance import (
    classifier_guided as classifier_guided,
)
from .scores.guidance import (
    deblurring as deblurring,
)
from .scores.guidance import (
    inpainting as inpainting,
)
from .scores.guidance import (
    linear_inverse as linear_inverse,
)
from .scores.guidance import (
    super_resolution as super_resolution,
)
from .scores.interchange import (
    from_azula as from_azula,
)
from .scores.interchange import (
    from_denoiser as from_denoiser,
)
from .scores.interchange import (
    from_diffusers as from_diffusers,
)
from .scores.model import (
    GaussianScore as GaussianScore,
)
from .scores.model import (
    MixtureScore as MixtureScore,
)
from .scores.model import (
    ScoreModel as ScoreModel,
)
from .scores.model import (
    score_matching_loss as score_matching_loss,
)
from .scores.networks import ScoreUNet as ScoreUNet
from .solvers.catalogue import list_solvers as list_solvers
from .solvers.solving import solve as solve
from .solvers.trajectory import Trajectory as Trajectory
from .training.loop import train as train
from .views.animation import animate as animate
from .views.images import film_strip as film_strip
from .views.images import plot_images as plot_images
from .views.laws import plot_bands as plot_bands
from .views.laws import plot_marginals as plot_marginals
from .views.paths import plot_paths as plot_paths

__version__: str
