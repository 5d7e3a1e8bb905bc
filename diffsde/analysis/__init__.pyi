from .budgets import (
    MEASURES as MEASURES,
    WorkPrecision as WorkPrecision,
    WorkRow as WorkRow,
    work_precision as work_precision,
)
from .checking import CheckReport as CheckReport, CheckRow as CheckRow, check as check
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
from .likelihood import (
    Likelihood as Likelihood,
    LikelihoodSummary as LikelihoodSummary,
    bits_by_noise as bits_by_noise,
    dequantise as dequantise,
    error_budget as error_budget,
    evaluate_likelihood as evaluate_likelihood,
    log_likelihood as log_likelihood,
)
from .speed import Optimized as Optimized, SpeedTrial as SpeedTrial, optimize as optimize
