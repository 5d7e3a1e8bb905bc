"""The command line, run as a user runs it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from diffsde import VESDE, ScoreModel, ScoreUNet, Trajectory, list_solvers, save_model
from diffsde.cli import main
from diffsde.metrics import Evaluation


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network: commands are tested here, not digits."""
    sde = VESDE()
    torch.manual_seed(0)
    network = ScoreUNet(sde, channels=(32, 32, 32, 32), embed_dim=16)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return save_model(ScoreModel(network, sde, (1, 28, 28)), path)


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object) -> Done:
    """The command in this process: a fresh one would import torch for every test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["diffsde", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    return Done(0, out.getvalue(), err.getvalue())


def test_solvers_lists_the_registry() -> None:
    table = run("solvers")
    assert table.returncode == 0
    found = json.loads(run("solvers", "--json").stdout)
    assert {row["name"] for row in found} == {row.name for row in list_solvers()}
    assert all(row["name"] in table.stdout and row["advice"] in table.stdout for row in found)
    assert "srk" not in run("solvers", "ode").stdout


def test_sample_writes_images_and_the_path(tmp_path: Path, tiny: Path) -> None:
    done = run(
        "sample", "--model", tiny, "--method", "srk", "--clock", "karras", "--steps", 4, "--n", 3,
        "--out", tmp_path, "--paths", "--animate", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {"samples.png", "samples.safetensors", "paths.png", "samples.gif"}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert all(f"wrote {tmp_path / name}" in done.stdout for name in names)
    sol = Trajectory.load(tmp_path / "samples.safetensors")
    assert sol.ys.shape == (6, 3, 1, 28, 28)  # 4 steps, their start, the clean images
    assert sol.method == "srk"


def test_sample_is_repeatable(tmp_path: Path, tiny: Path) -> None:
    states = []
    for name, chunk in (("a", 4), ("b", 2)):
        out = tmp_path / name
        run(
            "sample", "--model", tiny, "--method", "dpmpp_2m", "--steps", 3, "--n", 4, "--out", out,
            "--seed", 5, "--chunk", chunk, "--clock", "karras", "--quiet",
        )  # fmt: skip
        states.append(Trajectory.load(out / "samples.safetensors").final)
    # The network's kernels round otherwise in another batch: a few float32 digits of the
    # largest state, which is that of an untrained network, not of an image.
    assert (states[0] - states[1]).abs().max() < 2e-5 * states[0].abs().max()


def test_gallery_and_explore(tmp_path: Path, tiny: Path) -> None:
    done = run("gallery", "--model", tiny, "--steps", 3, "--n", 2, "--out", tmp_path, "--quiet")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.iterdir()}
    for name in ("em", "pc", "sde_euler", "flow_heun2", "flow_rk45"):
        assert {f"{name}_images.png", f"{name}.gif", f"{name}_paths.png"} <= written
    assert {"noise.png", "sde_and_flow_paths.png"} <= written
    shown = re.findall(r'src="([^"]+)"', (tmp_path / "index.html").read_text("utf-8"))
    assert set(shown) == written - {"index.html"}
    page = tmp_path / "page.html"
    done = run("explore", "--model", tiny, "--steps", 3, "--n", 2, "--out", page, "--quiet")
    assert done.returncode == 0, done.stderr
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sample", "--method", "srkk", "--model", "TINY"), 2, "did you mean 'srk'"),
        (("sample", "--model", "nothing"), 2, "no pretrained model 'nothing'"),
        (("sample", "--stepz", "3"), 2, "No such option"),
        (("sample", "--steps", "0"), 2, "greater than or equal to 1"),
        (("gallery", "--model", "BROKEN"), 1, "not a readable safetensors file"),
        (("train", "--out", "run", "--dataset", "mnits"), 2, "no data set 'mnits'"),
        (("train", "--out", "run", "--dataset", "folder", "--data", "no"), 1, "no such folder"),
        (("train", "--out", "run", "--resume"), 1, "state.safetensors"),
        (("solvers", "pde"), 2, "kind = 'pde'"),
    ],
)
def test_errors_say_what_to_do(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny.read_bytes()[:1000])
    named = {"TINY": str(tiny), "BROKEN": str(broken)}
    done = run(*(named.get(a, a) for a in arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_help_with_an_example() -> None:
    commands = ("gallery", "sample", "explore", "evaluate", "likelihood", "work-precision",
                "solvers", "train")  # fmt: skip
    for command in commands:
        done = run(command, "--help")
        assert done.returncode == 0
        assert f"Example: diffsde {command}" in " ".join(done.stdout.split())


def test_the_installed_command() -> None:
    program = "from diffsde.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("diffsde 0.")


def test_evaluate_compares_samplers(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Evaluation(100, 4.0, 0.4, 2.0, 0.1, 0.01, 0.8, 0.7, 0.9, (0.1,) * 10)
    monkeypatch.setattr("diffsde.evaluation.evaluate", lambda *_, **__: score)
    done = run(
        "evaluate", "--model", tiny, "--method", "sde_dpmpp_2m", "--method", "dpmpp_2m",
        "--steps", 1, "--n", 100, "--out", tmp_path, "--quiet", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["nfe"] for row in json.loads(done.stdout)] == [2, 2, None]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tiny", "scores.csv", "scores.png", "neighbours.png"}
