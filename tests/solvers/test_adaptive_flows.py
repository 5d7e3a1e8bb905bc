"""Adaptive flows: each sample by its own error, as if it were alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchdiffeq._impl.misc import _PerturbFunc, _rms_norm
from torchdiffeq._impl.odeint import SOLVERS

from diffsde import (
    VESDE,
    InputError,
    LimitError,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    classifier_free,
    inpainting,
    list_solvers,
    log_likelihood,
    solve,
)
from diffsde.equations import own_rows
from diffsde.equations.clocks import CLOCKS
from diffsde.equations.dynamics import dynamics_of
from diffsde.equations.rows import only_rows
from diffsde.solvers.checks import Checks
from diffsde.solvers.equation import make_equation
from diffsde.solvers.interpolation import CUBIC, QUARTIC, QUINTIC, SEXTIC, Hermite
from diffsde.solvers.methods.torchdiffeq import _pair_of
from diffsde.solvers.methods.tsitouras import TSITOURAS
from diffsde.solvers.pairs import Pair, _PairAttempts
from diffsde.solvers.state import SolveState
from tests.problems import flow, gaussian, mild, mixture

ROWS = [row for row in list_solvers("ode") if row.adaptive and row.one_step is not None]
NAMES = [row.name for row in ROWS]
THEIR_NAMES = [row.name for row in ROWS if row.family == "torchdiffeq"]
SCORE = mixture(mild(), dims=6).double()
FLOW = flow(SCORE)
# One sample near the border of the clusters, which takes more steps than the others.
X = torch.cat([SCORE.sample(4, 1.0, seed=0).double(), SCORE.means.mean(0, keepdim=True) + 0.05])
SIZE = len(X)


class Rows:
    """A score that counts how many samples it was asked about, and remembers the times."""

    def __init__(self, score: Any) -> None:
        self.score, self.rows, self.times = score, 0, torch.zeros(0, dtype=torch.float64)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.rows += len(x)
        self.times = torch.cat([self.times, t.double().reshape(-1)])
        return self.score(x, t)


# -- alone as in the batch -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_alone_is_the_sample_in_its_batch(
    name: str, clock: str, dtype: torch.dtype
) -> None:
    """To rounding: 1e-12 in float64. In float32 the error of a step is itself rounding in part,
    which changes the steps in their fifth digit and the end within the tolerance."""
    x, how = X.to(dtype), {"clock": clock, "rtol": 1e-3, "atol": 1e-3}
    p = flow(SCORE if dtype == torch.float64 else mixture(mild(), dims=6))
    whole = solve(p, x, name, **how)
    for i in (0, 2, 4):
        alone = solve(p, x[i : i + 1], name, **how)
        atol = 1e-12 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(whole.final[i], alone.final[0], rtol=0, atol=atol)
        if i == 0:  # the first sample's steps are those that are kept
            assert len(whole) == len(alone) == alone.stats.steps + 1
            torch.testing.assert_close(whole.ts, alone.ts, rtol=0, atol=max(atol, 1e-12))
            torch.testing.assert_close(whole.ys[:, 0], alone.ys[:, 0], rtol=0, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_and_order_of_a_batch(name: str) -> None:
    """With the last state alone, times to land on, chunks, and another sample in front."""
    how: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4, "clock": "karras", "save": 5}
    whole = solve(FLOW, X, name, **how)
    chunked = solve(FLOW, X, name, **how, chunk=2)
    turned = solve(FLOW, X.flip(0), name, **how)
    torch.testing.assert_close(chunked.ys, whole.ys, rtol=0, atol=1e-12)
    torch.testing.assert_close(turned.ys.flip(1), whole.ys, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_costs_what_it_costs_alone(name: str) -> None:
    """No evaluation is spent on a sample that has arrived, or that waits."""

    stiff = mixture(dims=6).double()
    x = stiff.sample(5, 1.0, seed=0).double()

    def cost(x: Tensor, save: str) -> int:
        score = Rows(stiff)
        solve(flow(stiff).with_score(score), x, name, rtol=1e-3, atol=1e-3, save=save)
        return score.rows

    alone = [cost(one[None], "last") for one in x]
    assert cost(x, "last") == sum(alone)
    assert len(set(alone)) > 1 or name in ("dopri8", "fehlberg2")  # they differ
    if name != "dopri8":  # whose states between its steps cost evaluations
        assert cost(x, "all") == sum(alone)


def test_the_hard_sample_does_not_set_the_step_of_the_others() -> None:
    """Each of many samples keeps its tolerance, at fewer evaluations than the hardest takes."""
    score = mixture(dims=8).double()
    x = score.sample(40, 1.0, seed=1).double()
    counted = Rows(score)
    how: dict[str, Any] = {"clock": "t", "rtol": 1e-5, "atol": 1e-5, "save": "last"}
    sol = solve(flow(score).with_score(counted), x, "dopri5", **how)
    exact = solve(flow(score), x, "dopri8", **how | {"rtol": 1e-11, "atol": 1e-11})
    assert float((sol.final - exact.final).abs().max()) < 1e-3
    assert counted.rows / len(x) < 0.9 * sol.stats.nfe


# -- torchdiffeq as the oracle -------------------------------------------------------------

# Its controller, and a bound on the growth of a step that both hold: ours takes errors below 1e-6
# for that, which at order 8 bounds the growth by itself.
THEIRS = {"beta": 0.0, "ifactor": 4.0}


def torchdiffeq_steps(
    fn: Any, x: Tensor, name: str, end: float, tol: float
) -> list[tuple[float, Tensor]]:
    """The starts of torchdiffeq's accepted steps from 0 to `end`, and the end."""
    starts: list[tuple[float, Tensor]] = []
    function = _PerturbFunc(fn)
    function.callback_step = function.callback_reject_step = lambda *_: None
    function.callback_accept_step = lambda t, y, _: starts.append((float(t), y))
    ends = torch.tensor([0.0, end], dtype=torch.float64)
    solver = SOLVERS[name](
        function, x, tol, tol, norm=_rms_norm, step_t=ends[1:], ifactor=THEIRS["ifactor"]
    )
    final = solver.integrate(ends)[-1]
    return [*starts, (end, final)]


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
@pytest.mark.parametrize("name", THEIR_NAMES)
def test_one_sample_takes_torchdiffeq_s_steps(name: str, tol: float) -> None:
    """With its controller: the same times and states, but where a last step may be stretched."""
    if name == "adaptive_heun" and tol < 1e-4:
        tol = 1e-5  # thousands of steps say no more than hundreds

    def fn(t: Tensor, x: Tensor) -> Tensor:
        return FLOW.drift(x, 1 - t) * -1

    fn.sample_times = True  # type: ignore[attr-defined]
    x = X[:1]
    theirs = torchdiffeq_steps(fn, x, name, 0.9, tol)
    ours = solve(fn, x, name, ts=[0.0, 0.9], save="all", rtol=tol, atol=tol, options=THEIRS)
    # ts alone keeps the ends; the steps are those of a callback.
    seen = [(0.0, x)]
    solve(
        fn, x, name, ts=[0.0, 0.9], rtol=tol, atol=tol, options=THEIRS,
        callback=lambda t, y, _: seen.append((t, y)),
    )  # fmt: skip
    last = min(len(seen), len(theirs)) - 2
    assert abs(len(seen) - len(theirs)) <= 1
    for (t, y), (t_theirs, y_theirs) in zip(seen[:last], theirs[:last], strict=True):
        assert t == pytest.approx(t_theirs, abs=1e-9)
        torch.testing.assert_close(y, y_theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.final, theirs[-1][1], rtol=0, atol=10 * tol)


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_a_function_of_scalar_time_keeps_torchdiffeq_s_way(name: str) -> None:
    """One step for the whole batch, by the norm of the whole batch; t is a scalar."""

    def fn(t: Tensor, x: Tensor) -> Tensor:
        assert t.dim() == 0
        return torch.sin(3 * t) - x**3

    x = torch.tensor([[2.0, 0.5], [-1.0, 0.1], [0.3, 0.3]], dtype=torch.float64)
    theirs = torchdiffeq_steps(fn, x, name, 1.0, 1e-4)
    seen = [(0.0, x)]
    ours = solve(
        fn, x, name, ts=[0.0, 1.0], rtol=1e-4, atol=1e-4, options=THEIRS,
        callback=lambda t, y, _: seen.append((t, y)),
    )  # fmt: skip
    last = min(len(seen), len(theirs)) - 2
    for (t, y), (t_theirs, y_theirs) in zip(seen[:last], theirs[:last], strict=True):
        assert t == pytest.approx(t_theirs, abs=1e-10)
        torch.testing.assert_close(y, y_theirs, rtol=0, atol=1e-10)
    assert ours.stats.steps == len(seen) - 1
    images = solve(fn, x.reshape(3, 1, 1, 2), name, ts=[0.0, 1.0], rtol=1e-4, atol=1e-4,
                   options=THEIRS)  # fmt: skip
    assert torch.equal(images.final.reshape(3, 2), ours.final)


