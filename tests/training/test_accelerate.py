"""Several processes do what one does: a real launch of two against this process alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor

from diffsde.errors import InputError
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.scores.model import ScoreModel
from diffsde.system.launch import launched_processes
from diffsde.system.tensorfile import read_tensors
from diffsde.training import loop
from diffsde.training.loop import train
from diffsde.training.noise import TrainingNoise
from diffsde.training.run_folder import RunFolder
from tests import launched

State = tuple[dict[str, Tensor], dict[str, Any]]

# Gradients of two halves are summed in another order: each number changes by 1e-7, and Adam,
# which divides by the gradient's size, carries that into the weights of ten updates.
CURVE = 1e-5


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    before = launched.training._LOG_EVERY
    launched.work(folder)
    launched.training._LOG_EVERY = before
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same work by two processes."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", "tests.launched", str(folder)]
    root = Path(__file__).parents[2]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def state(folder: Path) -> State:
    return read_tensors(RunFolder(folder / "run", 1).newest())


def assert_same_run(one: State, other: State) -> None:
    (tensors, notes), (others, other_notes) = one, other
    assert [step for step, _ in notes["losses"]] == [*range(1, 9)]
    for (_, a), (_, b) in zip(notes["losses"], other_notes["losses"], strict=True):
        assert a == pytest.approx(b, rel=CURVE)
    for (_, a), (_, b) in zip(notes["held_out"], other_notes["held_out"], strict=True):
        assert a == pytest.approx(b, rel=CURVE)
    assert tensors.keys() == others.keys()


def test_two_processes_train_as_one(alone: Path, together: Path) -> None:
    assert_same_run(state(alone), state(together))
    for name in ("model.safetensors", "loss.csv", "loss.png"):
        assert (together / "run" / name).stat().st_size > 0


def test_chunks_do_not_matter_to_images() -> None:
    """Another chunk size changes an image by rounding alone."""
    model, sampler = launched.small_model(), Sampler("euler", steps=4)
    draws = [
        sample_images(model, sampler, 60, seed=5, chunk=size, progress=False).images
        for size in (60, 7)
    ]
    # Images are kept in 256 levels, so rounding may rarely move a pixel to the next one.
    assert (draws[0] - draws[1]).abs().max() < 1.001 / 255
    assert (draws[0] != draws[1]).float().mean() < 1e-3


@pytest.fixture
def log_every_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """`launched.work` logs the loss of every update; other tests do not want that."""
    monkeypatch.setattr(launched.training, "_LOG_EVERY", launched.training._LOG_EVERY)


@pytest.mark.usefixtures("log_every_restored")
def test_gradients_in_parts_are_those_of_the_whole(alone: Path, tmp_path: Path) -> None:
    launched.work(tmp_path, accumulate=4)
    assert_same_run(state(alone), state(tmp_path))


@pytest.mark.usefixtures("log_every_restored")
def test_a_batch_must_divide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size = 16 on 1 processes, in 3 parts"):
        launched.work(tmp_path, accumulate=3)


def test_numbers_belong_to_a_position() -> None:
    noise = TrainingNoise(3, "training", 2 + 7 * 7)
    whole = noise.draw(5, range(12))
    assert whole.shape == (12, 51)
    for first, last in ((0, 5), (5, 12), (11, 12)):
        # Vectorised logarithms may round differently at the end of a shorter array.
        assert torch.allclose(noise.draw(5, range(first, last)), whole[first:last], atol=1e-6)
    assert not torch.isclose(whole, noise.draw(6, range(12)), atol=1e-3).all(1).any()
    assert not torch.isclose(whole[0], whole[1], atol=1e-3).all()


def test_numbers_are_standard_normal() -> None:
    drawn = TrainingNoise(0, "training", 800).draw(0, range(1000)).double()
    n = drawn.numel()
    # Five standard deviations of each moment of n independent normal numbers.
    assert abs(drawn.mean()) < 5 / n**0.5
    assert abs(drawn.square().mean() - 1) < 5 * (2 / n) ** 0.5
    assert abs(drawn.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
    correlations = torch.corrcoef(drawn.T[:50])
    assert (correlations - torch.eye(50)).abs().max() < 6 / 1000**0.5
    share = torch.special.ndtr(drawn.flatten()).sort().values
    even = (torch.arange(n) + 0.5) / n
    assert (share - even).abs().max() < 2.2 / n**0.5  # Kolmogorov's 1e-4 quantile


def test_processes_that_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match=r"WORLD_SIZE = 4.*sees 1"):
        launched_processes()


def test_the_launchers_precision_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match=r"mixed precision 'fp16'.*--precision"):
        train(tmp_path, launched.images())


def test_a_model_in_parts_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its weights, averages and states are taken as a whole here."""
    kind = property(lambda _: DistributedType.FSDP)
    monkeypatch.setattr(Accelerator, "distributed_type", kind)
    with pytest.raises(InputError, match=r"asks for FSDP.*holds the whole model.*--multi_gpu"):
        train(tmp_path, launched.images(), launched.RECIPE)


def test_the_model_comes_back_to_where_the_caller_had_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    went: list[torch.device] = []
    to = ScoreModel.to

    def moved(model: ScoreModel, device: torch.device) -> ScoreModel:
        went.append(torch.device(device))
        return to(model, "cpu")

    monkeypatch.setattr(ScoreModel, "to", moved)
    recipe = replace(launched.RECIPE, epochs=1)
    monkeypatch.setattr(loop, "device_of", lambda _: torch.device("cuda", 1))
    start = launched.small_model(3)
    train(tmp_path / "a", launched.images(), recipe, start_from=start, progress=False)
    assert went == [torch.device("cpu"), torch.device("cuda", 1)]
    monkeypatch.setattr(loop, "device_of", lambda _: None)
    train(tmp_path / "a", launched.images(), resume=True, progress=False)
    assert went[2:] == [torch.device("cpu"), torch.get_default_device()]


def test_unknown_trackers_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log_with = 'tensorbord'.*tensorboard"):
        train(tmp_path, launched.images(), log_with="tensorbord")
