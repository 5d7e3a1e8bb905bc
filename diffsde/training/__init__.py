r"""Training: a score from data.

This folder may import `analysis`, `views`, `scores` and what lies below them.

    loop            `train`
    run             a training run, and one update of it
    recipes         how to train, as data
    settled         what a recipe leaves to the data
    objectives      how noise levels are drawn and weighted
    coupling        which noise goes with which image
    losses          a recipe's loss on images of a data set
    noise           the random numbers of training, by address
    optimizers      optimisers and averages of weights
    initial_model   the model that a run starts from
    teacher         learning the denoised images of another model
    run_folder      the files of a run
    run_state       what a run needs to be resumed, as one file
    accelerators    accelerate: the processes of a run, and its trackers
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
