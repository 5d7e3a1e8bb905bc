"""The pages of the documentation: the code in them runs, and their links lead somewhere.

The code blocks of a page run one after the other, as a reader would type them, but with a small
network and few steps. So names, arguments and shapes are tested here; the quality of the images
is tested elsewhere. Command lines are parsed, not run.
"""

from __future__ import annotations

import functools
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.main import get_command

import diffsde
from diffsde.cli.app import app
from diffsde.equations.variance_exploding import VESDE
from diffsde.scores.model import ScoreModel
from diffsde.scores.score_unet import ScoreUNet
from diffsde.solvers.registry import REGISTRY
from tests.evaluation.made_up import brightness, pair

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.stem for page in PAGES]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# These train for an hour or need a GPU: their names are checked, but their code does not run.
NOT_RUN = {"gpu", "models_log", "scaling"}
STEPS = 10


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


@functools.cache
def small_model() -> ScoreModel:
    torch.manual_seed(0)
    network = ScoreUNet(VESDE(), channels=(32, 32, 32, 32), embed_dim=16)
    return ScoreModel(network, VESDE(), (1, 28, 28))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A small network, few steps and loose tolerances, in an empty folder."""
    solve: Callable[..., Any] = diffsde.solve

    @functools.wraps(solve)
    def few_steps(*args: Any, **settings: Any) -> Any:
        if "steps" in settings:
            settings["steps"] = min(settings["steps"], STEPS)
        for name in {"rtol", "atol"} & settings.keys():
            settings[name] = 0.5
        return solve(*args, **settings)

    monkeypatch.setattr(diffsde, "solve", few_steps)
    monkeypatch.setattr(diffsde, "load_pretrained", lambda name="mnist": small_model())
    monkeypatch.setattr(diffsde, "load_model", loaded)
    monkeypatch.chdir(tmp_path)
    rows = dict(REGISTRY)  # a page adds a solver
    yield tmp_path
    REGISTRY.clear()
    REGISTRY.update(rows)


class Zero(nn.Module):
    """A network in place of one on the Hugging Face hub."""

    classes = 10

    def forward(self, x: torch.Tensor, label: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return 0 * x


def loaded(name: str) -> ScoreModel:
    shape = (4, 8, 8) if "DiT" in name else (3, 32, 32)
    model = ScoreModel(Zero(), VESDE(), shape, "edm", (-1, 1))
    if "DiT" in name:
        model.decoder = Bright()
    return model


class Bright(nn.Module):
    """A decoder in place of an autoencoder's."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].sigmoid()


def given(page: str) -> dict[str, Any]:
    """What a page expects the reader to have."""
    return {
        "own": {"my_score": diffsde.GaussianScore(VESDE(), torch.zeros(3, 32, 32), 0.5)},
        "models": scored() if page == "models" else {},
        "network": {"network": denoised, "noise_network": noise, "images": unit_range()},
    }.get(page, {"diffsde": diffsde})


def scored() -> dict[str, Any]:
    """A model, its data, images to score, and features."""
    train, test = pair()
    return {
        "diffsde": diffsde, "train": train, "test": test, "encoder": brightness,
        "images": test.images / 255, "model": ScoreModel(Zero(), VESDE(), train.shape, "edm"),
    }  # fmt: skip


def denoised(y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The best denoiser of the data N(0.2, 0.4²), of which few numbers are outside [−1, 1]."""
    return 0.2 + 0.16 / (0.16 + sigma.reshape(-1, 1, 1, 1) ** 2) * (y - 0.2)


def noise(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """The noise in x if the data are all zero, up to its scale."""
    return x


def unit_range() -> torch.Tensor:
    """Samples of these data, brought to [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    return 0.6 + 0.2 * torch.randn(64, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem not in NOT_RUN], ids=lambda p: p.stem)
def test_code_runs_as_it_stands(page: Path, quick: Path) -> None:
    namespace = given(page.stem)
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_is_python_and_names_exist(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")
        for name in re.findall(r"\bdiffsde\.(\w+)\(", code):
            assert hasattr(diffsde, name), f"diffsde.{name}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_of_folders_are_public(page: Path) -> None:
    text = page.read_text("utf-8")
    for folder, imported in re.findall(r"^from (diffsde[\w.]*) import (.*)$", text, re.MULTILINE):
        names = {name.strip() for name in imported.split(",")}
        assert names <= set(importlib.import_module(folder).__all__), f"{folder}: {names}"
    for folder, name in re.findall(r"\bdiffsde\.([a-z]+)\.(\w+)(?=[`(])", text):
        public = getattr(diffsde, folder).__all__
        assert name in public, f"diffsde.{folder}.{name}"


def command_lines(page: Path) -> Iterator[list[str]]:
    """The calls of diffsde in the shell blocks of a page and between single backquotes."""
    text = "\n".join(blocks(page, "sh"))
    text += "\n" + "\n".join(re.findall(r"`(diffsde [^`\n]+)`", page.read_text("utf-8")))
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for call in line.split("&&"):
            words = shlex.split(call, comments=True)
            if words[:1] == ["diffsde"] and "COMMAND" not in words:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_understood(page: Path) -> None:
    group: Any = get_command(app)
    for words in command_lines(page):
        if words[0].startswith("-"):
            assert words[0] in {option for p in group.params for option in p.opts} | {"--help"}
            continue
        assert words[0] in group.commands, " ".join(words)
        command = group.commands[words[0]]
        if len(words) > 1 or not any(p.required for p in command.params):
            command.make_context(words[0], words[1:], parent=group.make_context("diffsde", ["x"]))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for name in re.findall(r"\{doc\}`(?:[^<`]*<)?([\w/]+)>?`", page.read_text("utf-8")):
        made = name.startswith(("examples/", "api/"))  # by the site's build
        assert made or (ROOT / "docs" / f"{name}.md").exists(), name


def test_the_readme_begins_with_the_two_commands() -> None:
    first, second, *_ = blocks(ROOT / "README.md", "sh")
    assert first.strip() == "pip install . && diffsde gallery --out gallery"
    assert second.strip() == "pip install '.[test]' && pytest"


def test_every_option_of_a_solver_is_explained() -> None:
    text = (ROOT / "docs" / "solvers.md").read_text()
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    named = {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert named == {name for row in diffsde.list_solvers() for name in row.options}


def test_the_readme_counts_the_solvers() -> None:
    (count,) = re.findall(r"any\s+of\s+(\d+)\s+solvers", (ROOT / "README.md").read_text("utf-8"))
    assert int(count) == len(diffsde.list_solvers())
