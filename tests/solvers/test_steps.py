"""Stepping by hand: what `steps` hands out is what `solve` keeps, and it can be altered."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import (
    BlowUpError,
    BrownianPath,
    InputError,
    LimitError,
    ProbabilityFlow,
    ReverseSDE,
    list_solvers,
    solve,
    steps,
)
from diffsde.solvers import Steps
from tests.problems import flow, mild, mixture, reverse

pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

SCORE = mixture(mild(), dims=4)
X = SCORE.sde.prior_sample((3, 4), seed=0)
ROWS = list_solvers()
# Every method in its own way, on fixed steps, and every SDE's that can choose its own.
WAYS = [
    *((row, {"clock": "karras"} | ({} if row.adaptive else {"steps": 5})) for row in ROWS),
    *((row, {"steps": 4, "adaptive": False}) for row in ROWS if row.adaptive and row.one_step),
    *(
        (row, {"steps": 3, "adaptive": True, "rtol": 0.3, "atol": 0.3})
        for row in ROWS
        if row.kind == "sde" and row.can_adapt
    ),
]
FORGET = {row.name for row in ROWS if row.multistep} - {"pc", "heun_edm"}
ways = pytest.mark.parametrize(
    ("row", "how"), WAYS, ids=[f"{row.kind}-{row.name}-{'-'.join(how)}" for row, how in WAYS]
)


def problem(kind: str, score: Any = SCORE) -> Any:
    return (ReverseSDE if kind == "sde" else ProbabilityFlow)(SCORE.sde, score, (4,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@ways
def test_they_are_the_steps_of_a_solve(row: Any, how: dict[str, Any], dtype: torch.dtype) -> None:
    """Bit for bit: times, states and costs, of every row."""
    p, x = problem(row.kind), X.to(dtype)
    if row.name == "adaptive_heun" and how.get("adaptive") is not False:
        how = {**how, "rtol": 1e-3, "atol": 1e-3}
    sol = solve(p, x, row.name, seed=7, **how)
    found = list(steps(p, x, row.name, seed=7, **how))
    if "adaptive" not in how or row.kind == "ode":
        assert len(found) == len(sol) - 1
    assert [step.t for step in found] == sol.ts[1:].tolist()
    assert torch.equal(torch.stack([step.x for step in found]), sol.ys[1:])
    assert [step.nfe for step in found] == sol.evaluations[1:].tolist()  # type: ignore[index]
    assert found[-1].stats.steps == sol.stats.steps
    assert sum(step.dt for step in found) == pytest.approx(float(sol.ts[-1] - sol.ts[0]))


def test_images_a_path_and_a_later_part() -> None:
    noise = BrownianPath(3)
    p = ReverseSDE(SCORE.sde, lambda x, t: SCORE(x.flatten(1), t).reshape(x.shape), (1, 2, 2))
    x = X.reshape(3, 1, 2, 2)
    sol = solve(p, x, "srk", ts=[1.0, 0.7, 0.2], noise=noise, first=4)
    found = [step.x for step in steps(p, x, "srk", ts=[1.0, 0.7, 0.2], noise=noise, first=4)]
    assert torch.equal(torch.stack(found), sol.ys[1:])


# -- leaving, looking, altering ------------------------------------------------------------


def test_it_is_left_and_taken_up_again() -> None:
    by_hand = steps(problem("sde"), X, "euler", steps=6, seed=1)
    assert isinstance(by_hand, Steps)
    for step in by_hand:
        if step.t < 0.6:
            break
    torch.manual_seed(9)  # what happens in between changes nothing
    rest = list(by_hand)
    assert torch.equal(rest[-1].x, solve(problem("sde"), X, "euler", steps=6, seed=1).final)
    with pytest.raises(StopIteration):
        next(by_hand)


def doubled(step: Any, in_place: bool) -> None:
    if in_place:
        step.x *= 2
    else:
        step.x = 2 * step.x


@pytest.mark.parametrize("in_place", [False, True])
@ways
def test_an_altered_state_is_a_new_start(row: Any, how: dict[str, Any], in_place: bool) -> None:
    """The rest is a solve from that state over the remaining times, of every row."""
    if row.kind == "sde" and how.get("adaptive") and row.order < 1.5:
        pytest.skip("the same loop as that of srk, in many more steps")
    p, x = problem(row.kind), X.double()
    fixed = row.one_step is not None and how.get("adaptive") is not True and (
        not row.adaptive or "adaptive" in how
    )  # fmt: skip
    if not fixed:
        close = 1e-4 if row.name in ("adaptive_heun", "fehlberg2") else 1e-6
        close = close if row.kind == "ode" else 0.01
        how = {"steps": 4, **how, "rtol": close, "atol": close}
    elif row.iterates:
        how = {**how, "rtol": 1e-6}
    by_hand = steps(p, x, row.name, seed=7, **how)
    before = next(by_hand)
    while before.t > 0.8:
        before = next(by_hand)
    kept = before.x.clone()
    doubled(before, in_place)
    rest = list(by_hand)
    ts = [before.t, *(step.t for step in rest)]
    if not fixed:
        ts = [before.t, float(SCORE.sde.eps)]
    again = solve(p, 2 * kept, row.name, ts=ts, seed=7, **{**how, "steps": None})
    torch.testing.assert_close(rest[-1].x, again.final, rtol=0, atol=1e-9 if fixed else 0.1)
    unaltered = solve(p, x, row.name, seed=7, **how).final
    assert float((rest[-1].x - unaltered).abs().max()) > 0.03


@pytest.mark.parametrize("name", ["dopri8", "rk4", "unipc", "heun_edm", "dopri5"])
def test_the_last_state_is_altered_for_oneself_alone(name: str) -> None:
    how = {} if name.startswith("dopri") else {"steps": 3}
    by_hand = steps(problem("ode"), X, name, **how)
    *_, last = by_hand
    last.x = 0 * last.x
    assert list(by_hand) == []
    assert torch.equal(last.x, torch.zeros_like(X))


def test_a_state_altered_at_every_step_keeps_a_constraint() -> None:
    """Half of each point is put back at every step, as replacement does."""
    for step in steps(problem("ode"), X, "dopri5", adaptive=False, steps=12):
        step.x = torch.cat([X[:, :2], step.x[:, 2:]], 1)
    exact = solve(_half_held(), X.double(), "rk4", ts=[1.0, SCORE.sde.eps], steps=200).final
    torch.testing.assert_close(step.x.double(), exact, rtol=0, atol=0.2)  # of the order of a step


def _half_held() -> Any:
    def fn(t: Tensor, x: Tensor) -> Tensor:
        change = flow(SCORE).drift(x.float(), t.float()).double()
        return torch.cat([0 * change[:, :2], change[:, 2:]], 1)

    return fn


def test_clean_images_are_seen_from_a_step() -> None:
    p = problem("sde")
    sol = solve(p, X, "euler", steps=4, seed=0, estimates=True, denoise=True)
    found = [step.denoised() for step in steps(p, X, "euler", steps=4, seed=0, max_nfe=9)]
    assert torch.equal(torch.stack(found), sol.denoised[1:-1])  # type: ignore[index]
    assert torch.equal(found[-1], sol.final)
    with pytest.raises(InputError, match="knows clean images"):
        next(steps(lambda t, x: -x, X, "rk4", ts=[0.0, 1.0], steps=2)).denoised()


# -- memory, limits, events, modes ---------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "srk", "sde_dpmpp_2m"])
def test_memory_does_not_grow_with_the_steps(name: str) -> None:
    score = mixture(mild(), dims=500)
    x = score.sde.prior_sample((2, 500), seed=0)
    gc.freeze()  # counts what this test makes alone

    def alive(n: int) -> int:
        for step in steps(reverse(score), x, name, steps=n, seed=0):
            last = step
        assert last.t == score.sde.eps
        return sum(isinstance(o, Tensor) and o.numel() >= 1000 for o in gc.get_objects())

    assert alive(40) <= alive(10)
    gc.unfreeze()


def test_limits_and_blow_ups_are_raised_by_the_iterator() -> None:
    by_hand = steps(problem("sde"), X, "euler", steps=9, seed=0, max_steps=3)
    seen = []
    with pytest.raises(LimitError) as caught:
        seen.extend(by_hand)
    assert len(seen) == 0 or len(seen) == 3
    assert caught.value.trajectory.stats.steps == 3
    rest = caught.value.trajectory.resume()
    assert torch.equal(rest.final, solve(problem("sde"), X, "euler", steps=9, seed=0).final)
    broken = steps(problem("sde", lambda x, t: x * float("nan")), X, "euler", steps=3, seed=0)
    with pytest.raises(BlowUpError, match="not finite"):
        next(broken)
    thrown = steps(problem("sde"), X, "euler", steps=3, seed=0)
    step = next(thrown)
    step.x = 1e9 * step.x
    with pytest.raises(BlowUpError, match="blown up"):
        next(thrown)


@pytest.mark.parametrize("name", ["rk4", "dopri5"])
def test_an_event_ends_the_steps(name: str) -> None:
    how = {"steps": 8} if name == "rk4" else {}
    found = list(steps(problem("ode"), X, name, event=lambda t, _: t - 0.45, **how))
    assert found[-1].t == pytest.approx(0.45, abs=1e-6)
    assert found[-2].t > 0.45


def test_the_caller_s_modes_stay_as_they_are() -> None:
    for step in steps(problem("sde"), X, "euler", steps=2, seed=0):
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad
    with torch.inference_mode():
        by_hand = steps(problem("sde"), X, "euler", steps=2, seed=0)
        step = next(by_hand)
        step.x = step.x + 1
        assert torch.is_inference_mode_enabled()
        next(by_hand)
    x = X.clone().requires_grad_()
    *_, last = steps(problem("ode"), x, "heun2", steps=3, grad=True)
    (found,) = torch.autograd.grad(last.x.sum(), x)
    sol = solve(problem("ode"), x, "heun2", steps=3, grad=True)
    assert torch.equal(found, torch.autograd.grad(sol.final.sum(), x)[0])


@pytest.mark.filterwarnings("default")
def test_a_warning_is_at_the_caller_s_line() -> None:
    with pytest.warns(UserWarning, match="ends in another law") as caught:
        steps(problem("sde"), X, "reversible_heun", steps=2, seed=0)
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (torch.zeros(3, 5), r"step.x = \(3, 5\), torch.float32: expected a state like the one"),
        (torch.zeros(3, 4).double(), "torch.float64: expected"),
        ([1.0], "step.x = list: expected"),
    ],
)
def test_what_is_no_state_is_refused(state: Any, words: str) -> None:
    step = next(steps(problem("sde"), X, "euler", steps=2, seed=0))
    with pytest.raises(InputError, match=words):
        step.x = state


def test_mistakes() -> None:
    by_hand = steps(problem("sde"), X, "euler", steps=3, seed=0)
    next(by_hand).x[0, 0] = float("nan")
    with pytest.raises(InputError, match="holds numbers that are not finite"):
        next(by_hand)
    with pytest.raises(InputError, match="grad = 'adjoint'"):
        steps(problem("ode"), X, "rk4", steps=2, grad="adjoint")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="takes fixed steps only"):
        steps(problem("sde"), X, "sde_dpmpp_2m", adaptive=True)
