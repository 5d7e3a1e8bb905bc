r"""diffsde: diffusion models as differential equations.

An SDE and a score make a reverse problem. `solve` solves it with any solver, which you pick by
name, and returns the whole path, which you can animate, plot or explore:

    model = diffsde.load_pretrained("mnist")            # ships with the package
    sol = model.sample(16, method="euler", steps=500, clock="t", seed=0)
    diffsde.animate(sol, "em.gif")

The folders are the architecture. Each may import those below it, and none above:

    cli            the command line
    evaluation     how good a model's samples are
    training       a score from data
    analysis       what solves can tell: likelihoods, latents, checks, budgets
    views          from a trajectory to something one looks at
    scores         what is learned or known of the data
    solvers        a problem and a method's name make a trajectory
    equations      what is solved
    noise          random numbers by address, and Brownian motion
    data, system   images to learn from; files, digests, processes

Nothing is loaded before it is used; `__init__.pyi` says where each name lives.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
