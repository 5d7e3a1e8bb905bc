r"""Evaluation: how good a model's samples are.

This folder may import `training`, `analysis`, `views` and what lies below them.

    real        real images: those to score against, and those to learn from
    classifier  a small classifier of any labelled data
    features    what images are compared by
    metrics     FID, KID, precision, recall and nearest neighbours
    scoring     all scores of a set of images
    samplers    sets of images drawn by solvers
    comparing   samplers and their scores, as a table
    plots       both as pictures
    atlas       every solver on every network, by every measure
    atlas_plots the atlas as pictures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
