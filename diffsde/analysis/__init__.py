r"""Analysis: what one can learn from solves.

This folder may import `views` and the folders below it.

    checking             is a reverse problem right?
    check_marginals      the marginals of its samples
    check_parts          its drift, its diffusion and its score
    check_findings       the findings in words
    check_report         the report: rows, findings, a table
    likelihood           how probable images are under the flow
    density_flow         the flow and its divergence as one ODE
    dataset_likelihood   the likelihood of a data set, with a results file
    bits                 a likelihood's sources of error, and its bits by noise level
    latents              encode, decode, interpolate
    ensembles            the law of a process along its path
    ensemble_plots       the band of an ensemble beside some of its paths
    budgets              accuracy against evaluations of the score
    references           fine solves that say how far they are from being exact
    work_table           the table of it
    laws                 how far samples are from a law that is known
    speed                the fastest way to evaluate a score on this machine
    speed_bench          time and error of one way to evaluate a score
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
