from .budgets import (
    MEASURES as MEASURES,
)
from .budgets import (
    WorkPrecision as WorkPrecision,
)
from .budgets import (
    WorkRow as WorkRow,
)
from .budgets import (
    work_precision as work_precision,
)
from .checking import CheckReport as CheckReport
from .checking import CheckRow as CheckRow
from .checking import check as check
from .ensemble_plots import plot_ensemble as plot_ensemble
from .ensembles import EnsembleSummary as EnsembleSummary
from .ensembles import ensemble as ensemble
from .latents import (
    RoundTrip as RoundTrip,
)
from .latents import (
    compare_round_trips as compare_round_trips,
)
from .latents import (
    decode as decode,
)
from .latents import (
    encode as encode,
)
from .latents import (
    interpolate as interpolate,
)
from .latents import (
    round_trip as round_trip,
)
from .latents import (
    slerp as slerp,
)
from .likelihood import (
    Likelihood as Likelihood,
)
from .likelihood import (
    LikelihoodSummary as LikelihoodSummary,
)
from .likelihood import (
    bits_by_noise as bits_by_noise,
)
from .likelihood import (
    dequantise as dequantise,
)
from .likelihood import (
    error_budget as error_budget,
)
from .likelihood import (
    evaluate_likelihood as evaluate_likelihood,
)
from .likelihood import (
    log_likelihood as log_likelihood,
)
from .speed import Optimized as Optimized
from .speed import SpeedTrial as SpeedTrial
from .speed import optimize as optimize
