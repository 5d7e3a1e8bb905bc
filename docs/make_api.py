"""The pages of the API, made from the package, so that they list every public name.

Each folder of the package has a page, and the pages come in the order in which a reader needs
them: each folder uses only those before it. The folder's `__init__.pyi` says which names are
public and in which file each is written. On the page, a file is a section whose text is the
file's docstring, with its mathematics, and each name has a heading of its own below.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import make_house

import diffsde
from diffsde import errors

# An indented block in a docstring: formulas, or code.
_FORMULA = re.compile(r"\n\n {4}")


def write_pages(folder: Path, overview: Path) -> None:
    """Write a page for each folder of the package, and the overview that links to them all."""
    packages = [name for name in reversed(make_house.layers()) if _stub(name).exists()]
    pages = {name: _page(name) for name in packages} | {"diffsde.errors": _errors()}
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for name, text in pages.items():
        (folder / f"{_short(name)}.md").write_text(text, encoding="utf-8")
    overview.write_text(_overview(list(pages), packages), encoding="utf-8")


def _short(module: str) -> str:
    return module.rpartition(".")[2]


def _overview(pages: list[str], packages: list[str]) -> str:
    """Every public name with a link, and the pages as entries of the site's menu."""
    entries = "\n".join(f"{name} <api/{_short(name)}>" for name in pages)
    return "\n".join([*map(_names_of, packages), f"```{{toctree}}\n:hidden:\n\n{entries}\n```\n"])


def _names_of(package: str) -> str:
    """A folder's title and its names; those that are in `diffsde` itself, too, are bold."""
    names = ", ".join(_link(package, name) for name in public_names(package))
    page = f"{{doc}}`{package} <api/{_short(package)}>`"
    return f"## {make_house.title(package)}\n\n{page}: {names}\n"


def _link(package: str, name: str) -> str:
    link = f"{{py:obj}}`~{package}.{name}`"
    return f"**{link}**" if name in diffsde.__all__ else link


def public_names(package: str) -> dict[str, str]:
    """The public names of a folder, each with the module in which it is written."""
    tree = ast.parse(_stub(package).read_text(encoding="utf-8"))
    return {
        name.asname or name.name: f"{package}.{node.module}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }


def _stub(name: str) -> Path:
    return make_house.SOURCE.joinpath(*name.split(".")[1:], "__init__.pyi")


def _page(package: str) -> str:
    names = public_names(package)
    parts = [f"# {package}\n\n{make_house.title(package)}.\n", _module(package)]
    for module in _modules(package):
        written_here = [name for name, home in names.items() if home == module]
        if written_here or _FORMULA.search(make_house.docstring(module)):
            parts += [f"## {make_house.title(module)}\n", _module(module, "   :no-index:\n")]
            parts += [_name(package, name) for name in written_here]
    return "\n".join(parts)


def _modules(package: str) -> Iterator[str]:
    """The folder's modules, those of folders inside it included, as its docstring lists them."""
    listed = re.findall(r"^ {4}(\w+)", make_house.docstring(package), re.MULTILINE)
    place = {name: i for i, name in enumerate(listed)}
    path = importlib.import_module(package).__path__
    found = [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
    return iter(sorted(found, key=lambda name: (place.get(name.split(".")[2], len(place)), name)))


def _module(module: str, options: str = "") -> str:
    """What the docstring says after its first sentence, which is the heading.

    Only folders are entered in the index: a file's names are imported from its folder.
    """
    return f"```{{eval-rst}}\n.. automodule:: {module}\n{options}```\n"


def _name(package: str, name: str, level: str = "###") -> str:
    thing = getattr(importlib.import_module(package), name)
    if inspect.isclass(thing):
        rst = f".. autoclass:: {package}.{name}\n   :members:"
    elif callable(thing):
        rst = f".. autofunction:: {package}.{name}"
    else:
        rst = f".. py:currentmodule:: {package}\n\n.. py:data:: {name}\n\n   {_value(thing)}"
    return f"{level} {name}\n\n```{{eval-rst}}\n{rst}\n```\n"


def _value(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return "A dictionary of " + ", ".join(f"``{key!r}``" for key in thing) + "."
    return f"A `{type(thing).__name__}`."


def _errors() -> str:
    """The page of the errors, which are one file."""
    names = [name for name in errors.__all__ if inspect.isclass(getattr(errors, name))]
    parts = [f"# diffsde.errors\n\n{make_house.title('diffsde.errors')}.\n"]
    parts += [_module("diffsde.errors"), *(_name("diffsde.errors", name, "##") for name in names)]
    return "\n".join(parts)
