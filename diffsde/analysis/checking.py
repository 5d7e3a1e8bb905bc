r"""Is my reverse problem right? Compare its marginals and its parts with the forward process.

A reverse problem dx = b(x, t) dt + c(t) dw̄ is right if its marginals are those of the
forward process dx = f dt + g dw. They are, for any c, if

    b(x, t)  =  f(x, t) − w(t) ∇ log p_t(x),        w = ½ (g² + c²).

`check` looks at both sides. It solves the problem and its twin (the flow of an SDE, the SDE
of a flow), and at several t compares the spread and the mean of the samples with those of
noised data (`check_marginals`). It also takes the problem apart into drift, diffusion and
score (`check_parts`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.analysis.check_findings import about_forward, about_marginals, about_parts
from diffsde.analysis.check_marginals import Forward, checked_data, marginals, solved
from diffsde.analysis.check_parts import measured_parts
from diffsde.analysis.check_report import CheckReport, CheckRow
from diffsde.equations.clocks import make_clock
from diffsde.equations.reverse import ProbabilityFlow, ReverseProblem, ReverseSDE
from diffsde.errors import InputError

__all__ = ["check"]

_TIMES = 10


def check(
    problem: ReverseProblem,
    data: Tensor | None = None,
    *,
    n: int = 64,
    seed: int = 0,
    tolerance: float = 0.1,
) -> CheckReport:
    """Check that a reverse SDE or a flow has the marginals of its forward process; say why if not.

    Args:
        problem: a `ReverseSDE` or `ProbabilityFlow`, or a subclass of your own.
        data: (B, *shape) or (B, D), samples of the data. Without them the end of the twin's
            solve serves as data, so that problem and twin are compared with each other. A score
            of some other data is not detected then.
        n: number of samples to solve for.
        seed: seed of all random numbers.
        tolerance: by how much spread, shift and the score's factor may be off, beyond chance.

    Raises:
        InputError: another kind of problem, or data of another shape.

        report = diffsde.check(diffsde.ProbabilityFlow(sde, score, shape), images)
        assert report.ok, report
    """
    _check_arguments(problem, n)
    times = _times(problem)
    own, twin = (solved(one, times, n, seed) for one in (problem, _twin(problem)))
    known = checked_data(data, problem) if data is not None else None
    forward = Forward.of(problem, known, twin, times)
    with torch.no_grad():
        ours, theirs = (marginals(path, forward, times) for path in (own, twin))
        parts = [measured_parts(forward, t, n, seed) for t in times]
    rows = tuple(
        CheckRow(float(t), a.spread, a.shift, b.spread, b.shift, p.drift, p.diffusion, p.score)
        for t, a, b, p in zip(times, ours, theirs, parts, strict=True)
    )
    off, twin_off = ([m.is_off(tolerance) for m in some] for some in (ours, theirs))
    kind = "SDE" if problem.stochastic else "flow"
    findings = [
        *about_forward(problem),
        *about_parts(problem, rows, parts, tolerance),
        *about_marginals(kind, rows, off, twin_off),
    ]
    diverges = rows[off.index(True)].t if any(off) else None
    return CheckReport(rows, tuple(findings), diverges, kind)


def _check_arguments(problem: ReverseProblem, n: int) -> None:
    if not isinstance(problem, ReverseProblem):
        raise InputError(
            f"problem = {type(problem).__name__}: expected a ReverseSDE or a ProbabilityFlow, or a "
            "subclass of either"
        )
    if n < 2:
        raise InputError(f"n = {n}: expected at least 2 samples")


def _times(problem: ReverseProblem) -> Tensor:
    """Times from T to ε that are even in log σ."""
    clock = make_clock("log_sigma", *problem.interval, problem.sde)
    times = clock.time(torch.linspace(0, clock.duration, _TIMES, dtype=torch.float64))
    times[0], times[-1] = problem.interval
    return times


def _twin(problem: ReverseProblem) -> ReverseProblem:
    made = ProbabilityFlow if problem.stochastic else ReverseSDE
    return made(problem.sde, problem.score, problem.shape)