# -- the tolerance, and where a solve may look ---------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_with_the_tolerance(name: str) -> None:
    exact = solve(FLOW, X, "dopri8", rtol=1e-12, atol=1e-12, save="last").final
    tight = 1e-5 if name == "adaptive_heun" else 1e-6
    errors = [
        (solve(FLOW, X, name, rtol=tol, atol=tol, save="last").final - exact).abs().amax(1)
        for tol in (1e-2, tight)
    ]
    assert float(errors[1].max()) < 1000 * tight  # fehlberg2 judges itself by order 1
    assert bool((errors[1] < errors[0]).all())


@pytest.mark.parametrize("start", ["samples", "zeros"])
@pytest.mark.parametrize("name", NAMES)
def test_no_score_is_asked_for_outside_of_the_solve(name: str, start: str) -> None:
    """Neither the first step, however long, nor the last one, nor a frame."""
    score = Rows(SCORE)
    x = X if start == "samples" else torch.zeros_like(X)
    solve(FLOW.with_score(score), x, name, rtol=1e-1, atol=1e-1)
    solve(FLOW.with_score(score), x, name, ts=[1.0, 1.0 - 1e-7])
    assert float(score.times.min()) >= SCORE.sde.eps - 1e-15
    assert float(score.times.max()) <= 1.0


