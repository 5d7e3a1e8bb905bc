r"""Scores: what is learned or known of the data.

May import `equations` and what lies below it.

    model            a network with its SDE: a score and a denoiser
    networks         the bodies of such models
    preconditioning  what a network is given, and what its output means
    guidance         a score under a condition: labels, observations
    precision        a score evaluated in several precisions
    interchange      scores of other libraries as ours, and ours as theirs
    checkpoint       models in files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
