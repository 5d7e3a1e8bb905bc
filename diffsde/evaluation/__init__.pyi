from .atlas import (
    BUDGETS as BUDGETS,
    RIVALS as RIVALS,
    Atlas as Atlas,
    AtlasRow as AtlasRow,
    Rival as Rival,
    exact_mixture as exact_mixture,
    make_atlas as make_atlas,
)
from .atlas_plots import plot_atlas as plot_atlas
from .classifier import (
    Classifier as Classifier,
    classifier_of as classifier_of,
    load_classifier as load_classifier,
    train_classifier as train_classifier,
)
from .comparing import (
    EvaluationRow as EvaluationRow,
    EvaluationTable as EvaluationTable,
    evaluate_samplers as evaluate_samplers,
)
from .metrics import nearest_neighbours as nearest_neighbours
from .plots import plot_evaluation as plot_evaluation, plot_neighbours as plot_neighbours
from .real import RealImages as RealImages, data_of as data_of, real_images as real_images
from .samplers import Sampler as Sampler, Samples as Samples, sample_images as sample_images
from .scoring import Evaluation as Evaluation, evaluate as evaluate
