"""A long life in one process: memory and open files stay as they are, and threads do not meet.

`python -m tests.benchmarks.soak` does the same some thousand times over.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor

from diffsde import ProbabilityFlow, ReverseSDE, ScoreModel, Trajectory, solve
from diffsde.views import plot_paths
from diffsde.views.animation import animate
from tests.launched import small_model

# (method, kind): one of every family of solvers, fixed and adaptive.
SOLVES = [
    ("euler", "sde"),
    ("srk", "sde"),
    ("em", "sde"),
    ("pc", "sde"),
    ("sde_dpmpp_2m", "sde"),
    ("dopri5", "ode"),
    ("heun2", "ode"),
    ("dpmpp_2m", "ode"),
    ("unipc", "ode"),
]


def solved(model: ScoreModel, method: str, kind: str, seed: int) -> Tensor:
    """The last state of a short solve."""
    problem = (ReverseSDE if kind == "sde" else ProbabilityFlow)(model.sde, model, model.shape)
    x1 = model.sde.prior_sample((3, *model.shape), seed=seed)
    with torch.no_grad():
        return solve(problem, x1, method, steps=4, seed=seed).final


def one_of_each(model: ScoreModel, folder: Path, seed: int = 0) -> None:
    """Solve by every family; write and read a trajectory, a plot and a film."""
    for method, kind in SOLVES:
        solved(model, method, kind, seed)
    problem = ReverseSDE(model.sde, model, model.shape)
    x1 = model.sde.prior_sample((3, *model.shape), seed=seed)
    path = solve(problem, x1, "em", steps=4, seed=seed)
    Trajectory.load(path.save(folder / "path.safetensors"))
    plot_paths(path, folder / "paths.png")
    animate(path, folder / "film.gif")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def live_tensors() -> int:
    gc.collect()
    return sum(type(o) is Tensor for o in gc.get_objects())


def resident() -> int:
    """Bytes of memory that this process holds, without what its allocator keeps for later.

    Pages of mapped files, such as those of libraries, come and go as the system likes. What other
    tests freed in this process lies in many pieces, and is taken up again here and there.
    """
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    _, all_pages, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (all_pages - of_files) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_nothing_piles_up(tmp_path: Path) -> None:
    model = small_model()
    for _ in range(2):  # caches fill
        one_of_each(model, tmp_path)
    files, threads, memory = open_files(), threading.active_count(), resident()
    tensors = live_tensors()
    for seed in range(5):
        one_of_each(model, tmp_path, seed)
    assert open_files() == files
    assert threading.active_count() == threads
    assert plt.get_fignums() == []
    # A kept trajectory or figure shows here; the allocator's own growth is below this.
    assert resident() - memory < 20 * 2**20
    assert live_tensors() <= tensors


def at_once(*works: Callable[[], Tensor]) -> list[Tensor]:
    """What each returns, each in a thread of its own, all begun together."""
    begin, results = threading.Barrier(len(works)), {}

    def run(i: int) -> None:
        begin.wait()
        results[i] = works[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[i] for i in range(len(works))]


@pytest.mark.parametrize(("method", "kind"), SOLVES)
def test_two_solves_at_once_are_two_solves_one_after_the_other(method: str, kind: str) -> None:
    model = small_model()
    one, two = (lambda seed=seed: solved(model, method, kind, seed) for seed in (1, 2))
    expected = [one(), two()]
    for _ in range(2):
        found = at_once(one, two)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_plots_need_no_window_and_threads_may_draw(tmp_path: Path) -> None:
    matplotlib.use("agg")
    model = small_model()
    paths = [tmp_path / f"{i}.png" for i in range(2)]

    def draw(path: Path) -> Tensor:
        problem = ReverseSDE(model.sde, model, model.shape)
        x1 = model.sde.prior_sample((3, *model.shape), seed=0)
        plot_paths(solve(problem, x1, "em", steps=4, seed=0), path)
        return torch.zeros(())

    at_once(*[lambda path=path: draw(path) for path in paths])
    assert paths[0].read_bytes() == paths[1].read_bytes()
