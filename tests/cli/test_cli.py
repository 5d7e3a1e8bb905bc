"""The command line, run as users run it."""

from __future__ import annotations

import csv
import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffsde import VESDE, ScoreModel, Trajectory, list_solvers, load_images, load_model, save_model
from diffsde.cli.app import app
from diffsde.cli.report import reported
from diffsde.equations import eta_between
from diffsde.evaluation.scoring import Evaluation, Reference
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.training.recipes import RECIPES
from tests.cli.commands import run


def test_solvers_lists_the_registry() -> None:
    table = run("solvers")
    assert table.returncode == 0
    found = json.loads(run("solvers", "--json").stdout)["solvers"]
    assert {row["name"] for row in found} == {row.name for row in list_solvers()}
    assert all(row["name"] in table.stdout and row["advice"] in table.stdout for row in found)
    assert "srk" not in run("solvers", "ode").stdout
    lines = [line.split() for line in table.stdout.splitlines()]
    heads = ["name", "family", "order", "weak"], ["name", "family", "order", "evaluations"]
    assert [[line[:4] for line in lines].count(head) for head in heads] == [1, 1]
    for row in list_solvers():
        cost = "varies" if row.evaluations is None else f"{row.evaluations:g}"
        weak = "–" if row.weak_order is None else f"{row.weak_order:g}"
        orders = [f"{row.order:g}", weak] if row.kind == "sde" else [f"{row.order:g}"]
        start = [row.name, row.family, *orders, cost]
        assert start in [line[: len(start)] for line in lines], row.name


