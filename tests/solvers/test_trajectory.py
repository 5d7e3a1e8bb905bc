"""Trajectories: views of the path, and files."""

from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(InputError, match="loaded from a file"):
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
