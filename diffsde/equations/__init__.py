r"""Equations: what is solved.

May import `noise` and what lies below it: an equation knows no solver and no network.

    forward     forward SDEs, from data to noise
    reverse     the reverse SDE and the probability flow of a score
    clocks      other names for the same times
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
