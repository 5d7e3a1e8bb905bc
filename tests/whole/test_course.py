"""The course: its scripts become notebooks, as the site offers them, and run in a fresh kernel."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

COURSE = sorted((Path(__file__).parents[2] / "examples").glob("course_*.py"))
# The last line of a cell that shows a figure, and of one that shows a table or a trajectory.
FIGURE = re.compile(r"^(diffsde\.plot_|plot_|film_strip|plt\.show)")
PAGE = re.compile(r"^(sol|table|diffsde\.(animate|check|list_solvers|log_likelihood))\b")


def notebook(script: Path, folder: Path) -> Any:
    """The script as sphinx-gallery converts it."""
    _, blocks = split_code_and_text_blocks(str(script))
    converted = jupyter_notebook(blocks, copy.deepcopy(DEFAULT_GALLERY_CONF), str(folder))
    return nbformat.reads(json.dumps(converted), as_version=4)


def kinds(cell: Any) -> list[str]:
    """What a cell shows: the richest form of each output."""
    forms = ("image/png", "text/html", "text/plain")
    data = [output.data for output in cell.outputs if "data" in output]
    return [next(form for form in forms if form in shown) for shown in data]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is a process of its own, and the other tests have the other cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("script", COURSE, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_each_thing_once(script: Path, tmp_path: Path) -> None:
    book = notebook(script, tmp_path)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    errors = [o.text for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    assert not errors, "nothing is written in red"
    figures = 0
    for cell in cells:
        last = cell.source.rstrip().splitlines()[-1]
        if FIGURE.match(last):
            assert kinds(cell) == ["image/png"], cell.source
            figures += 1
        elif PAGE.match(last):
            assert kinds(cell) == ["text/html"], cell.source
    assert figures >= 4
    assert not list(tmp_path.iterdir()), "a notebook writes no files"


def test_the_course_has_four_parts_and_each_begins_with_its_title() -> None:
    assert len(COURSE) == 4
    for number, script in enumerate(COURSE, 1):
        assert script.read_text("utf-8").startswith(f'r"""Course {number}: ')


CELLS = """
import torch, diffsde
import matplotlib.pyplot as plt
from diffsde import Trajectory
sol = Trajectory(torch.linspace(1, 0, 5), torch.randn(5, 3, 1, 8, 8), "own")
sol
# %%
diffsde.plot_paths(sol)
# %%
figure, axes = plt.subplots(1, 2)
diffsde.plot_paths(sol, ax=axes[0])
diffsde.plot_images(sol, ax=axes[1])
# %%
figure
# %%
_, axes = plt.subplots()
shown = diffsde.plot_paths(sol, ax=axes)
# %%
_, axes = plt.subplots()
diffsde.plot_paths(sol, ax=axes)
plt.show()
# %%
diffsde.animate(sol)
# %%
sol.explore()
# %%
list(plt.get_fignums())
"""
SHOWN = [
    ["text/html"],
    *[["image/png"]] * 5,
    *[["text/html"]] * 2,
    ["text/plain"],
]


def test_figures_films_and_pages_show_once(tmp_path: Path) -> None:
    codes = [nbformat.v4.new_code_cell(code.strip()) for code in CELLS.split("# %%\n")]
    book = nbformat.v4.new_notebook(cells=codes)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    assert [kinds(cell) for cell in book.cells] == SHOWN
    assert book.cells[-1].outputs[-1].data["text/plain"] == "[]", "no figure stays open"
