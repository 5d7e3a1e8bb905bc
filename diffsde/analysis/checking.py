r"""Is my reverse problem right? Its marginals, and its parts, against the forward process.

A reverse problem dx = b(x, t) dt + c(t) dw̄ is right if its marginals are those of the
forward process dx = f dt + g dw. They are, for any c, if

    b(x, t)  =  f(x, t) − w(t) ∇ log p_t(x),        w = ½ (g² + c²).

`check` looks at both sides. It solves the problem, and its twin (the flow of an SDE, the
SDE of a flow), and compares at several t their spread and mean with those of the data,
noised by the forward process. And it takes the problem apart, on such noised data
x = a x₀ + s z, where each part has a number that must be 1:

    drift       ⟨f − b, score⟩ / (½ (1 + η²) g² ‖score‖²),
    diffusion   c / (η g),
    score       ⟨−z/s, score⟩ / ‖score‖².

The last holds because the true score is the mean of −z/s given x (Vincent, 2011), so it
finds a wrong sign or a wrong factor of a score of any quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsde.equations.clocks import make_clock
from diffsde.equations.reverse import ProbabilityFlow, ReverseProblem, ReverseSDE
from diffsde.errors import InputError, SolveError
from diffsde.solvers.solving import solve

__all__ = ["CheckReport", "CheckRow", "check"]

_TIMES = 10
_STEPS = 40
_METHOD = {True: "srk", False: "heun2"}  # they ask for the drift and the diffusion themselves
_EXACT = 0.01  # what an algebraic factor may be off: rounding, and no more
_SHRUNK = 2.0  # times the prior's std: states that end beyond it are no data
_DEVIATIONS = 4.0  # standard errors that chance is given


@dataclass(frozen=True)
class CheckRow:
    """What is found at one time. All but t must be 1, or 0 for the shifts; NaN: not known.

    Attributes:
        t: the time.
        spread, twin_spread: rms about the forward mean over that of the forward process,
            for the problem and for its twin; infinite once a solve broke down.
        shift, twin_shift: of the mean over samples and coordinates, in that rms.
        drift, diffusion, score: the factors, see the module.
    """

    t: float
    spread: float
    shift: float
    twin_spread: float
    twin_shift: float
    drift: float
    diffusion: float
    score: float


@dataclass(frozen=True)
class CheckReport:
    """The verdict: `ok`, `findings` in words, `diverges`, and a row for each time.

    Attributes:
        rows: from T down to ε.
        findings: what is wrong; empty if nothing is.
        diverges: t where the problem's marginals leave the forward process; None if never.
        kind: "SDE" or "flow", of the problem.
    """

    rows: tuple[CheckRow, ...]
    findings: tuple[str, ...]
    diverges: float | None
    kind: str

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        twin = "flow" if self.kind == "SDE" else "SDE"
        head = (
            "t",
            f"{self.kind} spread",
            "shift",
            f"{twin} spread",
            "shift",
            "drift",
            "diffusion",
        )
        table = [(*head, "score")] + [
            (f"{r.t:.3g}", *(_number(getattr(r, name)) for name in _COLUMNS)) for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in table]
        verdict = self.findings or ("The marginals are those of the forward process.",)
        return "\n".join([*lines, "", *verdict])


_COLUMNS = ("spread", "shift", "twin_spread", "twin_shift", "drift", "diffusion", "score")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def check(
    problem: ReverseProblem,
    data: Tensor | None = None,
    *,
    n: int = 64,
    seed: int = 0,
    tolerance: float = 0.1,
) -> CheckReport:
    """Whether a reverse SDE or a flow has the marginals of its forward process; if not, why.

    Args:
        problem: a `ReverseSDE` or `ProbabilityFlow`, of one's own making too.
        data: (B, *shape) or (B, D), samples of the data. Without them the end of the twin is
            taken for data, so that problem and twin are compared with each other: then a score
            of some other data is not found.
        n: how many samples are solved for.
        seed: of all noise.
        tolerance: what spread, shift and the score's factor may be off, beside chance.

    Raises:
        InputError: another kind of problem, or data of another shape.

        report = diffsde.check(diffsde.ProbabilityFlow(sde, score, shape), images)
        assert report.ok, report
    """
    if not isinstance(problem, ReverseProblem):
        raise InputError(
            f"problem = {type(problem).__name__}: expected a ReverseSDE or a ProbabilityFlow, or a "
            "subclass of either"
        )
    if n < 2:
        raise InputError(f"n = {n}: expected at least 2 samples")
    clock = make_clock("log_sigma", *problem.interval, problem.sde)
    times = clock.time(torch.linspace(0, clock.duration, _TIMES, dtype=torch.float64))
    times[0], times[-1] = problem.interval
    made = ProbabilityFlow if problem.stochastic else ReverseSDE
    own = _solved(problem, times, n, seed)
    twin = _solved(made(problem.sde, problem.score, problem.shape), times, n, seed)
    data = _checked_data(data, problem) if data is not None else None
    forward = _Forward.of(problem, data, twin)
    with torch.no_grad():
        marginals = [_marginals(path, forward, times) for path in (own, twin)]
        parts = [_parts(problem, forward, t, n, seed) for t in times]
    rows = tuple(
        CheckRow(float(t), a.spread, a.shift, b.spread, b.shift, p.drift, p.diffusion, p.score)
        for t, a, b, p in zip(times, *marginals, parts, strict=True)
    )
    late = [row.t for row, m in zip(rows, marginals[0], strict=True) if m.is_off(tolerance)]
    kind = "SDE" if problem.stochastic else "flow"
    findings = [
        *_about_forward(problem),
        *_about_parts(problem, rows, parts, tolerance),
        *_about_marginals(kind, rows, late, [m.is_off(tolerance) for m in marginals[1]]),
    ]
    return CheckReport(rows, tuple(findings), late[0] if late else None, kind)


# -- paths and the forward process ---------------------------------------------------


def _solved(problem: ReverseProblem, times: Tensor, n: int, seed: int) -> list[Tensor]:
    """The states at each time, (n, D), until the solve breaks down."""
    x = problem.sde.prior_sample((n, *problem.shape), seed=seed).to(_place(problem)).flatten(1)
    method = _METHOD[problem.stochastic]
    try:
        sol = solve(problem, x, method, steps=_STEPS, clock="karras", save=times, seed=seed)
        return list(sol.ys)
    except SolveError as error:
        reached = {
            float(t): y for t, y in zip(error.trajectory.ts, error.trajectory.ys, strict=True)
        }
        return [reached[t] for t in times.tolist() if t in reached]


def _place(problem: ReverseProblem) -> torch.device:
    parameters = [*problem.parameters(), *problem.buffers()]
    return parameters[0].device if parameters else torch.device("cpu")


def _checked_data(data: Tensor, problem: ReverseProblem) -> Tensor:
    wanted = torch.Size(problem.shape).numel()
    if data.dim() < 2 or len(data) < 2 or data[0].numel() != wanted:
        raise InputError(
            f"data has shape {tuple(data.shape)}: expected at least two samples, (B, "
            f"{', '.join(map(str, problem.shape))})"
        )
    return data.to(_place(problem), torch.get_default_dtype()).flatten(1)


@dataclass(frozen=True)
class _Forward:
    """The forward process from samples at a time `start`: x(t) = a x(start) + s z."""

    problem: ReverseProblem
    samples: Tensor  # (m, D)
    start: float
    known: bool  # whether they are data; else they are only good for pure noise

    @classmethod
    def of(cls, problem: ReverseProblem, data: Tensor | None, twin: list[Tensor]) -> _Forward:
        if data is not None:
            return cls(problem, data, 0.0, known=True)
        # The twin is built here, so its end is as right as the score is.
        if len(twin) == _TIMES and float(twin[-1].std()) < _SHRUNK * problem.sde.prior_std:
            return cls(problem, twin[-1], problem.sde.eps, known=True)
        return cls(problem, torch.zeros_like(twin[0]), 0.0, known=False)

    def scale_and_std(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and s of the step from `start` to t."""
        sde, start = self.problem.sde, torch.tensor(self.start, dtype=torch.float64)
        scale = sde.marginal_scale(t) / sde.marginal_scale(start)
        variance = sde.marginal_std(t) ** 2 - (scale * sde.marginal_std(start)) ** 2
        return scale, variance.clamp(min=0).sqrt()


