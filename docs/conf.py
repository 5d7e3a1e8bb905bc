"""Sphinx: the settings of the site, and the parts of it that are made from the code."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import draw_house
import make_api
import make_house
import make_tables

project = "diffsde"
release = metadata.version("diffsde")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "mathml",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated", "examples/*.out"]
highlight_language = "none"  # of docstrings, whose blocks are formulas more often than code
html_math_renderer = "mathml"  # of mathml.py
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "diffsde"
html_show_copyright = False  # the licence says whose it is
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"exclude-members": "extra_repr"}  # torch's, of which a class has its own
toc_object_entries = False  # each name of the API has a heading, which the table of contents shows
default_role = "py:obj"  # backquotes in a docstring: code, and a link where the name is known
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes in a list; those with a docstring of their own have an entry

# Links to other sites are checked only with `-t online`; all others need no network.
linkcheck_ignore = [] if tags.has("online") else [r"https?://"]  # type: ignore[name-defined]  # noqa: F821

# The gallery runs every example and shows the pictures that it writes, and those of the course's
# cells as a notebook would.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "reset_argv": "run_examples.arguments",
    "image_scrapers": ("run_examples.pictures",),
    "within_subsection_order": "run_examples.CourseFirst",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # the page of times loads scripts from other sites
}

# What the pages include from the folder `generated` (tables, the house and its picture), and the
# pages of the API.
generated = Path(__file__).parent / "generated"
generated.mkdir(exist_ok=True)
make_tables.write_tables(generated)
make_api.write_pages(Path(__file__).parent / "api", generated / "api.md")
(generated / "folders.md").write_text(make_house.folders(), encoding="utf-8")
draw_house.draw(generated)


def _as_text(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text, which becomes reStructuredText here.

    Bars and stars are mathematics; tables and indented blocks keep their lines. The first
    sentence of a module is its heading on the page.
    """
    if what == "module":
        del lines[: lines.index("") if "" in lines else len(lines)]
    lines[:] = _restructured(lines)


def _restructured(lines: list[str]) -> list[str]:
    shown: list[str] = []
    literal = sections = False
    for before, line in zip(["", *lines], lines, strict=False):
        sections = sections or line in _SECTIONS
        table = line.startswith("|")
        indented = line.startswith("    ") and not sections
        if (table or (indented and not before)) and not literal:
            shown += ["::", ""]
            literal = True
        elif literal and line and not table and not indented:
            shown.append("")
            literal = False
        if literal:
            shown.append(f"    {line}" if line else "")
        else:
            shown.append(line.replace("|", r"\|").replace("*", r"\*"))
    return shown


# After these lines of a docstring, indented blocks are entries of a list.
_SECTIONS = {"Args:", "Attributes:", "Returns:", "Raises:", "Yields:"}


def setup(app: object) -> None:
    """Before napoleon, whose place is 500."""
    app.connect("autodoc-process-docstring", _as_text, priority=100)  # type: ignore[attr-defined]