def test_a_step_over_its_tolerance_is_never_accepted() -> None:
    with pytest.raises(SolveError, match="exceeds the tolerance at the smallest step"):
        solve(FLOW, X, "dopri5", rtol=1e-9, atol=1e-9, options={"min_step": 0.05})


def test_the_bounds_of_a_step() -> None:
    sol = solve(FLOW, X[:1], "dopri5", options={"max_step": 0.03}, rtol=1.0, atol=1.0)
    assert float(sol.ts.diff().abs().max()) <= 0.03 * 1.0101
    first = solve(FLOW, X[:1], "dopri5", options={"first_step": 0.011}, rtol=1.0, atol=1.0)
    assert float(first.ts[0] - first.ts[1]) == pytest.approx(0.011)
    slow = solve(FLOW, X[:1], "dopri5", options={"first_step": 0.01, "ifactor": 1.5}, rtol=1.0)
    ratios = slow.ts.diff()[1:-1] / slow.ts.diff()[:-2]
    assert float(ratios.max()) == pytest.approx(1.5)


def test_a_norm_of_one_s_own() -> None:
    how: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
    largest = solve(FLOW, X, "dopri5", options={"norm": lambda e: e.abs().amax(1)}, **how)
    assert largest.stats.steps >= solve(FLOW, X, "dopri5", **how).stats.steps
    with pytest.raises(InputError, match=r"of shape \(5, 6\): expected a norm of each sample"):
        solve(FLOW, X, "dopri5", options={"norm": lambda e: e.abs().max()}, **how)


