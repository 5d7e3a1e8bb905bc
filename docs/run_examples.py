"""How sphinx-gallery runs an example, and which of its pictures it shows.

An example writes its pictures into the folder that `--out` names. Here each example has its own
folder; its pictures are shown in the order of their names, and its other files are deleted. A part
of the course writes no files: its cells show figures, each once, as a notebook does.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst
from sphinx_gallery.sorting import FileNameSortKey

_ARGUMENTS = {"train_mnist": ["--quick", "--recipe", "mnist"]}
_NOT_SHOWN = {"loss.png"}  # the losses of a hundred updates are two points


class CourseFirst(FileNameSortKey):
    """The order of the gallery: the course, then the other examples by name."""

    def __call__(self, filename: str) -> str:
        """What an example is sorted by."""
        return f"{not filename.startswith('course_')} {filename}"


def arguments(_conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """The command line of an example."""
    name = Path(script["src_file"]).stem
    return ["--out", str(_folder(script)), *_ARGUMENTS.get(name, [])]


def pictures(block: Any, script: dict[str, Any], conf: dict[str, Any]) -> str:
    """Move the pictures that an example has left into the site."""
    shown = []
    name = Path(script["src_file"]).stem
    if name.startswith("course_"):
        return _figures(block.content, script, conf)
    found = [p for p in _folder(script).glob("*.[pg][ni][gf]") if p.name not in _NOT_SHOWN]
    for picture in sorted(found, key=_first(name)):
        place = Path(next(script["image_path_iterator"])).with_suffix(picture.suffix)
        shown.append(str(shutil.move(picture, place)))
    shutil.rmtree(_folder(script), ignore_errors=True)
    return figure_rst(shown, conf["src_dir"], f"what {name} draws")


def _figures(code: str, script: dict[str, Any], conf: dict[str, Any]) -> str:
    """The figures of a cell: the one it ends with, and those that pyplot has open."""
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    last = script["example_globals"].get("___")  # where sphinx-gallery keeps a cell's last value
    ends_with_value = isinstance(ast.parse(code).body[-1], ast.Expr)
    if ends_with_value and isinstance(last, Figure) and last not in figures:
        figures.append(last)
    shown = []
    for figure in figures:
        shown.append(next(script["image_path_iterator"]))
        figure.savefig(shown[-1])
    pyplot.close("all")
    return figure_rst(shown, conf["src_dir"], "the figure of this cell")


def _folder(script: dict[str, Any]) -> Path:
    return Path(script["target_file"]).with_suffix(".out")


def _first(name: str) -> Any:
    """The picture named after the example comes first: the gallery's cards show it."""
    return lambda picture: (picture.stem != name, picture.suffix != ".png", picture.name)
