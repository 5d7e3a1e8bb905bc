"""Trajectories: views of the path, and files."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffsde import (
    VESDE,
    CheckpointError,
    InputError,
    LimitError,
    ScoreModel,
    ScoreUNet,
    Trajectory,
    list_solvers,
    save_model,
    solve,
)
from diffsde.system.tensorfile import write_tensors
from tests.problems import flow, gaussian, reverse

SCORE = gaussian(dims=16)
SOL = solve(flow(SCORE), SCORE.sample(3, 1.0, seed=0), "rk4", steps=7)


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    found = Trajectory.load(SOL.save(tmp_path / "path.safetensors"))
    for name in ("ts", "ys", "diffusion", "std", "evaluations"):
        assert torch.equal(getattr(found, name), getattr(SOL, name))
    assert (found.method, found.stats, found.shape) == (SOL.method, SOL.stats, SOL.shape)
    assert found.denoised is None
    assert found.kind == "ode"


def test_a_path_knows_what_it_solved(tmp_path: Path) -> None:
    x = SCORE.sample(3, 1.0, seed=0)
    with pytest.raises(LimitError) as stop:
        solve(reverse(SCORE), x, "em", steps=4, seed=0, max_steps=2)
    stopped = stop.value.trajectory
    chunks = solve(reverse(SCORE), x, "em", steps=4, seed=0, chunk=2)
    for path in (stopped, stopped.resume(), chunks, chunks.to(torch.float64)):
        assert path.kind == "sde"
    assert solve(lambda t, x: -x, x, "euler", ts=torch.tensor([0.0, 1.0]), steps=2).kind == "ode"


def test_files_of_old_do_not_say_what_was_solved(tmp_path: Path) -> None:
    tensors, notes = {"ts": SOL.ts, "ys": SOL.ys}, {"method": "em", "shape": [16]}
    notes["stats"] = {"nfe": 1, "steps": 1, "rejected": 0, "seconds": 1.0}
    old = write_tensors(tmp_path / "old.safetensors", tensors, {"trajectory": notes})
    assert Trajectory.load(old).kind is None
    wrong = {"trajectory": notes | {"kind": "pde"}}
    with pytest.raises(CheckpointError, match="'sde' or 'ode', found 'pde'"):
        Trajectory.load(write_tensors(tmp_path / "wrong.safetensors", tensors, wrong))


def test_a_loaded_path_has_no_equation(tmp_path: Path) -> None:
    found = Trajectory.load(SOL.save(tmp_path / "path.safetensors"))
    with pytest.raises(InputError, match="read from a file"):
        found(0.5)


def test_images_are_clipped() -> None:
    images = Trajectory(SOL.ts, SOL.ys, "rk4", shape=(1, 4, 4)).images()
    assert images.shape == (3, 1, 4, 4)
    assert images.min() >= 0
    assert images.max() <= 1
    first = Trajectory(SOL.ts, SOL.ys.reshape(8, 3, 1, 4, 4), "rk4").images(0)
    assert torch.equal(first.flatten(1), SOL.ys[0].clamp(0, 1))
    with pytest.raises(InputError, match=r"expected \(B, C, H, W\).*shape=.*plot_paths"):
        SOL.images()


def test_foreign_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        Trajectory.load(tmp_path / "nothing.safetensors")
    path = SOL.save(tmp_path / "path.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cut short"):
        Trajectory.load(path)
    sde = VESDE()
    model = save_model(ScoreModel(ScoreUNet(sde), sde, (1, 28, 28)), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a trajectory"):
        Trajectory.load(model)
    notes = {"trajectory": {"method": 3, "stats": {}, "shape": []}}
    wrong = write_tensors(tmp_path / "w.safetensors", {"ts": SOL.ts, "ys": SOL.ys}, notes)
    with pytest.raises(CheckpointError, match="expected a name"):
        Trajectory.load(wrong)
    notes["trajectory"]["method"] = "rk4"
    wrong = write_tensors(tmp_path / "w.safetensors", {"ts": SOL.ts[1:], "ys": SOL.ys}, notes)
    with pytest.raises(CheckpointError, match="one number of frames"):
        Trajectory.load(wrong)
    states = {"ts": SOL.ts, "ys": SOL.ys, "evaluations": SOL.ts}
    wrong = write_tensors(tmp_path / "w.safetensors", states, notes)
    with pytest.raises(CheckpointError, match=r"evaluations of torch.float64: expected whole"):
        Trajectory.load(wrong)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = SOL.save(tmp_path / "path.safetensors")
    before = path.read_bytes()
    broken = Trajectory(SOL.ts, SOL.ys, "rk4", shape=(1,), std=object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["path.safetensors"]


def test_to_another_dtype() -> None:
    assert SOL.to(torch.float64).ys.dtype == torch.float64
    assert torch.equal(SOL.to(torch.float64)(0.5).float(), SOL(0.5))
    assert torch.equal(SOL.to(torch.float64).evaluations, SOL.evaluations)


# -- copies, parts, iteration --------------------------------------------------------------


def _saved_by_torch(sol: Trajectory) -> Trajectory:
    file = io.BytesIO()
    torch.save(sol, file)
    file.seek(0)
    found: Trajectory = torch.load(file, weights_only=False)
    return found


@pytest.mark.parametrize(
    "copied",
    [lambda sol: pickle.loads(pickle.dumps(sol)), _saved_by_torch, copy.copy, copy.deepcopy],
    ids=["pickle", "torch.save", "copy", "deepcopy"],
)
@pytest.mark.parametrize("row", list_solvers(), ids=lambda row: f"{row.kind}-{row.name}")
def test_a_path_of_every_solver_travels(row: Any, copied: Callable[[Trajectory], Any]) -> None:
    problem = (flow if row.kind == "ode" else reverse)(SCORE)
    how: dict[str, Any] = {} if row.adaptive else {"steps": 4}
    sol = solve(problem, SCORE.sample(2, 1.0, seed=0), row.name, seed=0, **how)
    found = copied(sol)
    for name in ("ts", "ys", "diffusion", "std", "evaluations"):
        assert torch.equal(getattr(found, name), getattr(sol, name))
    assert (found.method, found.stats, found.shape) == (sol.method, sol.stats, sol.shape)
    with pytest.raises(InputError, match="copied or pickled"):
        found(0.5)
    with pytest.raises(InputError, match="copied or pickled"):
        found.resume()


def _fails(_: int) -> None:
    solve(reverse(SCORE), SCORE.sample(2, 1.0, seed=0), "euler", steps=9, max_nfe=4, seed=0)


def test_an_error_in_a_worker_process_reaches_the_caller() -> None:
    """The context is that of a script's `Pool`: what cannot be unpickled would hang it."""
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(LimitError, match="max_nfe = 4") as caught,
    ):
        pool.map_async(_fails, [0]).get(timeout=120)
    assert caught.value.trajectory.stats.steps == 4


def test_a_part_of_the_samples_is_their_path() -> None:
    sol = solve(flow(SCORE), SCORE.sample(5, 1.0, seed=0), "rk4", steps=4, estimates=True)
    for which, index in ((1, [1]), (-1, [4]), (slice(1, 4), [1, 2, 3]), ([3, 0], [3, 0])):
        part = sol.sample(which)
        assert torch.equal(part.ys, sol.ys[:, index])
        assert torch.equal(part.denoised, sol.denoised[:, index])  # type: ignore[arg-type, index]
        assert torch.equal(part(0.3), sol(0.3)[index])
        assert part.stats == sol.stats
    for wrong in (5, -6, "first", [0, 9], 1.0):
        with pytest.raises(InputError, match="expected indices from 0 to 4"):
            sol.sample(wrong)  # type: ignore[arg-type]


def test_iteration_gives_times_with_their_states() -> None:
    pairs = list(SOL)
    assert len(pairs) == len(SOL)
    assert [t for t, _ in pairs] == SOL.ts.tolist()
    assert all(torch.equal(x, SOL.ys[k]) for k, (_, x) in enumerate(pairs))
