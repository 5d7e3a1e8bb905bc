r"""Evaluation: how good a model's samples are.

This folder may import `training`, `analysis`, `views` and what lies below them.

    metrics     FID, KID, precision, recall and confidence of a set of images
    samplers    sets of images drawn by solvers, and their scores
    plots       both as pictures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
