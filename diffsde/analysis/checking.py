r"""Is my reverse problem right? Compare its marginals and its parts with the forward process.

A reverse problem dx = b(x, t) dt + c(t) dw̄ is right if its marginals are those of the
forward process dx = f dt + g dw. They are, for any c, if

    b(x, t)  =  f(x, t) − w(t) ∇ log p_t(x),        w = ½ (g² + c²).

`check` looks at both sides. It solves the problem and its twin (the flow of an SDE, the SDE
of a flow), and at several t compares the spread and the mean of the samples with those of
noised data (`check_marginals`). It also takes the problem apart into drift, diffusion and
score (`check_parts`), which is cheaper and comes first where evaluations are few.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsde.analysis.check_findings import about_forward, about_marginals, about_parts
from diffsde.analysis.check_marginals import (
    Forward,
    Solved,
    checked_data,
    cost_of,
    marginals,
    solved,
)
from diffsde.analysis.check_parts import Parts, measured_parts
from diffsde.analysis.check_report import CheckReport, CheckRow
from diffsde.equations.clocks import make_clock
from diffsde.equations.reverse import ProbabilityFlow, ReverseProblem, ReverseSDE
from diffsde.errors import InputError
from diffsde.system.bars import load_tqdm
from diffsde.system.numbers import real_number, whole_number

__all__ = ["check"]

_TIMES = 10
_QUIET = 10.0  # seconds until the progress bar is shown
_SOLVES = ("the problem's own solve", "the solve of its twin")
_FEW, _MANY, _VALUES = 16, 64, 4096  # bounds of n, and how many values the samples should have


def check(
    problem: ReverseProblem,
    data: Tensor | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    tolerance: float = 0.1,
    max_nfe: int | None = None,
    progress: bool = True,
) -> CheckReport:
    """Check that a reverse SDE or a flow has the marginals of its forward process; say why if not.

    Args:
        problem: a `ReverseSDE` or `ProbabilityFlow`, or a subclass of your own.
        data: (B, *shape) or (B, D), samples of the data. Without them the end of the twin's
            solve serves as data, so that problem and twin are compared with each other. A score
            of some other data is not detected then.
        n: number of samples to solve for; from 16 of images to 64 of points, if left out.
        seed: seed of all random numbers.
        tolerance: by how much spread, shift and the score's factor may be off, beyond chance.
        max_nfe: the most evaluations of the score, each of n samples. The whole check takes 196.
            With fewer, the twin's solve is left out, which takes 88, and then the problem's own;
            the report says so.
        progress: show a progress bar, if it takes more than ten seconds.

    Raises:
        InputError: another kind of problem, data of another shape, or fewer evaluations than the
            20 that the parts take.

        report = diffsde.check(diffsde.ProbabilityFlow(sde, score, shape), images)
        assert report.ok, report
    """
    n, tolerance = _checked(problem, n, tolerance)
    known = checked_data(data, problem) if data is not None else None
    times = _times(problem)
    both = _affordable(problem, max_nfe)
    total = _cost_of_parts(problem) + sum(cost_of(one, _TIMES) for one in both if one is not None)
    with load_tqdm()(
        total=total, desc="check", unit="evaluation", delay=_QUIET, disable=not progress
    ) as bar:
        own, twin = (
            None if one is None else solved(one, times, n, seed, bar.update) for one in both
        )
        forward, parts = Forward.of(problem, known, twin, times, n), []
        for t in times:
            with torch.no_grad():
                parts.append(measured_parts(forward, t, n, seed))
            bar.update(_cost_of_parts(problem) // _TIMES)
    return _report(forward, times, own, twin, parts, tolerance)


def _report(
    forward: Forward,
    times: Tensor,
    own: Solved | None,
    twin: Solved | None,
    parts: Sequence[Parts],
    tolerance: float,
) -> CheckReport:
    problem = forward.problem
    ours, theirs = (marginals(path, forward, times) for path in (own, twin))
    rows = tuple(
        CheckRow(float(t), a.spread, a.shift, b.spread, b.shift, p.drift, p.diffusion, p.score)
        for t, a, b, p in zip(times, ours, theirs, parts, strict=True)
    )
    off, twin_off = ([m.is_off(tolerance) for m in some] for some in (ours, theirs))
    kind = "SDE" if problem.stochastic else "flow"
    findings = [
        *about_forward(problem),
        *about_parts(problem, rows, parts, tolerance),
        *about_marginals(kind, rows, off, twin_off if twin else None),
    ]
    diverges = rows[off.index(True)].t if any(off) else None
    nfe = _cost_of_parts(problem) + sum(one.nfe for one in (own, twin) if one)
    left_out = tuple(word for word, one in zip(_SOLVES, (own, twin), strict=True) if not one)
    return CheckReport(rows, tuple(findings), diverges, kind, nfe, left_out)


def _checked(problem: ReverseProblem, n: int | None, tolerance: float) -> tuple[int, float]:
    if not isinstance(problem, ReverseProblem):
        raise InputError(
            f"problem = {type(problem).__name__}: expected a ReverseSDE or a ProbabilityFlow, or a "
            "subclass of either"
        )
    tolerance = real_number(tolerance, "tolerance", "a number ≥ 0", 0.0)
    if n is not None:
        return whole_number(n, "n", 2), tolerance
    values = torch.Size(problem.shape).numel()
    return min(max(_VALUES // values, _FEW), _MANY), tolerance


def _affordable(
    problem: ReverseProblem, max_nfe: int | None
) -> tuple[ReverseProblem | None, ReverseProblem | None]:
    """The problem and its twin, each if there are evaluations for its solve."""
    twin = _twin(problem)
    if max_nfe is None:
        return problem, twin
    parts, solve = _cost_of_parts(problem), cost_of(problem, _TIMES)
    left = whole_number(max_nfe, "max_nfe", parts, why=", which the parts alone take") - parts
    return problem if left >= solve else None, twin if left >= 2 * solve else None


def _cost_of_parts(problem: ReverseProblem) -> int:
    # For each time the score itself, and the drift, which asks for it as well.
    return 2 * _TIMES * problem.to_dynamics().counted.evaluations


def _times(problem: ReverseProblem) -> Tensor:
    """Times from T to ε that are even in log σ."""
    clock = make_clock("log_sigma", *problem.interval, problem.sde)
    times = clock.time(torch.linspace(0, clock.duration, _TIMES, dtype=torch.float64, device="cpu"))
    times[0], times[-1] = problem.interval
    return times


def _twin(problem: ReverseProblem) -> ReverseProblem:
    made = ProbabilityFlow if problem.stochastic else ReverseSDE
    return made(problem.sde, problem.score, problem.shape)
