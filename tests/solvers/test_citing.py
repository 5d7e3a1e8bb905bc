"""Every solver says what to cite, and every work that is named can be cited."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diffsde import Trajectory, cite, list_solvers, solve
from diffsde.errors import InputError
from diffsde.solvers.registry import Solver
from diffsde.solvers.works import WORKS
from tests.problems import flow, gaussian, reverse

ROWS = list_solvers()


@pytest.mark.filterwarnings("ignore:reversible_heun")
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind}-{row.name}" for row in ROWS])
def test_every_solver_is_cited(row: Solver, tmp_path: Path) -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    problem = (reverse if row.kind == "sde" else flow)(score)
    sol = solve(problem, x, row.name, steps=3, clock="karras", seed=0, save="last")
    found = dict(cite(sol))
    assert found["solver"] == f"{row.name}: {row.source}"
    assert "2011.13456" in found["equations"]
    assert "2206.00364" in found["clock"]
    assert (row.family in found) == (row.family != "diffsde")
    assert str(cite(Trajectory.load(sol.save(tmp_path / "sol")))) == str(cite(sol))
    numbers = set(re.findall(r"\d{4}\.\d{5}", str(cite(sol))))
    assert set(re.findall(r"eprint +=.{1,3}(\d{4}\.\d{5})", cite(sol).bibtex)) == numbers


def test_every_work_is_used_and_every_number_is_known() -> None:
    named = set(re.findall(r"\d{4}\.\d{5}", " ".join(row.source for row in ROWS)))
    libraries = {"1806.07366", "2001.01328", "2105.13493", "2206.00364", "2011.13456"}
    assert named | libraries == set(WORKS)
    assert len({work.key for work in WORKS.values()}) == len(WORKS)


def test_a_clock_without_a_source_and_an_equation_of_one_s_own() -> None:
    score = gaussian()
    x = score.sample(2, 1.0, seed=0)
    assert "clock" not in dict(cite(solve(flow(score), x, "euler", steps=3)))
    own = cite(solve(lambda t, x: -x, x, "euler", ts=[0.0, 1.0], steps=3))
    assert [what for what, _ in own] == ["solver", "torchdiffeq"]


def test_a_path_that_no_solver_made() -> None:
    score = gaussian()
    sol = solve(flow(score), score.sample(2, 1.0, seed=0), "euler", steps=3)
    sol.method = "mine"
    with pytest.raises(InputError, match="mine"):
        cite(sol)
