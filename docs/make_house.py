"""The house, read from the code: its folders from top to bottom, and which imports which.

The order is that of the contract in setup.cfg which `lint-imports` checks; the imports are those
that grimp, the library under `lint-imports`, finds in the files.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "diffsde"


def layers() -> list[str]:
    """The folders from top to bottom."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    return settings["importlinter:contract:house"]["layers"].split()


def docstring(module: str) -> str:
    """What a file, or a folder's `__init__.py`, says of itself."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def title(module: str) -> str:
    """The first sentence of the docstring, as a heading."""
    return " ".join(docstring(module).split("\n\n")[0].split()).removesuffix(".")


def folders() -> str:
    """Each folder's docstring under a heading, in Markdown."""
    return "\n".join(f"### {_place(layer)}\n\n{_markdown(docstring(layer))}" for layer in layers())


def _place(module: str) -> str:
    name = module.removeprefix("diffsde.")
    return f"`{name}/`" if (SOURCE / name).is_dir() else f"`{name}.py`"


def _markdown(text: str) -> str:
    """Indented blocks, such as lists of files, keep their lines."""
    blocks = re.split(r"\n\n(?= {4})|(?<=\n)\n(?! )", text + "\n")
    return "".join(_fenced(block) if block.startswith("    ") else f"{block}\n" for block in blocks)


def _fenced(block: str) -> str:
    return f"\n```text\n{textwrap.dedent(block).rstrip()}\n```\n\n"


def imports() -> Counter[tuple[str, str]]:
    """How many files of the one folder import a file of the other: (importer, imported)."""
    graph = grimp.build_graph("diffsde", exclude_type_checking_imports=True, cache_dir=None)
    pairs = {
        (importer, _layer(imported))
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    found = Counter((_layer(importer), imported) for importer, imported in pairs)
    inside = set(layers())
    return Counter({(a, b): n for (a, b), n in found.items() if a != b and {a, b} <= inside})


def _layer(module: str) -> str:
    return ".".join(module.split(".")[:2])
