"""Sphinx: the site's settings, and the parts of it that are made from the code."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import make_tables

project = "diffsde"
release = metadata.version("diffsde")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated", "examples/*.out"]
html_theme = "furo"
html_title = "diffsde"
html_show_copyright = False  # the licence says whose it is
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Of links, those to other sites are left alone unless asked for: `-t online`. A build without
# a network checks all others.
linkcheck_ignore = [] if tags.has("online") else [r"https?://"]  # type: ignore[name-defined]  # noqa: F821

# The gallery runs every example and shows the pictures that it writes.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "reset_argv": "run_examples.arguments",
    "image_scrapers": ("run_examples.pictures",),
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
}

# The tables of solvers, of commands, and of what was measured.
make_tables.write_tables()


def _as_text(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text: bars and stars are mathematics, rows of bars a table."""
    shown: list[str] = []
    table = False
    for line in lines:
        row = line.startswith("|")
        if row and not table:
            shown += ["::", ""]
        elif table and not row:
            shown.append("")
        table = row
        shown.append(f"    {line}" if row else line.replace("|", r"\|").replace("*", r"\*"))
    lines[:] = shown


def setup(app: object) -> None:
    """Before napoleon, whose place is 500."""
    app.connect("autodoc-process-docstring", _as_text, priority=100)  # type: ignore[attr-defined]
