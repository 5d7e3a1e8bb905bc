from .bits import (
    BitsByNoise as BitsByNoise,
    bits_by_noise as bits_by_noise,
    error_budget as error_budget,
)
from .budgets import MEASURES as MEASURES, work_precision as work_precision
from .check_report import CheckReport as CheckReport, CheckRow as CheckRow
from .checking import check as check
from .conventions import (
    CONVENTIONS as CONVENTIONS,
    find_convention as find_convention,
    noisy_levels as noisy_levels,
)
from .dataset_likelihood import (
    LikelihoodSummary as LikelihoodSummary,
    evaluate_likelihood as evaluate_likelihood,
)
from .ensemble_plots import plot_ensemble as plot_ensemble
from .ensembles import EnsembleSummary as EnsembleSummary, ensemble as ensemble
from .latents import (
    RoundTrip as RoundTrip,
    compare_round_trips as compare_round_trips,
    decode as decode,
    encode as encode,
    interpolate as interpolate,
    round_trip as round_trip,
    slerp as slerp,
)
from .laws import LawErrors as LawErrors, law_errors as law_errors
from .likelihood import (
    Likelihood as Likelihood,
    dequantise as dequantise,
    log_likelihood as log_likelihood,
)
from .speed import Optimized as Optimized, optimize as optimize
from .speed_bench import SpeedTrial as SpeedTrial
from .variational import (
    VariationalBound as VariationalBound,
    variational_bound as variational_bound,
)
from .work_table import WorkPrecision as WorkPrecision, WorkRow as WorkRow
