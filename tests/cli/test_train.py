"""The command `train`: every part of a recipe has an option, and it takes people's own data."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from diffsde.cli.app import app
from diffsde.training import loop
from diffsde.training.recipes import RECIPES, Recipe
from tests.cli.commands import run

FIELDS = [field.name for field in fields(Recipe)]
# A value that is not the default, as it is typed and as it arrives.
GIVEN: dict[str, tuple[str, Any]] = {
    "network": ("ScoreUNet", "ScoreUNet"),
    "preconditioning": ("velocity", "velocity"),
    "sigma_data": ("0.7", 0.7),
    "objective": ("uniform", "uniform"),
    "smallest_time": ("1e-4", 1e-4),
    "level_mean": ("-0.5", -0.5),
    "level_std": ("1.1", 1.1),
    "dequantise": ("", True),
    "mirror": ("", True),
    "optimizer": ("adam", "adam"),
    "epochs": ("7", 7),
    "batch_size": ("32", 32),
    "accumulate": ("2", 2),
    "learning_rate": ("1e-4", 1e-4),
    "schedule": ("constant", "constant"),
    "averages": ("0.9 --averages 0.99", (0.9, 0.99)),
    "clip": ("0", 0.0),
    "held_out": ("0.1", 0.1),
    "seed": ("3", 3),
    "precision": ("float32", "float32"),
    "classes": ("10", 10),
    "class_dropout": ("0.4", 0.4),
    "blocks": ("1 2 1", (1, 2, 1)),
    "waves": ("8 --waves 16", (8, 16)),
    "width": ("64", 64),
    "depth": ("2", 2),
    "compile": (None, False),
    "sde": ("VPSDE", "VPSDE"),
    "coupling": ("optimal", "optimal"),
}
# What must be given with it.
ALSO: dict[str, dict[str, str]] = {
    "width": {"recipe": "points"},
    "depth": {"recipe": "points"},
    "coupling": {"preconditioning": "coupled-flow", "objective": "flow"},
}


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that training was asked for; it stops there."""
    found: list[Recipe] = []

    def noted(_out: object, _data: object, recipe: Recipe, **_: object) -> None:
        found.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("diffsde.train", noted, raising=False)
    return found


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.zeros((20, 4, 4), np.uint8))
    return tmp_path / "a.npy"


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_a_recipe_has_an_option(name: str) -> None:
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    options = {text: param for param in command.params for text in param.opts}
    assert option(name) in options, f"{name} cannot be set on the command line"
    assert options[option(name)].help


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_arrives(name: str, asked: list[Recipe], array: Path, tmp_path: Path) -> None:
    text, value = GIVEN[name]
    typed = [f"--no-{name}"] if text is None else [option(name), *text.split()]
    also = dict(ALSO.get(name, {}))
    typed += [word for other, given in also.items() for word in (option(other), given)]
    run("train", "--out", tmp_path / "run", "--dataset", array, *typed)
    base: Any = replace(RECIPES[also.pop("recipe", "images")])
    assert getattr(base, name) != value, "not a test of anything"
    value = {**also, name: value}
    assert asked == [replace(base, **value)]


def test_the_recipe_is_that_of_the_data(asked: list[Recipe], array: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.zeros((20, 2)))
    for data in ("mnist", array, tmp_path / "p.npy"):
        run("train", "--out", tmp_path / "run", "--dataset", data)
    assert asked == [RECIPES["images"], RECIPES["images"], RECIPES["points"]]


def test_a_small_folder_of_photographs_trains_as_it_is(tmp_path: Path) -> None:
    for k in range(64):
        path = tmp_path / "photos" / ("cat", "dog")[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"")
    out, photos = str(tmp_path / "run"), str(tmp_path / "photos")
    command = ("train", "--out", out, "--dataset", photos, "--quiet")
    # A process of its own, since pytest keeps warnings to itself.
    first = (*command, "--epochs", "1", "--no-compile", "--classes", "2", "--precision", "float32")
    done: Any = subprocess.run(
        [sys.executable, "-m", "diffsde", *first], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("diffsde: ")]
    assert any("skipped files, 1 hidden (.DS_Store)" in line for line in told)
    assert any("64 samples: 2 are set aside" in line for line in told)
    assert any("--held-out 0.02" in line and "--epochs 2000" in line for line in told)
    assert "UserWarning" not in done.stderr
    # Resumed with one option, the rest of the recipe is the run's own.
    with pytest.warns(UserWarning, match="skipped files"):
        done = run(*command, "--resume", "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "after 2 updates" in done.stdout
    with pytest.warns(UserWarning, match="skipped files"):
        done = run(*command, "--resume", "--batch-size", 31)
    assert done.returncode == 2
    assert "--batch-size 62, not 31" in done.stderr


def test_points_and_signals_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 10**6)
    numbers = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", signals=numbers.normal(size=(300, 2, 9)).astype("f4"))
    with pytest.warns(UserWarning, match="300 samples: 6 are set aside"):
        done = run(
            "train", "--out", tmp_path / "run", "--dataset", tmp_path / "s.npz", "--epochs", 3
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--dataset", "nothing/"), 1, "no such folder"),
        (("--dataset", "hf:a/b"), None, "huggingface"),
        (("--size", "wide"), 2, "--size wide"),
        (("--recipe", "own"), 2, "no recipe 'own'"),
        (("--held-out", "1.5"), 2, "--held-out 1.5"),
        (("--network", "MLP", "--blocks", "1", "2", "1"), 2, "--blocks (1, 2, 1)"),
    ],
)
def test_what_cannot_be_trained(
    options: tuple[str, ...], code: int | None, words: str, tmp_path: Path
) -> None:
    done = run("train", "--out", tmp_path / "run", *options)
    assert done.returncode == code or (code is None and done.returncode in (1, 2))
    assert words in done.stderr.replace("Hugging Face", "huggingface")
    assert not (tmp_path / "run").exists()
