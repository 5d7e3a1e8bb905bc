r"""Equations: what is solved.

This folder may import `noise` and the folders below it. An equation knows neither solvers nor
networks.

    forward              forward SDEs, from data to noise: their mathematics and their base class
    variance_exploding   SDEs without drift: the tutorial's and Karras's
    variance_preserving  SDEs whose drift balances the noise: VP and sub-VP
    straight             the straight lines of flow matching
    schedule             the SDE of any noise level σ(t) and scale a(t)
    consistency          whether drift, diffusion and marginal belong to one SDE
    named                forward SDEs by the names that checkpoints use
    reverse              the reverse SDE and the probability flow of a score
    eta                  η, a number or a function of time
    ranges               which numbers stand for black and for white
    graphs               whether a value has a derivative in x, in every mode of autograd
    clocks               time scales in which a solver takes even steps
    rows                 which samples of a batch are being evaluated
    contract             a user's SDE of torchsde's contract
    dynamics             what a solver needs to know of a problem, whatever the problem is
    counted              scores and drifts whose evaluations are counted and checked
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
