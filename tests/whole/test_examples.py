"""The examples, run as they are: each is short and writes its pictures where it is told to."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import diffsde
from tests.whole.test_docs import small_model

EXAMPLES = [
    script
    for script in sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
    if not script.stem.startswith("course_")  # notebooks: see test_course
]
QUICK = {
    "train_mnist": ["--quick"],
    "two_moons": ["--epochs", "2"],
}  # the others take seconds as they are
# The site's build runs these with the shipped network, and so does `pytest --thorough`. Every day
# the longest are left to the site, and the others take a small network.
LONGEST = {"bands", "compare_solvers"}
SLOW = {"dial", "interpolate", "side_by_side"}
FEWEST = {"two_moons": 8}  # shades of grey
PICTURES = {".png", ".gif"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, marks=pytest.mark.thorough if path.stem in LONGEST else ())
        for path in EXAMPLES
    ],
    ids=lambda path: path.stem,
)
def test_example(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    here, out = tmp_path / "here", tmp_path / "out"
    here.mkdir()
    monkeypatch.chdir(here)
    quick = QUICK.get(script.stem, [])
    monkeypatch.setattr(sys, "argv", [script.name, "--out", str(out), *quick])
    if script.stem in SLOW and not pytestconfig.getoption("thorough"):
        monkeypatch.setattr(diffsde, "load_pretrained", lambda name="mnist": small_model())
    with matplotlib.rc_context({"backend": "agg"}):
        runpy.run_path(str(script), run_name="__main__")
        pyplot.close("all")
    pictures = [path for path in out.iterdir() if path.suffix in PICTURES]
    assert any(path.stem.startswith(script.stem) for path in pictures) or len(pictures) > 1
    for path in pictures:
        with Image.open(path) as image:
            # An empty picture has one colour, and one of a solve that blew up has no greys. Dots
            # have few.
            assert len(np.unique(np.asarray(image.convert("L")))) > FEWEST.get(script.stem, 16)
    assert not list(here.iterdir()), "an example writes only where --out says"


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_to_expect(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) < 60
    title, rule, *rest = text.removeprefix('"""').splitlines()
    assert set(rule) == {"="}
    assert len(rule) >= len(title)
    assert any(line.startswith("Expect") for line in rest)
    assert f"python examples/{script.name}" in text
