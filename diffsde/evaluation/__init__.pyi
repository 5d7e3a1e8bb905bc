from .metrics import (
    Classifier as Classifier,
    Evaluation as Evaluation,
    evaluate as evaluate,
    load_classifier as load_classifier,
    nearest_neighbours as nearest_neighbours,
    train_classifier as train_classifier,
)
from .plots import plot_evaluation as plot_evaluation, plot_neighbours as plot_neighbours
from .samplers import (
    EvaluationRow as EvaluationRow,
    EvaluationTable as EvaluationTable,
    Sampler as Sampler,
    Samples as Samples,
    evaluate_samplers as evaluate_samplers,
    sample_images as sample_images,
)