@dataclass(frozen=True)
class _Marginal:
    spread: float
    shift: float
    spread_error: float
    shift_error: float

    def is_off(self, tolerance: float) -> bool:
        if math.isnan(self.spread):
            return False
        spread_off = abs(math.log(self.spread)) if 0 < self.spread < math.inf else math.inf
        return (
            spread_off > math.log1p(tolerance) + _DEVIATIONS * self.spread_error
            or abs(self.shift) > tolerance + _DEVIATIONS * self.shift_error
        )


def _marginals(path: list[Tensor], forward: _Forward, times: Tensor) -> list[_Marginal]:
    """The law of each state against the forward process at that time."""
    centre = forward.samples.double().mean(0)
    around = (forward.samples.double() - centre).square().mean(1)
    found = [_marginal(x, t, forward, centre, around) for x, t in zip(path, times, strict=False)]
    broken = _Marginal(math.inf, math.nan, 0.0, 0.0)
    return found + [broken] * (len(times) - len(found))


def _marginal(x: Tensor, t: Tensor, forward: _Forward, centre: Tensor, around: Tensor) -> _Marginal:
    """Spread, shift, and what chance makes of them."""
    scale, std = (float(v) for v in forward.scale_and_std(t))
    expected = scale**2 * float(around.mean()) + std**2
    if not forward.known and float(t) < forward.problem.sde.T:
        return _Marginal(math.nan, math.nan, 0.0, 0.0)
    off = x.double() - scale * centre
    squares, means = off.square().mean(1), off.mean(1)
    chance = (_error(squares) / float(squares.mean())) ** 2
    chance += (scale**2 * _error(around) / expected) ** 2
    brightness = scale * _error(forward.samples.double().mean(1))
    return _Marginal(
        math.sqrt(float(squares.mean()) / expected),
        float(means.mean()) / math.sqrt(expected),
        0.5 * math.sqrt(chance),
        math.sqrt((_error(means) ** 2 + brightness**2) / expected),
    )