def test_landing_does_not_shorten_what_follows() -> None:
    """Times to land on, close together near the start, cost little more than their number."""
    plain = solve(FLOW, X[:1], "dopri5", save="last").stats
    close = solve(FLOW, X[:1], "dopri5", save=[0.9, 0.8999, SCORE.sde.eps]).stats
    assert close.steps <= plain.steps + 3


# -- dense output --------------------------------------------------------------------------


@pytest.mark.parametrize("poly", [CUBIC, QUARTIC, QUINTIC, SEXTIC])
def test_a_polynomial_of_the_degree_is_met(poly: Hermite) -> None:
    theta = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    for power in range(len(poly.data)):
        values = [
            torch.full_like(theta, power * at ** max(power - 1, 0) if slope else at**power)
            for at, slope in poly.data
        ]
        found = poly.at(theta, values)
        torch.testing.assert_close(found, theta**power, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "order"), [("dopri8", 7), ("dopri5", 5), ("tsit5", 5), ("bosh3", 4),
                        ("fehlberg2", 3), ("adaptive_heun", 3)],
)  # fmt: skip
def test_the_order_of_the_states_within_a_step(name: str, order: int) -> None:
    """The error of a step of length h is O(h^order) everywhere in it."""
    pair = _pair(name)
    errors = [_within(pair, h) for h in ((0.2, 0.1) if order > 4 else (0.02, 0.01))]
    assert math.log2(errors[0] / errors[1]) > order - 0.4, errors


def _pair(name: str) -> Pair:
    return TSITOURAS if name == "tsit5" else _pair_of(SOLVERS[name])


def _within(pair: Pair, h: float) -> float:
    """The largest error within one step of this length from t = 1."""
    x, rows = X[:2], torch.arange(2)
    equation = make_equation(dynamics_of(FLOW), x, None, "t")
    nodes = torch.tensor([0.0, equation.duration], dtype=torch.float64)
    checks = Checks(x, equation.dynamics.scale, "", keep=False)
    state = SolveState(equation, x, nodes, 1.0, 1.0, watched=True, checks=checks)
    attempts = _PairAttempts(pair, state, equation.f)
    u0 = torch.zeros(2, dtype=torch.float64)
    attempts.begin(u0, x)
    attempts.keep(rows, attempts.attempt(rows, u0, u0 + h, x), rows >= 0)
    return max(_error_at(attempts, place * h) for place in (0.3, 0.6, 0.9))


def _error_at(attempts: _PairAttempts, u: float) -> float:
    tight: dict[str, Any] = {"rtol": 1e-13, "atol": 1e-13, "save": "last"}
    exact = solve(FLOW, X[:2], "dopri8", ts=[1.0, 1.0 - u], **tight).final
    return float((attempts.between(torch.arange(2), u) - exact).abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_between_the_ends_is_as_near(name: str) -> None:
    """Of every sample, at the ends of the first one's steps."""
    tol = 1e-2 if name == "adaptive_heun" else 1e-5
    sol = solve(FLOW, X, name, rtol=tol, atol=tol, clock="log_sigma")
    tight: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-11, "clock": "log_sigma"}
    exact = solve(FLOW, X, "dopri8", ts=sol.ts, **tight)
    errors = (sol.ys - exact.ys).abs().amax((1, 2))
    assert float(errors.max()) < 300 * tol
    assert float(errors[1:-1].max()) < 10 * float(errors[-1]) + 10 * tol


