"""The smoke suite: everything that leans on another package, once, in a minute.

    pytest tests/smoke.py

`.ci/run` runs it with the lowest versions that setup.cfg allows (`tests/lowest.txt`), and with the
newest interpreter that the machine has. It asks whether things work, not whether numbers are right:
the other tests do. What other packages say in words is not looked at, since that changes.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

import diffsde
from diffsde import ProbabilityFlow, ReverseSDE, Trajectory, list_solvers, solve, views
from diffsde.evaluation import Sampler, evaluate_samplers
from diffsde.solvers.registry import Solver
from tests import launched, paths
from tests.cli.commands import run
from tests.problems import flow, gaussian, mixture, reverse

SCORE = mixture(dims=4)
X = SCORE.sde.prior_sample((3, 4), seed=0)
ROWS = list_solvers()

pytestmark = pytest.mark.filterwarnings("ignore:reversible_heun ends in another law")


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind}-{row.name}" for row in ROWS])
def test_every_solver(row: Solver) -> None:
    problem = (reverse if row.kind == "sde" else flow)(SCORE)
    steps = None if row.adaptive else 8
    sol = solve(problem, X, row.name, steps=steps, clock="karras", seed=0, progress=True)
    assert torch.isfinite(sol.ys).all()
    assert torch.equal(pickle.loads(pickle.dumps(sol)).ys, sol.ys)


@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_a_shipped_model_and_its_gradient(kind: str) -> None:
    model = diffsde.load_pretrained("mnist-tutorial")
    problem = (ReverseSDE if kind == "sde" else ProbabilityFlow)(model.sde, model, model.shape)
    x = model.sde.prior_sample((2, *model.shape), seed=0)
    for grad in (True, "adjoint"):
        x = x.detach().requires_grad_()
        sol = solve(problem, x, "euler", steps=3, clock="karras", seed=0, grad=grad)
        (slope,) = torch.autograd.grad(sol.final.sum(), x)
        assert torch.isfinite(slope).all()


def test_analysis() -> None:
    assert diffsde.check(flow(gaussian(dims=4)), n=16).rows
    assert torch.isfinite(diffsde.log_likelihood(flow(SCORE), X, exact=True).log_prob).all()
    levels = diffsde.ensemble(reverse(SCORE), 64, method="em", steps=5, seed=0)
    assert levels.n == 64
    table = diffsde.work_precision(flow(SCORE), ["heun2", "dpmpp_2m"], [10, 20], x=X)
    assert "heun2" in str(table)


def test_views(tmp_path: Path) -> None:
    sol = paths.noisy(paths.images(3, side=8), 5)
    targets = [tmp_path / name for name in ("a.gif", "a.png", "a.apng", "a.html", "a.safetensors")]
    diffsde.animate(sol, targets[0])
    diffsde.plot_images(sol, targets[1])
    diffsde.animate(sol, targets[2], histogram=True)
    sol.to_html(targets[3])
    sol.save(targets[4])
    for name in ("plot_paths", "film_strip", "plot_bands", "plot_marginals"):
        for suffix in ("png", "svg", "pdf"):
            targets.append(tmp_path / f"{name}.{suffix}")
            getattr(diffsde, name)(sol, targets[-1])
    plane = solve(reverse(gaussian(dims=2)), X[:, :2], "em", steps=5, seed=0)
    targets.append(tmp_path / "plane.png")
    diffsde.plot_plane(plane, targets[-1])
    assert all(path.stat().st_size for path in targets)
    assert torch.equal(Trajectory.load(targets[4]).ys, sol.ys)
    with Image.open(targets[0]) as film:
        assert film.n_frames == 5
    assert sol._repr_html_()


def test_training_and_resuming(tmp_path: Path) -> None:
    recipe = replace(launched.RECIPE, schedule="constant", epochs=1)
    logged = "tensorboard" if find_spec("tensorboard") else ()
    diffsde.train(
        tmp_path, launched.images(), recipe, start_from=launched.small_model(3), log_with=logged
    )
    trained = diffsde.train(tmp_path, launched.images(), replace(recipe, epochs=2), resume=True)
    kept = diffsde.load_model(tmp_path / "model.safetensors")
    assert all(
        torch.equal(value, trained.state_dict()[name]) for name, value in kept.state_dict().items()
    )


def test_images(tmp_path: Path) -> None:
    assert len(diffsde.load_images("mnist", train=False).images) == 10_000
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tif"):
        Image.new("RGB", (12, 9), "red").save(tmp_path / f"picture.{suffix}")
    assert diffsde.load_images("folder", tmp_path, size=8).images.shape == (6, 3, 8, 8)


@pytest.mark.skipif(find_spec("torchmetrics") is None, reason="the extra metrics is not installed")
def test_evaluation(tmp_path: Path) -> None:
    model = diffsde.load_pretrained("mnist-tutorial")
    sampler = Sampler("dpmpp_2m", "ode", 3)
    table = evaluate_samplers(model, [sampler], 100, out=tmp_path, bootstraps=2, progress=False)
    assert table.save(tmp_path / "table.csv").stat().st_size


@pytest.mark.skipif(find_spec("xarray") is None, reason="the extra xarray is not installed")
def test_tables_and_arrays_of_others() -> None:
    sol = paths.noisy(paths.images(2, side=8), 3)
    assert torch.equal(views.from_xarray(views.to_xarray(sol)).ys, sol.ys)
    assert len(list_solvers().to_dataframe()) == len(ROWS)


COMMANDS = [
    "--version",
    "--help",
    *(
        f"{name} --help"
        for name in (
            "gallery", "sample", "explore", "evaluate", "likelihood", "work-precision", "train",
        )
    ),
    "solvers",
    "solvers --json",
    "sample --n 2 --steps 4 --animate --paths --json --out OUT",
    "sample --n 2 --method dopri5 --rtol 0.1 --atol 0.1 --label 3 --quiet --out OUT",
    "explore --n 2 --steps 4 --method euler --method heun2 --quiet --out OUT/page.html",
]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(line: str, tmp_path: Path) -> None:
    done = run(*line.replace("OUT", str(tmp_path)).split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", ["sample --nope", "sample --n none", "sample --n 0", "nope"])
def test_a_wrong_command_is_answered(line: str) -> None:
    done = run(*line.split())
    assert done.returncode == 2
    assert next(word for word in line.split() if word != "sample") in done.stderr


def test_the_command_itself_and_ctrl_c(tmp_path: Path) -> None:
    quick = ["--no-compile", "--batch-size", "8", "--precision", "float32"]
    command = [sys.executable, "-m", "diffsde", "train", "--out", str(tmp_path / "run"), *quick]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    until = time.monotonic() + 100
    while not list(tmp_path.glob("run/state-*")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
