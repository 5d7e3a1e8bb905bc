"""Work against precision: budgets are kept, and errors fall with the order of the method."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffsde import BrownianPath, InputError, UnknownSolverError, solve
from diffsde.analysis import budgets
from diffsde.analysis.budgets import work_precision
from diffsde.analysis.references import refined
from diffsde.analysis.work_table import WorkPrecision
from diffsde.views import plot_work_precision
from tests.problems import flow, mild, mixture, reverse

SCORE = mixture(mild(), 4).double()
X = SCORE.sample(8, 1.0, seed=0).double()
FLOW, REV = flow(SCORE), reverse(SCORE)
EXACT = solve(FLOW, X, "dopri8", save="last", rtol=1e-10, atol=1e-10).final


def errors(table: WorkPrecision, method: str) -> list[float]:
    return [row.error for row in table.rows if row.method == method]


def test_a_budget_is_spent_and_not_exceeded() -> None:
    table = work_precision(
        FLOW, ["euler", "heun2", "rk4", "dpmpp_2m"], [3, 10, 41], x=X, reference=EXACT
    )
    spent = {(row.method, row.nfe): row.steps for row in table.rows}
    assert spent == {
        ("euler", 3): 3, ("euler", 10): 10, ("euler", 41): 41,
        ("heun2", 2): 1, ("heun2", 10): 5, ("heun2", 40): 20,
        ("rk4", 8): 2, ("rk4", 40): 10,
        ("dpmpp_2m", 3): 3, ("dpmpp_2m", 10): 10, ("dpmpp_2m", 41): 41,
    }  # fmt: skip


def test_the_budget_pays_for_the_denoising_evaluation() -> None:
    """Of every solve, and the reference is denoised as well."""
    table = work_precision(FLOW, ["euler", "heun2"], [3, 4, 41], x=X, clock="karras", denoise=True)
    spent = [(row.method, row.steps, row.nfe) for row in table.rows]
    assert spent == [
        ("euler", 2, 3), ("euler", 3, 4), ("euler", 40, 41),
        ("heun2", 1, 3), ("heun2", 20, 41),  # 4 evaluations pay for one step, as 3 do
    ]  # fmt: skip
    how = {"clock": "karras", "save": "last", "denoise": True}
    ends = [solve(FLOW, X, "euler", steps=n, **how).final for n in (40, 1000)]
    assert errors(table, "euler")[2] == pytest.approx(rms(ends[0] - ends[1]), rel=0.1)


def test_the_cost_of_a_step_is_measured_where_no_row_states_it() -> None:
    table = work_precision(FLOW, ["implicit_adams"], [60], x=X, reference=EXACT)
    assert 30 <= table.rows[0].nfe <= 66


def test_errors_fall_with_the_order_of_the_method() -> None:
    table = work_precision(FLOW, ["euler", "heun2", "rk4"], [128, 256], x=X, reference=EXACT)
    for method, order in {"euler": 1, "heun2": 2, "rk4": 4}.items():
        coarse, fine = errors(table, method)
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3), method


def test_strong_errors_are_on_one_brownian_path() -> None:
    table = work_precision(REV, ["euler", "srk"], [8, 32], x=X, seed=3)
    by_hand = solve(REV, X, "euler", steps=8, noise=BrownianPath(3)).final
    exact = solve(REV, X, "srk", steps=32 * 32, noise=BrownianPath(3)).final
    assert errors(table, "euler")[0] == pytest.approx(rms(by_hand - exact), rel=1e-2)
    assert errors(table, "srk")[1] < errors(table, "euler")[1] / 3


def test_a_weak_error_is_of_the_laws() -> None:
    """Permuted final states have the same law, but are far away path by path."""
    weak, strong = (
        work_precision(FLOW, ["rk4"], [160], x=X, reference=EXACT.flip(0), measure=m).rows[0].error
        for m in ("weak", "strong")
    )
    assert weak < 1e-4 < 0.1 < strong


@pytest.mark.parametrize(("shift", "factor"), [(0.1, 1.0), (0.0, 1.5), (0.1, 0.8)])
def test_a_weak_error_is_of_mean_and_std(shift: float, factor: float) -> None:
    """Between laws that differ by a shift and a factor it is known: see the module."""
    mean, std = EXACT.mean(0), EXACT.std(0)
    reference = mean + shift + factor * (EXACT - mean)
    found = work_precision(FLOW, ["rk4"], [640], x=X, reference=reference, measure="weak").rows[0]
    exact = math.sqrt(float((shift**2 + ((factor - 1) * std) ** 2).mean()))
    assert found.error == pytest.approx(exact, rel=1e-4)


def test_adaptive_methods_run_at_tolerances() -> None:
    table = work_precision(FLOW, ["bosh3"], [10], x=X, tolerances=[1e-2, 1e-4], reference=EXACT)
    loose, tight = table.rows
    assert loose.nfe < tight.nfe
    assert loose.error > tight.error


def test_a_line_for_each_method_in_each_clock(tmp_path: Path) -> None:
    table = work_precision(FLOW, ["heun2"], [10, 20], x=X, clock=["t", "karras"], reference=EXACT)
    assert [row.clock for row in table.rows] == ["t", "t", "karras", "karras"]
    assert {row["method"] for row in table} == {"heun2, t", "heun2, karras"}
    figure = plot_work_precision(table, tmp_path / "table.png")
    assert len(figure.axes[0].lines) == 2


def test_a_blown_up_solve_is_a_row_of_infinite_error() -> None:
    def stiff(_: Tensor, x: Tensor) -> Tensor:
        return -1e3 * (x - 1) ** 3

    exact = torch.ones(2, 1)
    table = work_precision(
        stiff, ["euler"], [30], x=torch.full((2, 1), 9.0), ts=[0.0, 1.0], reference=exact
    )
    assert table.rows[0].error == math.inf
    assert table.rows[0].steps < 30


def test_text_and_file(tmp_path: Path) -> None:
    table = work_precision(FLOW, ["euler", "heun2"], [10], x=X, reference=EXACT)
    head, *lines = str(table).splitlines()
    names = ["method", "clock", "steps", "nfe", "seconds", "strong", "error", "reference", "±"]
    assert head.split() == names
    assert [line.split()[:4] for line in lines] == [
        ["euler", "t", "10", "10"],
        ["heun2", "t", "5", "10"],
    ]
    rows = list(csv.DictReader(table.save(tmp_path / "table.csv").open()))
    assert [float(row["error"]) for row in rows] == [row.error for row in table.rows]


def test_the_best_within_a_budget() -> None:
    table = work_precision(
        FLOW, ["euler", "dpmpp_2m"], [10, 20], x=X, clock="karras", reference=EXACT
    )
    assert table.best(12).nfe == 10
    assert table.best(20).error == min(row.error for row in table.rows)
    with pytest.raises(InputError, match="the least is 10"):
        table.best(5)


def test_states_are_drawn_from_the_prior() -> None:
    table = work_precision(FLOW, ["euler"], [10], n=8, seed=1, reference=EXACT)
    x = SCORE.sde.prior_sample((8, 4), seed=1)
    by_hand = solve(FLOW, x, "euler", steps=10).final
    assert table.rows[0].error == pytest.approx(rms(by_hand - EXACT))


def test_the_reference_of_a_flow_is_fine() -> None:
    table = work_precision(FLOW, ["rk4"], [80], x=X[:1])
    by_hand = solve(FLOW, X[:1], "rk4", steps=20).final
    assert table.rows[0].error == pytest.approx(rms(by_hand - EXACT[:1]), rel=1e-4)


@pytest.mark.parametrize("clock", ["t", "karras"])
@pytest.mark.parametrize("measure", ["strong", "weak"])
def test_a_reference_is_ten_times_as_good_as_what_it_judges(clock: str, measure: str) -> None:
    table = work_precision(
        FLOW, ["euler", "rk4", "unipc"], [12, 48], x=X, clock=clock, measure=measure
    )
    own = {row.reference for row in table.rows}
    assert len(own) == 1
    assert 0 < max(own) <= 0.1 * min(row.error for row in table.rows)
    given = work_precision(
        FLOW, ["euler", "rk4", "unipc"], [12, 48], x=X, clock=clock, measure=measure,
        reference=EXACT,
    )  # fmt: skip
    for row, other in zip(table.rows, given.rows, strict=True):
        assert row.error == pytest.approx(other.error, abs=2 * row.reference)
        assert math.isnan(other.reference)


def test_the_reference_of_an_sde_is_refined_in_every_clock() -> None:
    table = work_precision(REV, ["euler", "shark"], [16, 32], x=X, clock=["t", "log_sigma"])
    for clock in ("t", "log_sigma"):
        rows = [row for row in table.rows if row.clock == clock]
        assert 0 < rows[0].reference <= 0.1 * min(row.error for row in rows)
    assert len({row.reference for row in table.rows}) == 2


def test_the_reference_of_a_flow_is_solved_once_for_all_clocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solved: list[object] = []
    real = budgets.solve

    def counted(problem: object, x: Tensor, method: str, **how: object) -> object:
        solved.append((method, how.get("steps")))
        return real(problem, x, method, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(budgets, "solve", counted)
    table = work_precision(FLOW, ["euler", "rk4"], [16], x=X, clock=["t", "karras"])
    fine = [one for one in solved if one[0] == "dopri8"]  # type: ignore[index]
    assert len(fine) == len(set(fine)) >= 2
    (own,) = {row.reference for row in table.rows}
    assert 0 < own <= 0.1 * min(row.error for row in table.rows)


def test_a_reference_that_cannot_be_good_enough_says_how_good_it_is() -> None:
    """Steps in float32 do not agree beyond their rounding."""
    single = X.float()
    exact = solve(FLOW, single, "rk4", steps=200, clock="log_sigma").final
    found = refined(
        lambda n: solve(FLOW, single, "rk4", steps=n, clock="log_sigma").final,
        25, 100, [exact + 1e-9], lambda x, y: rms(x - y),
    )  # fmt: skip
    assert 0 < found.error < 1e-4
    assert rms(found.states - exact) < 2 * found.error


def test_states_in_float32_have_a_reference_in_float64() -> None:
    table = work_precision(FLOW, ["unipc"], [40], x=X.float(), clock="karras")
    assert table.rows[0].reference < 1e-6 < table.rows[0].error

    class Single(torch.nn.Module):
        """A drift that takes float32 alone."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.eye(4))

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            change: Tensor = -x @ self.weight
            return change

    own = Single()
    own.interval = (0.0, 1.0)  # type: ignore[assignment]
    row = work_precision(own, ["euler"], [10], x=X.float()).rows[0]
    assert 0 <= row.reference < 1e-5 < row.error


def test_mistakes() -> None:
    with pytest.raises(UnknownSolverError, match="'srk' solves an SDE"):
        work_precision(FLOW, ["srk"], [10], x=X)
    with pytest.raises(InputError, match="measure = 'stron': did you mean 'strong'"):
        work_precision(FLOW, ["euler"], [10], x=X, measure="stron")
    with pytest.raises(InputError, match="a function has no prior to draw from"):
        work_precision(lambda _, x: -x, ["euler"], [10], ts=[0.0, 1.0])
    with pytest.raises(InputError, match=r"reference has shape \(3, 4\): expected \(8, 4\)"):
        work_precision(FLOW, ["euler"], [10], x=X, reference=X[:3])
    with pytest.raises(InputError, match="a Brownian path belongs to a clock"):
        work_precision(REV, ["euler"], [10], x=X, reference=X, clock=["t", "karras"])
    with pytest.raises(InputError, match="expected at least one of each"):
        work_precision(FLOW, [], [10], x=X)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