def test_tsitouras_s_own_interpolant() -> None:
    """Its weights b₁ … b₇ at θ, table 2 of the paper, against the quartic through what we keep."""
    powers = torch.tensor([
        [1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216],
        [0.0, 0.1317, -0.2234, 0.1017],
        [0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253],
        [0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902],
        [0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928],
        [0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661],
        [0.0, 1.5, -4.0, 2.5],
    ], dtype=torch.float64)  # fmt: skip
    theta = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    theirs = theta ** torch.arange(1, 5) @ powers.T  # (7, 7 stages)
    first, last = torch.eye(7, dtype=torch.float64)[[0, 6]]
    weights = TSITOURAS.weights, TSITOURAS.middle
    end, middle = (torch.tensor(w, dtype=torch.float64) for w in weights)
    known = [part.expand(7, 7) for part in (0 * first, first, end, last, middle)]
    torch.testing.assert_close(QUARTIC.at(theta, known), theirs, rtol=0, atol=1e-12)


def test_the_error_that_tsitouras_s_pair_states_is_of_order_five() -> None:
    """e has no part of the orders 1 to 4, and one of order 5."""
    errors = [_stated(TSITOURAS, h) for h in (0.2, 0.1)]
    assert 4.6 < math.log2(errors[0] / errors[1]) < 5.4, errors


def _stated(pair: Pair, h: float) -> float:
    """The error that one step of this length from t = 1 states, against a tolerance of 1."""
    equation = make_equation(dynamics_of(FLOW), X, None, "t")
    nodes = torch.tensor([0.0, equation.duration], dtype=torch.float64)
    checks = Checks(X, equation.dynamics.scale, "", keep=False)
    state = SolveState(equation, X, nodes, 0.0, 1.0, checks=checks)
    attempts = _PairAttempts(pair, state, equation.f)
    u0 = torch.zeros(SIZE, dtype=torch.float64)
    attempts.begin(u0, X)
    return float(attempts.attempt(torch.arange(SIZE), u0, u0 + h, X).error.max())


# -- scores that hold something for each sample --------------------------------------------


def test_own_rows() -> None:
    values, shared = torch.arange(5), torch.ones(1, 3)
    assert torch.equal(own_rows(values), values)
    with only_rows(torch.tensor([1, 4]), 5):
        assert own_rows(values).tolist() == [1, 4]
        assert torch.equal(own_rows(shared), shared)
        with only_rows(torch.tensor([1]), 2):
            assert own_rows(values).tolist() == [4]
        with only_rows(torch.arange(2), 2):
            assert own_rows(values).tolist() == [1, 4]
        with only_rows(torch.arange(5), 5):
            assert torch.equal(own_rows(values), values)
        assert own_rows(values).tolist() == [1, 4]
    assert torch.equal(own_rows(values), values)


