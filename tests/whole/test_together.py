"""Processes and threads that do the same work at once, in the same places."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import diffsde
from diffsde import ProbabilityFlow, TrainingError, solve
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.system.tensorfile import read_tensors
from diffsde.training.run_folder import RunFolder
from tests import launched
from tests.problems import flow, gaussian, mixture, reverse


def forked(work: Callable[[], None]) -> int:
    """Start a process that does the work, and return its number."""
    process = os.fork()
    if process:
        return process
    try:
        torch.set_num_threads(1)
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def at_once(*works: Callable[[], None]) -> None:
    """Each work in a process of its own; all must succeed."""
    processes = [forked(work) for work in works]
    assert [os.waitpid(process, 0)[1] for process in processes] == [0] * len(works)


def test_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path))

    def read() -> None:
        assert len(diffsde.load_images("mnist", train=False).images) == 10_000

    at_once(read, read, read)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "MNIST", "raw", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    ]  # fmt: skip


def test_evaluating(tmp_path: Path) -> None:
    model, sampler = launched.small_model(), Sampler("euler", steps=2)
    flow_of_model = ProbabilityFlow(model.sde, model, model.shape)
    images = launched.images(6).images.float() / 255

    def draw() -> None:
        sample_images(model, sampler, 6, out=tmp_path, chunk=2, progress=False)
        diffsde.evaluate_likelihood(
            flow_of_model, images, path=tmp_path / "kept", chunk=2, method="heun2", steps=2
        )

    at_once(draw, draw, draw)
    alone = sample_images(model, sampler, 6, chunk=2, progress=False)
    kept = sample_images(model, sampler, 6, out=tmp_path, chunk=2, progress=False)
    assert torch.equal(alone.images, kept.images)
    found = diffsde.evaluate_likelihood(flow_of_model, images, chunk=2, method="heun2", steps=2)
    again = diffsde.evaluate_likelihood(
        flow_of_model, images, path=tmp_path / "kept", chunk=2, method="heun2", steps=2
    )
    assert torch.equal(found.log_prob, again.log_prob)
    assert len(list(tmp_path.iterdir())) == 4  # three chunks and the likelihoods


# -- training ------------------------------------------------------------------------------

LONG = replace(launched.RECIPE, epochs=10_000, schedule="constant")


def train(folder: Path, *, resume: bool = False, epochs: int = LONG.epochs) -> None:
    recipe, start = replace(LONG, epochs=epochs), launched.small_model(3)
    diffsde.train(
        folder, launched.images(), recipe, resume=resume, progress=False,
        start_from=None if resume else start,
    )  # fmt: skip


def started(folder: Path) -> int:
    """A process that trains in the folder, once it has saved its first epoch."""
    process = forked(lambda: train(folder))
    until = time.monotonic() + 60
    while len(RunFolder(folder, 1).states()) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_training_in_a_folder_is_refused_until_the_first_is_killed(
    resume: bool, tmp_path: Path
) -> None:
    process = started(tmp_path)
    try:
        words = "is training in this folder|has just trained here" if resume else "holds a run"
        with pytest.raises(TrainingError, match=words):
            train(tmp_path, resume=resume)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    left = RunFolder(tmp_path, 1).newest()
    finished = read_tensors(left)[1]["step"] // 4  # epochs, of four updates each
    train(tmp_path, resume=True, epochs=finished + 1)
    assert RunFolder(tmp_path, 1).newest() != left


def test_two_that_begin_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One trains, and the other says why it does not."""
    processes = [forked(lambda: train(tmp_path, epochs=2)) for _ in range(2)]
    ends = sorted(os.waitpid(process, 0)[1] for process in processes)
    said = capfd.readouterr().err
    assert ends == [0, 256], said
    assert "TrainingError" in said
    assert not list(tmp_path.glob(".*"))


# -- threads and callbacks ------------------------------------------------------------------


def test_threads_with_different_scores() -> None:
    """What a solve knows, such as slopes that it hands on, belongs to it alone."""
    scores = [gaussian(dims=4), mixture(dims=4), gaussian(dims=4).double()]
    x = scores[0].sde.prior_sample((8, 4), seed=0)
    works = [
        (problem(score), method)
        for score in scores
        for problem, method in (
            (reverse, "srk"), (reverse, "sde_dpmpp_2m"), (flow, "dopri5"), (flow, "heun2"),
        )
    ]  # fmt: skip

    def final(work: tuple[object, str]) -> Tensor:
        problem, method = work
        steps = None if method == "dopri5" else 20
        return solve(problem, x, method, steps=steps, clock="karras", seed=1, save="last").final

    alone = [final(work) for work in works]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(final, works * 4))
    for found, expected in zip(together, alone * 4, strict=True):
        assert torch.equal(found, expected)


def test_threads_with_one_problem() -> None:
    problem = flow(mixture(dims=4))
    xs = [problem.sde.prior_sample((4, 4), seed=seed) for seed in range(6)]

    def nfe_and_final(x: Tensor) -> tuple[int, Tensor]:
        sol = solve(problem, x, "rk4", steps=10)
        return sol.stats.nfe, sol.final

    alone = [nfe_and_final(x) for x in xs]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(nfe_and_final, xs))
    for (calls, found), (expected_calls, expected) in zip(together, alone, strict=True):
        assert calls == expected_calls
        assert torch.equal(found, expected)