def _error(values: Tensor) -> float:
    """The standard error of a mean."""
    return float(values.std()) / math.sqrt(len(values))


# -- the parts -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """Factors at one time; `consistent`: w = ½ (g² + c²), whatever c is."""

    drift: float
    across: float  # share of f − b that is not along the score
    diffusion: float
    consistent: bool
    score: float
    score_error: float


def _parts(problem: ReverseProblem, forward: _Forward, t: Tensor, n: int, seed: int) -> _Parts:
    """Take the problem apart on noised data at time t."""
    sde, eta = problem.sde, problem.eta
    scale, std = forward.scale_and_std(t)
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(forward.samples[:n].shape, generator=generator).to(forward.samples)
    x = scale.to(z) * forward.samples[:n] + std.to(z) * z
    moment = t.to(x)
    score = problem.score_at(x, moment)
    pull = sde.drift(x, moment) - problem.drift(x, moment)
    size = float(score.double().square().sum())
    weight = float((pull.double() * score.double()).sum()) / size
    g, c = float(sde.diffusion(t)), float(problem.diffusion(t))
    rest = (pull.double() - weight * score.double()).norm() / pull.double().norm()
    factor, error = _score_factor(score, z, float(std))
    trusted = forward.known or float(t) == sde.T
    return _Parts(
        weight / (0.5 * (1 + eta**2) * g**2),
        float(rest),
        c / (eta * g) if eta else (math.nan if c == 0 else math.inf),
        abs(weight / (0.5 * (g**2 + c**2)) - 1) < _EXACT,
        factor if trusted else math.nan,
        error,
    )


def _score_factor(score: Tensor, z: Tensor, std: float) -> tuple[float, float]:
    """⟨−z/s, score⟩ / ‖score‖² and its standard error; NaN where there is no noise."""
    if std == 0:
        return math.nan, 0.0
    each = (-z.double() / std * score.double()).sum(1)
    size = score.double().square().sum(1)
    factor = float(each.sum() / size.sum())
    error = float((each - factor * size).square().sum().sqrt() / size.sum())
    return factor, error


# -- words ---------------------------------------------------------------------------


def _about_forward(problem: ReverseProblem) -> list[str]:
    try:
        problem.sde.check()
    except InputError as error:
        return [f"The forward SDE contradicts itself. {error}"]
    return []


