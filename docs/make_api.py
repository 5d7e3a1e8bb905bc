"""The page of the API, made from the package, so that it lists every public name.

A folder of the package is a section, in the order in which a reader needs them: each folder
uses only those before it. The folder's `__init__.pyi` says which names are public and in which
file each is written. A file's docstring, which holds its mathematics, stands before its names.
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

# An indented block in a docstring: formulas, or code.
_FORMULA = re.compile(r"\n\n {4}")


def api() -> str:
    """The page's sections, in Markdown."""
    folders = [name for name in reversed(make_house.layers()) if _stub(name).exists()]
    return "\n".join([_top(folders), *map(_folder, folders), _errors()])


def _top(folders: list[str]) -> str:
    """Which names of the folders are in `diffsde` itself, each with a link."""
    rows = []
    for folder in folders:
        names = [f"{{py:obj}}`~{folder}.{n}`" for n in public_names(folder) if n in diffsde.__all__]
        rows.append(f"- {{py:mod}}`{folder}`: {', '.join(names)}\n")
    return "".join(rows)


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


def _folder(package: str) -> str:
    names = public_names(package)
    parts = [_section(package, "##")]
    for module in _modules(package):
        written_here = [name for name, home in names.items() if home == module]
        if written_here or _FORMULA.search(make_house.docstring(module)):
            parts.append(_section(module, "###"))
            parts += [_name(package, name) for name in written_here]
    return "\n".join(parts)


def _modules(package: str) -> Iterator[str]:
    """The folder's modules, those of folders inside it included, as its docstring lists them."""
    listed = re.findall(r"^ {4}(\w+)", make_house.docstring(package), re.MULTILINE)
    place = {name: i for i, name in enumerate(listed)}
    path = importlib.import_module(package).__path__
    found = [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
    return iter(sorted(found, key=lambda name: (place.get(name.split(".")[2], len(place)), name)))


def _section(module: str, level: str) -> str:
    """A heading, which is the first sentence of the docstring, and what follows it there."""
    # Only folders are entered in the index: a file's names are imported from its folder.
    options = "" if level == "##" else "   :no-index:\n"
    directive = f"```{{eval-rst}}\n.. automodule:: {module}\n{options}```\n"
    return f"{level} {make_house.title(module)}\n\n{directive}"


def _name(package: str, name: str) -> str:
    thing = getattr(importlib.import_module(package), name)
    if inspect.isclass(thing):
        rst = f".. autoclass:: {package}.{name}\n   :members:"
    elif callable(thing):
        rst = f".. autofunction:: {package}.{name}"
    else:
        rst = f".. py:currentmodule:: {package}\n\n.. py:data:: {name}\n\n   {_value(thing)}"
    return f"```{{eval-rst}}\n{rst}\n```\n"


def _value(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return "A dictionary of " + ", ".join(f"``{key!r}``" for key in thing) + "."
    return f"A `{type(thing).__name__}`."


def _errors() -> str:
    return (
        f"## {make_house.title('diffsde.errors')}\n\n"
        "```{eval-rst}\n.. automodule:: diffsde.errors\n   :members:\n```\n"
    )
