"""Events: a solve ends where a function of time and state crosses zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffsde import (
    VESDE,
    BrownianPath,
    GaussianScore,
    InputError,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    solve,
)

SDE = VESDE()
MEAN, STD = 0.2, 0.5
SCORE = GaussianScore(SDE, torch.full((3,), MEAN).double(), STD)
FLOW = ProbabilityFlow(SDE, SCORE, (3,))
REV = ReverseSDE(SDE, SCORE, (3,))
X1 = torch.tensor([[7.0, -3.0, 1.0], [2.0, 0.5, -9.0]], dtype=torch.float64)


def time_at_level(level: float) -> float:
    """When the flow takes the first coordinate to a level.

    It keeps (x − mean) / √(std² + s(t)²), so s(t) at the level is known, and t from it.
    """
    share = (level - MEAN) / (float(X1[0, 0]) - MEAN)
    variance = share**2 * (STD**2 + SDE.prior_std**2) - STD**2
    return float(SDE.time_of_noise_level(torch.tensor(variance, dtype=torch.float64).sqrt()))


def exact(t: Tensor) -> Tensor:
    """The flow's first coordinate at times t."""
    spread = (STD**2 + SDE.marginal_std(t) ** 2).sqrt()
    return MEAN + (float(X1[0, 0]) - MEAN) * spread / math.hypot(STD, SDE.prior_std)


@pytest.mark.parametrize(
    "name", ["rk4", "heun2", "dpmpp_2m", "heun_edm", "unipc", "dopri5", "scipy_solver"]
)
def test_the_flow_ends_on_the_crossing(name: str) -> None:
    adaptive = name in ("dopri5", "scipy_solver")
    how = {"rtol": 1e-6, "atol": 1e-6} if adaptive else {"steps": 60}
    how = {**how, "clock": "karras"}
    whole = solve(FLOW, X1, name, **how)  # type: ignore[arg-type]
    error = float((whole.ys[:, 0, 0] - exact(whole.ts)).abs().max())
    for level in (3.0, 0.7):
        sol = solve(FLOW, X1, name, event=lambda _, x: x[0, 0] - level, **how)  # type: ignore[arg-type]  # noqa: B023
        t = torch.tensor(time_at_level(level), dtype=torch.float64)
        speed = (exact(t + 1e-6) - exact(t - 1e-6)) / 2e-6
        # The states' own error, in time; a cubic between them may add as much again.
        assert abs(float(sol.ts[-1] - t)) < 2 * error / float(speed) + 1e-7
        # The crossing itself is met, whatever the solver's error.
        assert float(sol.final[0, 0]) == pytest.approx(level, abs=1e-5)
        assert (sol.ts.diff() < 0).all()


def test_it_is_looked_at_once_for_each_state() -> None:
    seen: list[float] = []

    def event(t: float, _: Tensor) -> float:
        seen.append(t)
        return 1.0

    solve(FLOW, X1, "rk4", steps=10, event=event)
    assert len(seen) == 11
    assert len(set(seen)) == 11


def test_the_crossing_costs_a_few_steps() -> None:
    plain = solve(FLOW, X1, "rk4", steps=40, clock="karras")
    sol = solve(FLOW, X1, "rk4", steps=40, clock="karras", event=lambda _, x: x[0, 0] - 3)
    steps = len(sol) - 1
    assert sol.stats.steps == steps
    assert torch.equal(sol.ys[:-1], plain.ys[:steps])
    assert sol.stats.nfe <= 4 * (steps + 8)


def test_in_the_last_step_and_on_a_state() -> None:
    late = solve(FLOW, X1, "rk4", steps=4, event=lambda t, _: t - 0.1)
    assert float(late.ts[-1]) == pytest.approx(0.1, abs=1e-6)
    node = solve(FLOW, X1, "rk4", ts=[1.0, 0.5, 0.2], event=lambda t, _: t - 0.5)
    assert node.ts.tolist() == [1.0, 0.5]


def test_a_path_that_begins_on_zero_goes_on() -> None:
    sol = solve(FLOW, X1, "rk4", steps=20, event=lambda t, _: (t - 1) * (t - 0.3))
    assert float(sol.ts[-1]) == pytest.approx(0.3, abs=1e-6)


def test_saved_times_before_the_crossing_are_kept() -> None:
    sol = solve(FLOW, X1, "rk4", steps=20, save=[0.9, 0.5, 0.1], event=lambda t, _: t - 0.3)
    assert sol.ts.tolist() == pytest.approx([0.9, 0.5, 0.3], abs=1e-6)
    last = solve(FLOW, X1, "rk4", steps=20, save="last", event=lambda t, _: t - 0.3)
    # A saved time is stepped on, so the two take different steps.
    assert torch.allclose(last.final, sol.final, atol=1e-4)


