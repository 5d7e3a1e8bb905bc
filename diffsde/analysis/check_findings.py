"""The findings of `check`: what its numbers say about a problem, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffsde.analysis.check_marginals import DEVIATIONS
from diffsde.analysis.check_parts import EXACT, Parts
from diffsde.analysis.check_report import CheckRow, number, other_kind
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import InputError

__all__ = ["about_forward", "about_marginals", "about_parts"]


def about_forward(problem: ReverseProblem) -> list[str]:
    """What `SDE.check` says about the forward process."""
    try:
        problem.sde.check()
    except InputError as error:
        return [f"The forward SDE contradicts itself. {error}"]
    return []


def about_parts(
    problem: ReverseProblem, rows: Sequence[CheckRow], parts: Sequence[Parts], tolerance: float
) -> list[str]:
    """Which part is wrong: the drift, the diffusion, or the score."""
    return [*_about_equation(problem, rows, parts), *_about_score(rows, parts, tolerance)]


def _about_equation(
    problem: ReverseProblem, rows: Sequence[CheckRow], parts: Sequence[Parts]
) -> list[str]:
    if not all(part.consistent for part in parts):
        return [*_about_diffusion(problem, rows, parts), *_about_drift(problem, rows, parts)]
    share, t = max((part.across, row.t) for part, row in zip(parts, rows, strict=True))
    if not share > EXACT:
        return []
    return [
        f"The drift is not f − w·score: at t = {t:.3g}, {share:.0%} of it is neither the forward "
        "drift nor along the score."
    ]


def _about_diffusion(
    problem: ReverseProblem, rows: Sequence[CheckRow], parts: Sequence[Parts]
) -> list[str]:
    if problem.eta == 0 or _all(parts, lambda p: p.diffusion, 1.0):
        return []
    factor = _range([row.diffusion for row in rows])
    return [f"Wrong g: the diffusion is {factor} times η g of the forward SDE."]


def _about_drift(
    problem: ReverseProblem, rows: Sequence[CheckRow], parts: Sequence[Parts]
) -> list[str]:
    if _all(parts, lambda p: p.drift, 1.0):
        return []
    dial = f" with η = {problem.eta:g}" if isinstance(problem.eta, float) else ""
    right = "½ g²" if problem.eta == 0 else f"½ (1 + η²) g²{dial}"
    return [
        f"The score's factor in the drift is {_range([row.drift for row in rows])} times the "
        f"right one, {right}{_cause(problem, parts)}."
    ]


def _cause(problem: ReverseProblem, parts: Sequence[Parts]) -> str:
    """The programming mistake that gives such a drift."""
    if _all(parts, lambda p: p.drift, -1.0):
        return ": its sign is wrong"
    if problem.eta == 0 and _all(parts, lambda p: p.drift, 2.0):
        return ": the ½ is lost, this is the drift of the SDE"
    if problem.eta != 0 and _all(parts, lambda p: p.drift * (1 + p.eta**2), 1.0):
        return ": this is the drift of the flow"
    ratios = [part.drift / parts[0].drift for part in parts]
    varies = max(abs(ratio - 1) for ratio in ratios) > EXACT
    return ": it changes with t, so g is another function" if varies else ""


def _about_score(rows: Sequence[CheckRow], parts: Sequence[Parts], tolerance: float) -> list[str]:
    wrong = [
        row
        for row, part in zip(rows, parts, strict=True)
        if abs(part.score - 1) > tolerance + DEVIATIONS * part.score_error
    ]
    if not wrong:
        return []
    first, last = wrong[0].t, wrong[-1].t
    where = f"at t = {first:.3g}" if len(wrong) == 1 else f"from t = {first:.3g} to {last:.3g}"
    factors = [row.score for row in wrong]
    if max(factors) < 0:
        return [
            f"The score has the wrong sign {where}: it points away from the data. A network that "
            "predicts the noise z is −s times a score."
        ]
    return [
        f"The score is not that of the data {where}: multiplied by {min(factors):.3g} to "
        f"{max(factors):.3g} it would fit best. Divide a predicted noise by −s(t); train longer "
        "if this happens at small t only."
    ]


def about_marginals(
    kind: str, rows: Sequence[CheckRow], off: Sequence[bool], twin_off: Sequence[bool] | None
) -> list[str]:
    """Where the problem leaves the forward process, and whether its twin does, if it was solved."""
    if not any(off):
        return []
    first = rows[off.index(True)]
    twin = other_kind(kind)
    if twin_off is None:
        fault = f"whether the {twin} of the same score does so too would tell where to look"
    elif any(twin_off):
        fault = f"the {twin} of the same score leaves it too, so look at the score"
    else:
        fault = (
            f"the {twin} of the same score does not, so look at this {kind}'s drift and diffusion"
        )
    return [
        f"The {kind} leaves the forward process at t = {first.t:.3g}: its spread is "
        f"{number(first.spread)} times the right one there and {number(rows[-1].spread)} at the "
        f"end; {fault}."
    ]


def _all(parts: Sequence[Parts], of: Callable[[Parts], float], value: float) -> bool:
    return all(abs(of(part) - value) < EXACT * abs(value) for part in parts)


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if abs(high - low) < EXACT * abs(high) else f"{low:.3g} to {high:.3g}"
