from .metrics import (
    Classifier as Classifier,
)
from .metrics import (
    Evaluation as Evaluation,
)
from .metrics import (
    evaluate as evaluate,
)
from .metrics import (
    load_classifier as load_classifier,
)
from .metrics import (
    nearest_neighbours as nearest_neighbours,
)
from .metrics import (
    train_classifier as train_classifier,
)
from .plots import plot_evaluation as plot_evaluation
from .plots import plot_neighbours as plot_neighbours
from .samplers import (
    EvaluationRow as EvaluationRow,
)
from .samplers import (
    EvaluationTable as EvaluationTable,
)
from .samplers import (
    Sampler as Sampler,
)
from .samplers import (
    Samples as Samples,
)
from .samplers import (
    evaluate_samplers as evaluate_samplers,
)
from .samplers import (
    sample_images as sample_images,
)
