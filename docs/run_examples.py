"""How sphinx-gallery runs an example, and which of its pictures it shows.

An example writes its pictures into the folder that `--out` names. Here each example has its own
folder; its pictures are shown in the order of their names, and its other files are deleted.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

_ARGUMENTS = {"train_mnist": ["--quick", "--recipe", "mnist"]}
_NOT_SHOWN = {"loss.png"}  # the losses of a hundred updates are two points


def arguments(_conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """The command line of an example."""
    name = Path(script["src_file"]).stem
    return ["--out", str(_folder(script)), *_ARGUMENTS.get(name, [])]


def pictures(_block: Any, script: dict[str, Any], conf: dict[str, Any]) -> str:
    """Move the pictures that an example has left into the site."""
    shown = []
    name = Path(script["src_file"]).stem
    found = [p for p in _folder(script).glob("*.[pg][ni][gf]") if p.name not in _NOT_SHOWN]
    for picture in sorted(found, key=_first(name)):
        place = Path(next(script["image_path_iterator"])).with_suffix(picture.suffix)
        shown.append(str(shutil.move(picture, place)))
    shutil.rmtree(_folder(script), ignore_errors=True)
    return figure_rst(shown, conf["src_dir"], f"what {name} draws")


def _folder(script: dict[str, Any]) -> Path:
    return Path(script["target_file"]).with_suffix(".out")


def _first(name: str) -> Any:
    """The picture named after the example comes first: the gallery's cards show it."""
    return lambda picture: (picture.stem != name, picture.suffix != ".png", picture.name)
