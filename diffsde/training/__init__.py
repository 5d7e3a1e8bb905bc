r"""Training: a score from data.

May import `analysis`, `views`, `scores` and what lies below them.

    loop          `train`
    recipes       how to train, as data
    objectives    how noise is drawn and weighted
    teacher       learning what another model denoises
    run_folder    what a run keeps on disk
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