@pytest.mark.parametrize("adaptive", [False, True])
def test_an_sde_ends_on_its_path(adaptive: bool) -> None:
    noise = BrownianPath(0)
    how = {"noise": noise, "clock": "log_sigma", "adaptive": adaptive}
    if adaptive:
        how.update(rtol=0.03, atol=0.03)
    whole = solve(REV, X1, "srk", steps=40, **how)  # type: ignore[arg-type]
    sol = solve(REV, X1, "srk", steps=40, event=lambda t, _: t - 0.4321, **how)  # type: ignore[arg-type]
    assert float(sol.ts[-1]) == pytest.approx(0.4321, abs=1e-6)
    assert torch.allclose(sol.final, whole(0.4321), atol=1e-3)  # W moves so far in 1e-6 of a step


def test_without_a_path_an_sde_ends_on_a_straight_line() -> None:
    whole = solve(REV, X1, "euler", steps=10, seed=0)
    sol = solve(REV, X1, "euler", steps=10, seed=0, event=lambda t, _: t - 0.33)
    k = len(sol) - 2
    weight = float((whole.ts[k] - 0.33) / (whole.ts[k] - whole.ts[k + 1]))
    assert torch.allclose(sol.final, torch.lerp(*whole.ys[k : k + 2], weight), atol=1e-5)
    assert sol.stats.nfe == len(sol) - 1


def test_the_callback_sees_the_crossing() -> None:
    seen: list[float] = []
    solve(FLOW, X1, "rk4", steps=10, event=lambda t, _: t - 0.42, callback=lambda t, *_: seen.append(t))  # type: ignore[func-returns-value]  # noqa: E501  # fmt: skip
    assert seen[-1] == pytest.approx(0.42, abs=1e-6)
    assert seen[-2] > 0.42


def test_gradients_pass_through_the_last_step() -> None:
    x = X1.clone().requires_grad_()
    sol = solve(FLOW, x, "rk4", steps=40, clock="karras", grad=True, event=lambda t, _: t - 0.4)
    (gradient,) = torch.autograd.grad(sol.final.sum(), x)
    spread = [math.sqrt(STD**2 + float(SDE.marginal_std(torch.tensor(t)) ** 2)) for t in (0.4, 1.0)]
    assert torch.allclose(gradient, torch.full_like(x, spread[0] / spread[1]), atol=1e-4)


CONDITIONS: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda x: x[0, 0] < 3,
    "other way": lambda x: x[0, 0] >= 3,
    "bool": lambda x: bool(x[0, 0] < 3),
    "numpy": lambda x: x[0, 0].numpy() < 3,
    "array": lambda x: x[0, :1].numpy() < 3,
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS.keys())
@pytest.mark.parametrize("method", ["rk4", "dpmpp_2m", "dopri5"])
def test_a_condition_fires_when_it_changes(
    condition: Callable[[Tensor], object], method: str
) -> None:
    how = {"steps": None if method == "dopri5" else 40, "clock": "karras"}
    sol = solve(FLOW, X1, method, event=lambda _, x: condition(x), **how)  # type: ignore[arg-type]
    number = solve(FLOW, X1, method, event=lambda _, x: x[0, 0] - 3, **how)  # type: ignore[arg-type]
    step = float(number.ts[-3] - number.ts[-2])
    assert float(sol.ts[-1] - number.ts[-1]) == pytest.approx(0, abs=1e-5 * step)
    assert len(sol) == len(number)
    # It has changed there, and had not at the state before.
    assert float(sol.final[0, 0]) < 3 <= float(sol.ys[-2, 0, 0])


@pytest.mark.parametrize("constant", [True, False])
def test_a_condition_that_does_not_change(constant: bool) -> None:
    sol = solve(FLOW, X1, "rk4", steps=10, event=lambda *_: constant)
    assert float(sol.ts[-1]) == SDE.eps


@pytest.mark.parametrize("size", [1e-200, 5e-324 * 2**40, 1e300, math.inf])
def test_values_of_any_size(size: float) -> None:
    sol = solve(FLOW, X1, "rk4", steps=20, event=lambda t, _: size * (t - 0.3))
    assert float(sol.ts[-1]) == pytest.approx(0.3, abs=1e-6)


def test_mistakes() -> None:
    with pytest.raises(SolveError, match="the event returned NaN"):
        solve(FLOW, X1, "rk4", steps=5, event=lambda t, x: math.nan)
    with pytest.raises(InputError, match="chunk with event"):
        solve(FLOW, X1, "rk4", steps=5, chunk=1, event=lambda t, x: t - 0.5)
    with pytest.raises(SolveError, match="max_nfe = 12"):
        solve(FLOW, X1, "rk4", steps=5, max_nfe=12, event=lambda t, x: t - 0.5)