def labelled(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """The score of Gaussian data whose mean is a tenth of the label; without one, of label 0."""
    number = torch.zeros(len(x)) if label is None else label
    mean = 0.1 * number.to(x)[:, None]
    variance = 0.3**2 + mild().marginal_std(t).to(x) ** 2
    return (mean - x) / variance.reshape(-1, 1)


@pytest.mark.parametrize(("make", "name", "adaptive"), [
    (ProbabilityFlow, "dopri5", None), (ProbabilityFlow, "bosh3", None),
    (ReverseSDE, "srk", True),
])  # fmt: skip
def test_labels_and_observations_of_each_sample(make: Any, name: str, adaptive: Any) -> None:
    """The label and the image of a sample go with it when others have left, and in chunks."""
    labels, image = torch.tensor([3, -2, 8, 0, 5]), X.reshape(5, 1, 1, 6) / 10
    mask = torch.tensor([[1.0, 0, 1, 0, 0, 0]] * 4 + [[0, 0, 0, 0, 1, 1]]).reshape(5, 1, 1, 6)
    how: dict[str, Any] = {"rtol": 3e-2, "atol": 3e-2, "adaptive": adaptive, "save": "last"}

    def score(which: slice) -> Any:
        guided = classifier_free(labelled, labels[which], 1.5)
        flat = lambda x, t: guided(x.flatten(1), t).reshape(x.shape)  # noqa: E731
        return inpainting(flat, mild(), image[which], mask[which])

    whole = solve(make(mild(), score(slice(None)), (1, 1, 6)), X.reshape(5, 1, 1, 6), name,
                  seed=1, **how)  # fmt: skip
    parts = solve(make(mild(), score(slice(None)), (1, 1, 6)), X.reshape(5, 1, 1, 6), name,
                  seed=1, chunk=2, **how)  # fmt: skip
    torch.testing.assert_close(parts.final, whole.final, rtol=0, atol=1e-9)
    for i in range(5):
        part = slice(i, i + 1)
        alone = solve(make(mild(), score(part), (1, 1, 6)), X[part].reshape(1, 1, 1, 6), name,
                      seed=1, first=i, **how)  # fmt: skip
        torch.testing.assert_close(alone.final, whole.final[part], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["dopri5", "dopri8", "bosh3"])
@pytest.mark.parametrize("exact", [True, False])
def test_a_likelihood_does_not_depend_on_its_batch(name: str, exact: bool) -> None:
    x = SCORE.sample(4, SCORE.sde.eps, seed=3).double()
    how: dict[str, Any] = {"method": name, "rtol": 1e-4, "atol": 1e-4, "seed": 0}
    how |= {"exact": True} if exact else {"probes": 2}
    whole = log_likelihood(FLOW, x, **how)
    for i in (0, 3):
        alone = log_likelihood(FLOW, x[i : i + 1], first=i, **how)
        torch.testing.assert_close(alone.log_prob[0], whole.log_prob[i], rtol=0, atol=1e-11)


# -- gradients, and going on ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradients_through_own_steps(name: str) -> None:
    """Against finite differences of a solve that is nearly exact; frames have gradients, too."""
    tol = 1e-4 if name in ("adaptive_heun", "fehlberg2") else 1e-6
    how: dict[str, Any] = {"rtol": tol, "atol": tol, "clock": "log_sigma"}
    x = X.clone().requires_grad_()
    sol = solve(FLOW, x, name, grad=True, **how)
    middle = len(sol) // 2
    found = [torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in sol.ys[[middle, -1]]]
    ts = [1.0, float(sol.ts[middle]), float(sol.ts[-1])]

    def exact(x: Tensor) -> Tensor:
        return solve(FLOW, x, "dopri8", ts=ts, rtol=1e-11, atol=1e-11, clock="log_sigma").ys[1:]

    along = torch.randn(X.shape, generator=torch.Generator().manual_seed(0)).double()
    slopes = (exact(X + 1e-5 * along) - exact(X - 1e-5 * along)).sum((1, 2)) / 2e-5
    for gradient, slope in zip(found, slopes, strict=True):
        assert float((gradient * along).sum()) == pytest.approx(float(slope), rel=1e-2, abs=5e-2)


def test_a_stopped_solve_goes_on_from_a_time_of_all_samples() -> None:
    how: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-7, "clock": "log_sigma"}
    whole = solve(FLOW, X, "dopri5", **how)
    with pytest.raises(LimitError) as caught:
        solve(FLOW, X, "dopri5", max_steps=6, **how)
    first = caught.value.trajectory
    assert torch.equal(first.ys, whole.ys[: len(first)])
    torch.testing.assert_close(first.resume().final, whole.final, rtol=0, atol=1e-5)


def test_images_keep_their_shape() -> None:
    score = gaussian(VESDE(), dims=16)
    x = score.sample(3, 1.0, seed=0).reshape(3, 1, 4, 4)
    p = ProbabilityFlow(score.sde, score, (16,))
    assert solve(p, x, "dopri5").ys.shape[1:] == x.shape

    def own(t: Tensor, y: Tensor) -> Tensor:
        assert t.shape == (len(y),)
        return -y * t[:, None, None, None]

    own.sample_times = True  # type: ignore[attr-defined]
    sol = solve(own, x.double(), "dopri5", ts=[0.0, 1.0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(sol.final, x.double() * math.exp(-0.5), rtol=0, atol=1e-6)
