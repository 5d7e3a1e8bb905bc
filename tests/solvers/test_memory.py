"""What a solve keeps in memory: counted in states, from the tensors that are alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from torch import Tensor

from diffsde import BrownianPath, Trajectory, list_solvers, solve
from diffsde.solvers.registry import Solver
from tests.problems import flow, gaussian, reverse

# Sweeps over all solvers hold one that warns, as it should: see test_a_solver_that_loses_the_law.
pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

SCORE = gaussian(dims=300)
PROBLEMS = {"sde": reverse(SCORE), "ode": flow(SCORE)}
X1 = SCORE.sample(2, 1.0, seed=0)
STATE = X1.numel() * X1.element_size()
ROWS = list_solvers()
# The most that a step needs: the state, slopes of its stages, what the library makes of them.
MANY = {"dopri8": 45}


@pytest.fixture(autouse=True)
def _from_here() -> Iterator[None]:
    """Count what this test makes alone; without the collector, so that no cycle goes unseen."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def alive() -> float:
    """States held by the tensors made in this test and alive, small ones apart."""
    tensors = [o for o in gc.get_objects() if isinstance(o, Tensor)]
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    sizes.pop(X1.untyped_storage().data_ptr(), None)  # the caller's own
    return sum(size for size in sizes.values() if size >= STATE) / STATE


def highest(row: Solver, steps: int, **how: object) -> tuple[float, Trajectory]:
    """The most states alive after a step; and the path."""
    found = 0.0

    def look(*_: object) -> None:
        nonlocal found
        if row.name == "scipy_solver":  # SciPy's steppers are cycles
            gc.collect()
        found = max(found, alive())

    how = {"save": "last", "seed": 0, "clock": "log_sigma", **how}
    sol = solve(PROBLEMS[row.kind], X1, row.name, steps=steps, callback=look, **how)  # type: ignore[arg-type]
    return found, sol


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind}-{row.name}" for row in ROWS])
def test_with_the_last_state_alone_length_costs_nothing(row: Solver) -> None:
    enough = 20 if "adams" in row.name else 6  # steps for a method to remember all that it will
    short, long = (highest(row, steps)[0] for steps in (enough, enough + 8))
    # A state of the whole batch waits for the sample that is last to reach its time.
    assert long <= short + (2 if row.adaptive else 0)
    assert long <= MANY.get(row.name, 16)


@pytest.mark.parametrize(("kind", "name"), [("sde", "euler"), ("ode", "dpmpp_2m"), ("ode", "rk4")])
def test_with_saved_times_what_is_saved_and_no_more(kind: str, name: str) -> None:
    row = next(row for row in ROWS if (row.kind, row.name) == (kind, name))
    last = highest(row, 60)[0]
    for saved in (5, 20):
        assert highest(row, 60, save=saved)[0] <= last + saved


@pytest.mark.parametrize("how", [{"save": 12}, {"save": "all"}, {"save": 12, "chunk": 1}])
@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_a_trajectory_holds_its_states_alone(kind: str, how: dict[str, object]) -> None:
    noise = {"noise": BrownianPath(0)} if kind == "sde" else {}
    sol = solve(PROBLEMS[kind], X1, "euler", steps=33, **noise, **how)  # type: ignore[arg-type]
    assert alive() == len(sol)
    assert sol(0.5).shape == X1.shape  # dense output was among what is held
    assert alive() == len(sol)
