"""`solve`: what it returns, what it keeps, what it refuses, and what it hands back."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from diffsde import (
    STOP,
    VESDE,
    BrownianPath,
    InputError,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    Trajectory,
    list_solvers,
    solve,
)
from diffsde.solvers.trajectory import Stats
from tests.launched import small_model

# Sweeps over all solvers hold one that warns, as it should: see test_a_solver_that_loses_the_law.
pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")

SDE = VESDE()
SHAPE = (1, 4, 4)
SCORE = MixtureScore(SDE, torch.stack([torch.full(SHAPE, 0.6), torch.full(SHAPE, -0.2)]), 0.2)
REV = ReverseSDE(SDE, SCORE, SHAPE)
FLOW = ProbabilityFlow(SDE, SCORE, SHAPE)
X1 = SDE.prior_sample((5, *SHAPE), seed=0)
UNDAMPED = "reversible_heun"  # blows up at the few steps that are enough for the others
FIXED = [row for row in list_solvers() if row.one_step is not None]


def problem(kind: str) -> ReverseSDE | ProbabilityFlow:
    return REV if kind == "sde" else FLOW


# -- what is returned --------------------------------------------------------------


def test_the_whole_trajectory() -> None:
    sol = solve(REV, X1, "euler", steps=50, seed=0)
    assert sol.ts.shape == (51,)
    assert sol.ts[0] == 1.0
    assert sol.ts[-1] == SDE.eps
    assert (sol.ts.diff() < 0).all()
    assert sol.ys.shape == (51, *X1.shape)
    assert torch.equal(sol.ys[0], X1)
    assert torch.equal(sol.final, sol.ys[-1])
    assert (sol.method, sol.shape) == ("euler", SHAPE)
    assert (sol.stats.nfe, sol.stats.steps, sol.stats.rejected) == (50, 50, 0)
    assert sol.stats.seconds > 0
    assert torch.allclose(sol.diffusion, 25.0**sol.ts)
    assert torch.allclose(sol.std, SDE.marginal_std(sol.ts))


@pytest.mark.parametrize("shape", [(5, 16), (5, 1, 4, 4)])
def test_states_have_the_caller_s_shape(shape: tuple[int, ...]) -> None:
    for row in FIXED:
        n = 200 if row.name == UNDAMPED else 3
        sol = solve(problem(row.kind), X1.reshape(shape), row.name, steps=n, adaptive=False)
        assert sol.ys.shape == (n + 1, *shape), row.name


def test_evaluations_are_counted_until_each_saved_state() -> None:
    settings = {"steps": 5, "denoise": True}
    assert solve(FLOW, X1, "heun2", **settings).evaluations.tolist() == [0, 2, 4, 6, 8, 10, 11]
    some = solve(FLOW, X1, "heun2", **settings | {"steps": 4}, save=3, chunk=2).evaluations
    assert some.tolist() == [0, 4, 8, 9]
    # One sample: of several, each has steps of its own.
    sol = solve(FLOW, X1[:1], "dopri5", rtol=1e-4, atol=1e-4, options={"beta": 0})
    costs = sol.evaluations.diff()[1:]  # of each step after the first
    assert sol.stats.rejected > 0
    assert costs.sum() == 6 * (sol.stats.steps - 1 + sol.stats.rejected)
    assert set((costs % 6).tolist()) == {0}
    assert sol.evaluations[-1] == sol.stats.nfe
    own = solve(REV, X1, "srk", seed=0, adaptive=True, rtol=0.1, atol=0.1, clock="karras")
    assert own.evaluations[-1] == own.stats.nfe


def test_the_tutorial_s_loop_is_what_em_does() -> None:
    """x ← x + g² score Δt + g √Δt z, on the nodes 1, …, ε, with the noise of the solve."""
    from diffsde.noise.normal import NormalTable
    from diffsde.noise.seeds import address_of

    x, table = X1.clone(), NormalTable(0, "brownian")
    ts = torch.linspace(1, SDE.eps, 41, dtype=torch.float64)
    for t, dt in zip(ts[:-1], -ts.diff(), strict=True):
        g = float(SDE.diffusion(t))
        z = table.rows(range(5), address_of(float(t)), SHAPE, torch.float32)
        x = x + g**2 * SCORE(x, t) * float(dt) + g * float(dt) ** 0.5 * z
    assert torch.allclose(solve(REV, X1, "em", steps=40, seed=0).final, x, atol=1e-4)
    assert torch.allclose(solve(REV, X1, "euler", steps=40, seed=0).final, x, atol=1e-4)


def test_a_seed_repeats_and_another_differs() -> None:
    a, b, c = (solve(REV, X1, "pc", steps=10, seed=s).final for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_without_a_seed_torch_s_generator_rules() -> None:
    torch.manual_seed(0)
    one = solve(REV, X1, "euler", steps=5).final
    torch.manual_seed(0)
    assert torch.equal(solve(REV, X1, "euler", steps=5).final, one)


def test_defaults() -> None:
    assert solve(FLOW, X1).method == "dopri5"
    sol = solve(REV, X1[:1], save="last")
    assert (sol.method, sol.stats.steps) == ("euler", 500)


def test_the_flow_runs_both_ways() -> None:
    there = solve(FLOW, X1, "rk4", steps=60, clock="karras").final
    back = solve(FLOW, there, "rk4", ts=[SDE.eps, 1.0], steps=60, clock="karras")
    assert back.ts[-1] == 1.0
    assert torch.allclose(back.final, X1, atol=2e-2)


def test_denoise_adds_the_clean_image() -> None:
    plain = solve(REV, X1, "euler", steps=20, seed=0)
    sol = solve(REV, X1, "euler", steps=20, seed=0, denoise=True)
    assert (len(sol), float(sol.ts[-1]), sol.stats.nfe) == (22, 0.0, 21)
    assert torch.allclose(sol.final, REV.denoise(plain.final, SDE.eps))


def test_estimates_stand_beside_the_states() -> None:
    sol = solve(REV, X1, "euler", steps=10, seed=0, save=3, estimates=True, denoise=True, chunk=2)
    assert sol.denoised is not None
    assert sol.denoised.shape == sol.ys.shape == (4, *X1.shape)
    assert sol.stats.nfe == 10 + 3 + 1
    for k in range(3):
        assert torch.allclose(sol.denoised[k], REV.denoise(sol.ys[k], sol.ts[k].float()), atol=1e-5)
    assert torch.equal(sol.denoised[3], sol.final)
    with pytest.raises(InputError, match="estimates: only a ReverseSDE"):
        solve(SDE, X1, ts=[0.0, 1.0], steps=2, estimates=True)


def test_a_path_in_chunks_says_all_that_a_whole_one_says() -> None:
    model = small_model()
    model.data_range = (-1.0, 1.0)
    x = model.sde.prior_sample((3, *model.shape), seed=0)
    whole, parts = (solve(model.flow(), x, "heun2", steps=2, chunk=c) for c in (None, 2))
    for name in ("ts", "method", "shape", "kind", "data_range", "clock", "evaluations", "std"):
        ours, theirs = getattr(parts, name), getattr(whole, name)
        same = torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs
        assert same, name
    assert torch.allclose(parts.images(), whole.images(), atol=1e-5)


# -- what is saved -----------------------------------------------------------------


def test_save_last_and_a_number() -> None:
    whole = solve(REV, X1, "euler", steps=20, seed=0)
    last = solve(REV, X1, "euler", steps=20, seed=0, save="last")
    assert last.ys.shape == (1, *X1.shape)
    assert torch.equal(last.final, whole.final)
    some = solve(REV, X1, "euler", steps=20, seed=0, save=5)
    assert torch.equal(some.ys, whole.ys[::5])
    assert torch.equal(some.ts, whole.ts[::5])


@pytest.mark.parametrize("row", FIXED, ids=[f"{r.kind}-{r.name}" for r in FIXED])
def test_saved_times_are_hit(row: object) -> None:
    """They are nodes: the same as a solve whose grid holds them."""
    times = [0.77, 0.31, 0.05]
    p, name = problem(row.kind), row.name  # type: ignore[attr-defined]
    n = 200 if name == UNDAMPED else 10
    sol = solve(p, X1, name, steps=n, seed=0, save=times, adaptive=False)
    assert sol.ts.tolist() == pytest.approx(times, abs=1e-12)
    even = torch.linspace(1, SDE.eps, n + 1, dtype=torch.float64).tolist()
    grid = sorted([*even, *times], reverse=True)
    dense = solve(p, X1, name, ts=grid, seed=0, adaptive=False)
    for t, state in zip(times, sol.ys, strict=True):
        k = int((dense.ts - t).abs().argmin())
        # float32; an undamped method amplifies rounding
        assert torch.allclose(state, dense.ys[k], atol=1e-2 if name == UNDAMPED else 1e-4)


def test_saved_times_of_adaptive_solvers_are_hit() -> None:
    times = [0.77, 0.31, SDE.eps]
    for name in ("dopri5", "bosh3", "scipy_solver"):
        sol = solve(FLOW, X1, name, save=times)
        assert sol.ts.tolist() == pytest.approx(times, abs=1e-12)
        exact = solve(FLOW, X1, "dopri8", rtol=1e-7, atol=1e-7, ts=[1.0, *times]).ys[1:]
        assert torch.allclose(sol.ys, exact, atol=5e-3), name


def test_an_adaptive_flow_keeps_its_own_steps() -> None:
    sol = solve(FLOW, X1, "dopri5", clock="log_sigma")
    alone = solve(FLOW, X1[:1], "dopri5", clock="log_sigma")
    assert len(sol) == len(alone) == alone.stats.steps + 1  # those of the first sample
    fixed = solve(FLOW, X1, "dopri5", clock="log_sigma", steps=30)
    assert len(fixed) == 31


def test_ts_are_the_nodes() -> None:
    ts = [1.0, 0.6, 0.2, 0.1]
    sol = solve(REV, X1, "euler", ts=ts, seed=0)
    assert sol.ts.tolist() == pytest.approx(ts)
    assert sol.stats.steps == 3


# -- samples and their noise ---------------------------------------------------------


@pytest.mark.parametrize("name", [r.name for r in list_solvers("sde")])
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    n = 200 if name == UNDAMPED else 12
    whole = solve(REV, X1, name, steps=n, seed=3).final
    part = solve(REV, X1[2:4], name, steps=n, seed=3, first=2).final
    chunked = solve(REV, X1, name, steps=n, seed=3, chunk=2).final
    assert torch.allclose(part, whole[2:4], atol=1e-5)
    assert torch.allclose(chunked, whole, atol=1e-5)


@pytest.mark.parametrize("settings", [{"steps": 12}, {"adaptive": True, "save": "last"}])
def test_chunks_of_a_later_part_keep_their_samples(settings: dict[str, object]) -> None:
    whole = solve(REV, X1, "srk", seed=3, **settings).final
    part = solve(REV, X1[1:], "srk", seed=3, first=1, chunk=2, **settings).final
    assert torch.allclose(part, whole[1:], atol=1e-5)
    assert not torch.allclose(solve(REV, X1[1:], "srk", seed=3, **settings).final, part, atol=1e-2)


def test_chunks_join_their_trajectories() -> None:
    whole = solve(REV, X1, "srk", steps=12, seed=3)
    sol = solve(REV, X1, "srk", steps=12, seed=3, chunk=2)
    assert sol.ys.shape == whole.ys.shape
    assert sol.stats.nfe == whole.stats.nfe
    with pytest.raises(InputError, match="every part would have times of its own"):
        solve(FLOW, X1, "dopri5", chunk=2)


def test_one_path_under_every_solver_and_step() -> None:
    noise = BrownianPath(1)  # no sample of it stands at the fork between the two clusters
    coarse, fine, other = (
        solve(REV, X1, name, steps=n, noise=noise, clock="log_sigma").final
        for name, n in (("euler", 64), ("euler", 128), ("srk", 128))
    )
    apart = solve(REV, X1, "euler", steps=64, seed=2, clock="log_sigma").final
    assert (fine - other).abs().mean() < (coarse - other).abs().mean() < 0.08
    assert (apart - other).abs().mean() > 0.1


def test_threads_do_not_disturb_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(seed: int) -> Tensor:
        return solve(REV, X1, "srk", steps=20, seed=seed).final

    alone = [one(s) for s in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(4)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


# -- stopping ----------------------------------------------------------------------


def test_a_callback_sees_each_step_and_may_stop() -> None:
    seen: list[tuple[float, torch.Size, int]] = []

    def look(t: float, x: Tensor, stats: Stats) -> object:
        seen.append((t, x.shape, stats.steps))
        return STOP if t < 0.5 else True  # nothing but STOP ends a solve

    sol = solve(REV, X1, "euler", steps=10, seed=0, callback=look)
    assert [s for _, _, s in seen] == [1, 2, 3, 4, 5, 6][: len(seen)]
    assert seen[0][1] == X1.shape
    assert len(sol) == len(seen) + 1
    assert float(sol.ts[-1]) < 0.5


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_steps": 4}, "max_steps = 4"),
        ({"max_nfe": 9}, "max_nfe = 9"),
        ({"max_seconds": 1e-9}, "max_seconds = 1e-09"),
    ],
)
def test_limits_raise_with_the_path_so_far(limit: dict[str, float], words: str) -> None:
    with pytest.raises(SolveError, match=words) as caught:
        solve(FLOW, X1, "midpoint", steps=10, **limit)  # type: ignore[arg-type]
    path = caught.value.trajectory
    assert isinstance(path, Trajectory)
    assert 2 <= len(path) <= 5
    assert torch.equal(path.ys[0], X1)
    assert torch.isfinite(path.ys).all()


# -- failing -----------------------------------------------------------------------


def breaking(what: object, after: float = 0.55) -> ReverseSDE:
    def score(x: Tensor, t: Tensor) -> Tensor:
        if float(t.min()) > after:
            return SCORE(x, t)
        if isinstance(what, BaseException):
            raise what
        return what(x)  # type: ignore[operator]

    return ReverseSDE(SDE, score, SHAPE)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda x: x * float("nan"), "score returned numbers that are not finite"),
        (lambda x: x[:, :, 1:], r"score returned \(5, 1, 3, 4\) for states of shape"),
        (lambda x: None, "score returned NoneType"),
        (ZeroDivisionError("inside"), "ZeroDivisionError: inside"),
    ],
)
@pytest.mark.parametrize("name", ["euler", "srk", "pc", "sde_dpmpp_2m"])
def test_a_failing_score_hands_back_the_path(what: object, words: str, name: str) -> None:
    with pytest.raises(SolveError, match=words) as caught:
        solve(breaking(what), X1, name, steps=10, seed=0, save="last")
    message = str(caught.value)
    assert name in message
    assert re.search(r"t = 0\.[56]", message)
    path = caught.value.trajectory
    assert 0.45 < float(path.ts[-1]) < 0.65
    assert path.stats.nfe > 0


@pytest.mark.parametrize("name", ["dopri5", "rk4", "scipy_solver", "dpmpp_2m"])
def test_a_failing_score_in_the_flow(name: str) -> None:
    broken = breaking(lambda x: x * float("nan"))
    with pytest.raises(SolveError, match="not finite") as caught:
        solve(ProbabilityFlow(SDE, broken.score, SHAPE), X1, name, steps=10)
    assert len(caught.value.trajectory) > 1


def test_a_blown_up_solve_raises_with_advice() -> None:
    with pytest.raises(SolveError, match="blown up.*torchdiffeq's own 12 diverges") as caught:
        solve(FLOW, X1, "explicit_adams", steps=40, options={"max_order": 12})
    assert torch.isfinite(caught.value.trajectory.ys).all()


def test_a_step_that_underflows() -> None:
    def steep(t: Tensor, x: Tensor) -> Tensor:
        return x / (0.5 - t).abs().clamp(min=1e-30) ** 2

    with pytest.raises(SolveError, match=r"dopri5 stopped .*(smallest step|not finite)") as caught:
        solve(steep, torch.ones(1, 1), "dopri5", ts=[0.0, 1.0], max_steps=10000)
    assert float(caught.value.trajectory.ts[-1]) < 0.5


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": X1 * float("nan")}, "x holds numbers that are not finite"),
        ({"x": X1.long()}, "expected a tensor of floating-point numbers"),
        ({"x": [1.0]}, "x = list: expected a tensor"),
        ({"x": torch.zeros(5)}, r"x has shape \(5,\): expected \(B, C, H, W\) or \(B, D\)"),
        ({"x": torch.zeros(0, 16)}, "x has shape"),
        ({"x": torch.zeros(5, 1, 5, 5)}, r"expected \(B, 1, 4, 4\), the shape of the problem"),
        ({"steps": 0}, "steps = 0: expected a whole number ≥ 1"),
        ({"steps": -3}, "steps = -3"),
        ({"steps": 2.5}, "steps = 2.5"),
        ({"steps": True}, "steps = True"),
        ({"steps": None, "ts": [1.0, 0.5, 0.7]}, "strictly decreasing"),
        ({"steps": None, "ts": [1.2, 0.5]}, r"expected times in \[0.001, 1\]"),
        ({"steps": None, "ts": [1.0, 0.0]}, "at t = 0 the noise vanishes"),
        ({"steps": None, "ts": [0.001, 1.0]}, "decreasing, from noise to data"),
        ({"steps": None, "ts": [1.0]}, "at least two times"),
        ({"steps": None, "ts": [1.0, float("nan")]}, "finite times"),
        ({"ts": [1.0, 0.5, 0.2]}, "give steps, or ts"),
        ({"save": "some"}, "save = 'some': expected 'all', 'last'"),
        ({"save": 1}, "save = 1: expected a whole number ≥ 2 of times"),
        ({"save": [0.2, 0.4]}, "in the order of the solve"),
        ({"save": [2.0]}, "save = .*expected times in"),
        ({"seed": -1}, "seed = -1"),
        ({"noise": 3}, "noise = int: expected a BrownianPath"),
        ({"noise": BrownianPath(0), "seed": 1}, "give one of them"),
        ({"clock": "karas"}, "did you mean 'karras'"),
        ({"options": {"snr": 0.1}}, "euler has no options"),
        ({"method": "pc", "options": {"srn": 0.1}}, "did you mean 'snr'"),
        ({"method": "sde_dpmpp_2m", "adaptive": True}, "takes fixed steps only"),
        ({"max_nfe": 0}, "max_nfe = 0"),
        ({"chunk": 0}, "chunk = 0"),
        ({"adaptive": True, "rtol": -1}, "rtol = -1: expected a number ≥ 0"),
    ],
)
def test_bad_input(arguments: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"x": X1, "method": "euler", "steps": 5, **arguments}
    with pytest.raises(InputError, match=words):
        solve(REV, **given)  # type: ignore[arg-type]


def test_bad_input_of_the_flow() -> None:
    with pytest.raises(InputError, match="an ODE has none"):
        solve(FLOW, X1, noise=BrownianPath(0))
    with pytest.raises(InputError, match="scipy_solver chooses its own steps"):
        solve(FLOW, X1, "scipy_solver", adaptive=False)
    with pytest.raises(InputError, match="rk4 takes fixed steps only"):
        solve(FLOW, X1, "rk4", adaptive=True)
    with pytest.raises(InputError, match="'solver'.*did you mean 'RK45'"):
        solve(FLOW, X1, "scipy_solver", options={"solver": "RK4"})
    with pytest.raises(InputError, match="only a ReverseSDE or a ProbabilityFlow"):
        solve(lambda t, y: -y, X1, ts=[0.0, 1.0], denoise=True)
    with pytest.raises(InputError, match="problem = str"):
        solve("flow", X1, ts=[0.0, 1.0])


def test_an_unknown_keyword_is_python_s_own_error() -> None:
    with pytest.raises(TypeError, match="stepz"):
        solve(REV, X1, stepz=3)  # type: ignore[call-arg]
