r"""Pages: HTML put together from the files of this folder.

A page's markup, style and script are files of their own, with places such as {{title}} for
what differs from page to page.
"""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["filled", "page_part"]


def page_part(name: str) -> str:
    """The text of a file of this folder, such as `explorer.css`."""
    return resources.files("diffsde.views").joinpath(name).read_text(encoding="utf-8")


def filled(template: str, **values: str) -> str:
    """The template with a value, HTML as it is, in each place {{name}} that has one.

    Places within the values are left alone.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values.get(place[1], place[0]), template)
