r"""Analysis: what solves can tell.

May import `views`, `solvers` and what lies below them.

    checking     is a reverse problem right?
    likelihood   how probable the flow makes an image
    latents      encode, decode, interpolate
    ensembles    the law of a process along its path
    budgets      accuracy against evaluations of the score
    speed        the fastest way here to evaluate a score
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
