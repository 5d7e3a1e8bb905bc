r"""Solvers: a problem and a method's name make a trajectory.

This folder may import `equations` and the folders below it. A solver knows neither networks nor
pictures.

    solving        `solve`, one door to every solver
    stepping       `steps`, the same by hand, step by step
    arguments, request           what was asked for, checked
    settings       the settings of a solve with every default filled in
    parts, chunks  the solve of some samples, and a large batch part after part
    captured       chunks of which a device is told all at once
    equation, coefficients       a problem in a clock, tabulated over a grid
    grids          which times are stepped on, and which are kept
    state          what a method is given, and what a step is
    registry, catalogue          the rows, and how to find one
    methods/       the steps: torchsde's, torchdiffeq's and our own
    adaptive, control            steps by the error of each sample
    pairs, interpolation, noisy_attempts   those of flows, the states within them, those of SDEs
    adjoint        gradients solved backwards
    driver, stop_rules, progress, events   the loop, and what ends it
    citing, works  what to cite for a solve
    recorder, trajectory, dense  what is kept, handed back, and known between the saved states
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
