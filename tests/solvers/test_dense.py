"""Dense output: between the saved states, to the solver's order, on the same path."""

from __future__ import annotations

import pytest
import torch

from diffsde import BrownianPath, InputError, solve
from tests.problems import flow, mild, mixture, reverse

SCORE = mixture(mild(), 4).double()
X1 = SCORE.sample(8, 1.0, seed=0).double()
TIMES = (0.93, 0.512, 0.1234)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("euler", 6e-2), ("midpoint", 2e-3), ("rk4", 1e-5), ("dpmpp_2m", 1e-3), ("dopri5", 3e-4),
     ("scipy_solver", 1e-4), ("implicit_adams", 1e-4), ("heun_edm", 2e-3)],
)  # fmt: skip
def test_a_flow_between_its_steps(name: str, tolerance: float) -> None:
    """The tolerance is about twice the solver's own error at its nodes.

    The interpolant of dopri5 is of order 4: in six batches it is off by 1.5e-4 at most.
    """
    steps = None if name in ("dopri5", "scipy_solver") else {"dpmpp_2m": 80}.get(name, 40)
    sol = solve(flow(SCORE), X1, name, steps=steps)
    for t in TIMES:
        exact = solve(flow(SCORE), X1, "dopri8", rtol=1e-10, atol=1e-10, ts=[1.0, t]).final
        assert (sol(t) - exact).abs().max() < tolerance


def test_it_agrees_with_what_was_saved() -> None:
    sol = solve(flow(SCORE), X1, "rk4", steps=10)
    for k in (0, 4, 10):
        assert torch.equal(sol(float(sol.ts[k])), sol.ys[k])
    last = solve(flow(SCORE), X1, "rk4", steps=10, save=3)
    assert torch.allclose(last(0.77), sol(0.77))


def test_an_sde_lies_on_its_path() -> None:
    noise = BrownianPath(0)
    sol = solve(reverse(SCORE), X1, "srk", steps=32, noise=noise)
    fine = solve(reverse(SCORE), X1, "srk", steps=256, noise=noise)
    for t in TIMES:
        exact = fine(t)
        straight = torch.lerp(*_neighbours(sol, t))
        assert (sol(t) - exact).abs().max() < 0.05
        assert (straight - exact).abs().max() > 0.1  # what a straight line would give


def _neighbours(sol: object, t: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    ts = sol.ts  # type: ignore[attr-defined]
    k = int((ts >= t).sum()) - 1
    weight = float((ts[k] - t) / (ts[k] - ts[k + 1]))
    return sol.ys[k], sol.ys[k + 1], weight  # type: ignore[attr-defined]


def test_chunks() -> None:
    sol, whole = (solve(flow(SCORE), X1, "rk4", steps=10, chunk=c) for c in (3, None))
    assert torch.allclose(sol(0.44), whole(0.44), atol=1e-12)


def test_errors() -> None:
    sol = solve(reverse(SCORE), X1, "srk", steps=10, seed=0)
    with pytest.raises(InputError, match="give noise=BrownianPath"):
        sol(0.777)
    with pytest.raises(InputError, match="t = 1.5: expected a time between 0.1 and 1"):
        sol(1.5)
    with pytest.raises(InputError, match="sde_dpmpp_2m with noise has no dense output"):
        solve(reverse(SCORE), X1, "sde_dpmpp_2m", steps=10, seed=0)(0.777)