def _about_parts(
    problem: ReverseProblem, rows: tuple[CheckRow, ...], parts: list[_Parts], tolerance: float
) -> list[str]:
    found: list[str] = []
    if not all(part.consistent for part in parts):
        found += _about_factors(problem, rows, parts)
    elif max(part.across for part in parts) > _EXACT:
        worst = max(zip(parts, rows, strict=True), key=lambda pair: pair[0].across)
        found.append(
            f"The drift is not f − w·score: at t = {worst[1].t:.3g}, {worst[0].across:.0%} of it "
            "is neither the forward drift nor along the score."
        )
    wrong = [
        row
        for row, part in zip(rows, parts, strict=True)
        if abs(part.score - 1) > tolerance + _DEVIATIONS * part.score_error
    ]
    if wrong:
        found.append(_about_score(wrong))
    return found


def _about_factors(
    problem: ReverseProblem, rows: tuple[CheckRow, ...], parts: list[_Parts]
) -> list[str]:
    """Which of drift and diffusion is wrong, where they do not belong together."""
    stochastic = problem.eta > 0
    weight = f"½ (1 + η²) g² with η = {problem.eta:g}" if stochastic else "½ g²"
    drift_right = _all(parts, lambda p: p.drift, 1.0)
    diffusion_right = not stochastic or _all(parts, lambda p: p.diffusion, 1.0)
    found = []
    if not diffusion_right:
        found.append(
            f"Wrong g: the diffusion is {_range(rows, 'diffusion')} times η g of the forward SDE."
        )
    if not drift_right:
        found.append(
            f"The score's factor in the drift is {_range(rows, 'drift')} times the right one, "
            f"{weight}{_cause(problem, parts)}."
        )
    return found


def _cause(problem: ReverseProblem, parts: list[_Parts]) -> str:
    """What a programmer may have done."""
    if _all(parts, lambda p: p.drift, -1.0):
        return ": its sign is wrong"
    if problem.eta == 0 and _all(parts, lambda p: p.drift, 2.0):
        return ": the ½ is lost, this is the drift of the SDE"
    if problem.eta > 0 and _all(parts, lambda p: p.drift, 1 / (1 + problem.eta**2)):
        return ": this is the drift of the flow"
    ratios = [part.drift / parts[0].drift for part in parts]
    varies = max(abs(ratio - 1) for ratio in ratios) > _EXACT
    return ": it changes with t, so g is another function" if varies else ""


def _about_score(wrong: list[CheckRow]) -> str:
    factors = [row.score for row in wrong]
    where = f"from t = {wrong[0].t:.3g} to {wrong[-1].t:.3g}" if len(wrong) > 1 else (
        f"at t = {wrong[0].t:.3g}"
    )  # fmt: skip
    if max(factors) < 0:
        return (
            f"The score has the wrong sign {where}: it points away from the data. A network that "
            "predicts the noise z is −s times a score."
        )
    return (
        f"The score is not that of the data {where}: scaled by {min(factors):.3g} to "
        f"{max(factors):.3g} it would fit best. Divide a predicted noise by −s(t); train more if "
        "this is at small t only."
    )


def _about_marginals(
    kind: str, rows: tuple[CheckRow, ...], late: list[float], twin_off: list[bool]
) -> list[str]:
    if not late:
        return []
    first = next(row for row in rows if row.t == late[0])
    twin = "flow" if kind == "SDE" else "SDE"
    fault = (
        f"the {twin} of the same score leaves it too, so look at the score"
        if any(twin_off)
        else f"the {twin} of the same score does not, so look at this {kind}'s drift and diffusion"
    )
    return [
        f"The {kind} leaves the forward process at t = {first.t:.3g}: its spread is "
        f"{_number(first.spread)} times the right one there and {_number(rows[-1].spread)} at the "
        f"end; {fault}."
    ]


def _all(parts: list[_Parts], of: Callable[[_Parts], float], value: float) -> bool:
    return all(abs(of(part) - value) < _EXACT * abs(value) for part in parts)


def _range(rows: tuple[CheckRow, ...], name: str) -> str:
    values = [getattr(row, name) for row in rows]
    low, high = min(values), max(values)
    return f"{low:.3g}" if abs(high - low) < _EXACT * abs(high) else f"{low:.3g} to {high:.3g}"