def test_sample_writes_images_and_the_path(tmp_path: Path, tiny: Path) -> None:
    done = run(
        "sample", "--model", tiny, "--method", "srk", "--clock", "karras", "--steps", 4, "--n", 3,
        "--out", tmp_path, "--paths", "--animate", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {"samples.png", "samples.safetensors", "paths.png", "samples.gif"}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert all(f"wrote {tmp_path / name}" in done.stdout for name in names)
    assert re.search(r"^in \d+\.\d s$", done.stdout, re.MULTILINE)
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
    # The network's kernels round differently in another batch, by a few float32 digits of the
    # largest state, which is large because the network is untrained.
    assert (states[0] - states[1]).abs().max() < 2e-5 * states[0].abs().max()


def test_gallery_and_explore(tmp_path: Path, tiny: Path) -> None:
    done = run("gallery", "--model", tiny, "--steps", 3, "--n", 2, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert {*map(Path, json.loads(done.stdout)["written"])} == set(tmp_path.iterdir())
    written = {path.name for path in tmp_path.iterdir()}
    for name in ("em", "pc", "sde_euler", "flow_heun2", "flow_rk45"):
        assert {f"{name}_images.png", f"{name}.gif", f"{name}_paths.png"} <= written
    assert {"noise.png", "sde_and_flow_paths.png"} <= written
    text = (tmp_path / "index.html").read_text("utf-8")
    shown = re.findall(r'(?:src|href)="([^":]+)"', text)
    assert set(shown) == written - {"index.html"}
    page = tmp_path / "page.html"
    done = run("explore", "--model", tiny, "--steps", 3, "--n", 2, "--out", page, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["stats"]["nfe"] == 4  # one for the clean image
    assert page.stat().st_size > 10_000


def test_explore_puts_solvers_side_by_side_on_one_noise(tmp_path: Path, tiny: Path) -> None:
    page = tmp_path / "page.html"
    methods = ("--method", "euler", "--method", "heun2")
    done = run("explore", "--model", tiny, *methods, "--steps", 2, "--n", 2, "--out", page)
    assert done.returncode == 0, done.stderr
    assert f"wrote {page}" in done.stdout
    (data,) = re.findall(r'type="application/json">(.*?)</script>', page.read_text("utf-8"), re.S)
    one, other = json.loads(data)["runs"]
    assert (one["method"], other["method"]) == ("SDE · euler", "flow · heun2")
    assert one["span"][0] == other["span"][0]
    size = 2 * 28 * 28 * 4 // 3  # base64 letters of the first state
    assert one["states"][:size] == other["states"][:size]
    assert one["states"][size:] != other["states"][size:]


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
        (("train", "--out", "run", "--resume"), 1, "no state-"),
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


COMMANDS = ("gallery", "sample", "explore", "evaluate", "likelihood", "work-precision", "atlas",
            "solvers", "train")  # fmt: skip


def test_every_command_has_help_with_an_example() -> None:
    assert set(COMMANDS) == {command.name or command.callback.__name__ for command in
                             app.registered_commands}  # fmt: skip
    for command in COMMANDS:
        done = run(command, "--help")
        assert done.returncode == 0
        text = " ".join(done.stdout.split())
        assert re.search(rf"Examples?: diffsde {command}", text)
        assert "--json" in text
    text = run("--help").stdout
    assert all(code in text for code in ("Exit codes", "130", "Example: diffsde sample"))


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        (("sample", "--method", "heun2", "--steps", 2, "--n", 2), {"method", "stats", "n"}),
        (("likelihood", "--n", 2, "--steps", 2), {"bits_per_dim", "stderr", "images"}),
        (
            ("likelihood", "--n", 2, "--convention", "variational", "--draws", 2),
            {"bits_per_dim", "stderr", "nfe"},
        ),
        (("work-precision", "--method", "euler", "--budget", 2, "--n", 2), {"rows", "measure"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_json_is_one_object_and_nothing_else(
    command: tuple[object, ...],
    facts: set[str],
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*command, "--model", tiny, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_constant=pytest.fail)  # NaN and ∞ are not JSON
    assert facts <= found.keys()
    assert found["seconds"] > 0
    assert found["written"]
    assert all(Path(path).exists() for path in found["written"])


def test_the_atlas_of_the_mixture_and_where_it_goes_on(tmp_path: Path) -> None:
    """Strict JSON, though the exact samples have no strong error; and the same table again."""
    chosen = "--model", "mixture", "--method", "dpmpp_2m", "--method", "ddim", "--kind", "ode"
    command = "atlas", *chosen, "--budget", 3, "--n", 100, "--paths", 2, "--out", tmp_path, "--json"
    tables = []
    for _ in range(2):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout, parse_constant=pytest.fail)
        tables.append(found["rows"])
        names = ["dpmpp_2m", "ddim", "exact samples"]
        assert [row["method"] for row in found["rows"]] == names
        assert [Path(path).name for path in found["written"]] == ["table.csv", "mixture.png"]
    assert tables[0] == tables[1]  # with its seconds


def test_train_says_what_it_reached(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for k in range(12):
        Image.new("L", (28, 28), 20 * k).save(tmp_path / "images" / f"{k}.png")
    options = ("--dataset", "folder", "--data", "images", "--batch-size", 4, "--epochs", 1,
               "--recipe", "mnist-tutorial", "--precision", "float32", "--quiet")  # fmt: skip
    monkeypatch.setitem(RECIPES, "mnist-tutorial", replace(RECIPES["mnist-tutorial"], held_out=4))
    done = run("train", "--out", "one", *options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["updates"] == 2
    assert found["loss"] > 0
    assert "one/model.safetensors" in found["written"]


def test_what_is_not_finite_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    with reported(as_json=True) as report:
        report.say("", rows=[{"error": float("inf")}, {"error": 0.5}], stderr=float("nan"))
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == [{"error": None}, {"error": 0.5}]
    assert found["stderr"] is None


def test_the_shell_completes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(words: str) -> str:
        monkeypatch.setenv("_DIFFSDE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - (not words.endswith(" "))))
        return run().stdout

    assert completed("diffsde sam").split() == ["sample"]
    assert "sde_dpmpp_2m" in completed("diffsde sample --method sde").split()
    assert "karras" in completed("diffsde explore --clock k").split()
    assert "mnist" in completed("diffsde likelihood --model m").split()


def test_the_shell_script_of_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setattr("shellingham.detect_shell", lambda *_, shell=shell: (shell, shell))
        done = run("--show-completion")
        assert done.returncode == 0, done.stderr
        assert "_DIFFSDE_COMPLETE=complete_" in done.stdout


def test_the_installed_command() -> None:
    program = "from diffsde.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("diffsde 0.")


def test_sample_of_one_class(tmp_path: Path, tiny: Path) -> None:
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=3)
    for weights in (network.last.weight, network.embed_class.weight):
        torch.nn.init.normal_(weights)
    torch.nn.init.normal_(network.encoder[0].film.weight)
    network.encoder[0].conv2.weight.data.normal_()
    model = save_model(ScoreModel(network, VESDE(), (1, 28, 28), "edm"), tmp_path / "m.safetensors")

    def final(name: str, *options: object) -> torch.Tensor:
        fixed = ("--model", model, "--steps", 2, "--clock", "karras", "--n", 2, "--quiet")
        done = run("sample", "--out", tmp_path / name, *fixed, *options)
        assert done.returncode == 0, done.stderr
        return Trajectory.load(tmp_path / name / "samples.safetensors").final

    free, two = final("free"), final("two", "--label", 2)
    assert not torch.equal(two, free)
    assert torch.equal(two, final("one", "--label", 2, "--guidance", 1))
    assert torch.equal(free, final("none", "--label", 2, "--guidance", 0))
    assert not torch.equal(two, final("more", "--label", 2, "--guidance", 3))
    expected = load_model(model).sample(2, label="random", steps=2, seed=0).final
    assert torch.equal(final("random", "--label", "random"), expected)
    for options, message in (
        (("--model", model, "--label", 3), "expected 0 to 2"),
        (("--model", tiny, "--label", 3), "takes no class labels"),
        (("--model", model, "--guidance", 2), "give --label too"),
    ):
        done = run("sample", "--out", tmp_path / "bad", "--steps", 1, "--n", 1, *options)
        assert done.returncode == 2
        assert message in done.stderr


def test_sample_at_a_temperature(tmp_path: Path, tiny: Path) -> None:
    fixed = ("--model", tiny, "--steps", 2, "--n", 2, "--quiet", "--out", tmp_path)
    done = run("sample", *fixed, "--temperature", 0.5)
    assert done.returncode == 0, done.stderr
    found = Trajectory.load(tmp_path / "samples.safetensors").final
    model = load_model(tiny)
    for temperature, same in ((0.5, True), (1.0, False)):
        drawn = model.sample(2, steps=2, seed=0, temperature=temperature)
        assert torch.equal(found, drawn.final) == same


def test_sample_with_an_option_of_a_solver(tmp_path: Path, tiny: Path) -> None:
    """Of two solvers, the one that has it gets it."""
    fixed = ("--model", tiny, "--steps", 3, "--n", 2, "--quiet", "--out", tmp_path)
    methods = ("--method", "unipc", "--method", "heun2", "--kind", "ode")
    done = run("sample", *fixed, *methods, "--option", "last_order=1")
    assert done.returncode == 0, done.stderr
    model = load_model(tiny)
    for name, options in (("unipc", {"last_order": 1}), ("heun2", {})):
        found = Trajectory.load(tmp_path / f"samples-ode-{name}.safetensors").final
        how: dict[str, Any] = {"steps": 3, "seed": 0, "options": options}
        assert torch.equal(found, model.sample(2, kind="ode", method=name, **how).final)


def test_sample_with_noise_between_two_levels(tmp_path: Path, tiny: Path) -> None:
    fixed = ("--model", tiny, "--steps", 3, "--n", 2, "--quiet", "--out", tmp_path)
    done = run("sample", *fixed, "--eta-between", 0.1, 1, "--eta", 0.7)
    assert done.returncode == 0, done.stderr
    model = load_model(tiny)
    drawn = model.sample(2, steps=3, seed=0, eta=eta_between(model.sde, 0.1, 1, 0.7))
    assert torch.equal(Trajectory.load(tmp_path / "samples.safetensors").final, drawn.final)


def _taking(option: str) -> set[str]:
    """The commands that take an option."""
    return {
        command.callback.__name__
        for command in app.registered_commands
        if option in inspect.signature(command.callback).parameters
    }


def test_what_takes_guidance_takes_a_temperature() -> None:
    assert _taking("temperature") == _taking("guidance") >= {"sample", "explore"}


def test_what_takes_eta_takes_its_levels() -> None:
    assert _taking("eta") == _taking("eta_between") >= {"sample", "explore", "evaluate"}


def test_what_takes_methods_takes_their_options() -> None:
    assert _taking("option") == _taking("method") >= {"sample", "evaluate", "atlas"}


def test_evaluate_compares_samplers(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Evaluation(
        100, 4.0, 0.4, 2.0, 0.1, 0.01, 0.8, 0.7, 0.9, (0.1,) * 10, "mnist", "classifier"
    )
    monkeypatch.setattr(Reference, "evaluate", lambda *_, **__: score)
    done = run(
        "evaluate", "--model", tiny, "--method", "sde_dpmpp_2m", "--method", "dpmpp_2m",
        "--steps", 1, "--n", 100, "--out", tmp_path, "--quiet", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["nfe"] for row in json.loads(done.stdout)["scores"]] == [2, 2, None]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tiny", "scores.csv", "scores.png", "neighbours.png"}


def test_a_folder_is_scored_by_a_function(tmp_path: Path, tiny: Path) -> None:
    """What the model did not learn from stands for test images, and the command says so."""
    pytest.importorskip("torchmetrics")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(load_images("mnist").images[:230, 0]):
        Image.fromarray(image.numpy()).save(tmp_path / "photos" / f"{number:03}.bmp")
    model = save_model(load_model(tiny), tmp_path / "m", data="photos", recipe={"held_out": 110})
    data = ("--model", model, "--dataset", "folder", "--data", tmp_path / "photos", "--quiet")
    done = run(
        "evaluate", *data, "--steps", 1, "--n", 100, "--out", tmp_path / "out",
        "--features", "tests.evaluation.made_up:brightness", "--bootstraps", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "photos has no test images: its last 110, which training held out, stand for them"
    assert said in done.stdout
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["data"], row["features"]) for row in rows} == {("photos", "brightness")}
    assert float(rows[0]["ratio"]) > 3  # an untrained network's
    assert float(rows[1]["ratio"]) == pytest.approx(1)
    assert {row["fid_error"] for row in rows} == {"nan"}
    done = run("likelihood", *data, "--n", 2, "--steps", 2, "--out", tmp_path / "l", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["data"], found["held_out"]) == ("photos", 110)
    done = run("evaluate", *data, "--out", tmp_path / "other")
    assert done.returncode == 2
    assert (
        "--features classifier: photos has no labels to train a classifier on; choose"
        in done.stderr
    )
