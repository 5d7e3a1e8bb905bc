"""Formulas as MathML, written while the site is built: no script and no network show them.

docutils turns the TeX of a formula into MathML, which every current browser draws by itself.
A formula that docutils does not understand is a warning, and so ends a build with `-W`.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

_log = logging.getLogger(__name__)

# A function's name, such as log. As an operator it gets the thin spaces that TeX puts around it.
_FUNCTION = re.compile(r"<mi>(\w{2,})</mi>\s*<mo>&ApplyFunction;</mo>")
_SPACED = r'<mo form="prefix" lspace="0.17em" rspace="0.17em">\1</mo>'
# TeX reads \frac12 as a half, docutils as the fraction of 12 and what comes next.
_UNBRACED = re.compile(r"(\\[td]?frac)\s*(\d)\s*(\d)")


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name `mathml`, which conf.py selects."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(f'<span class="math">{_mathml(node)}</span>')
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    # The box scrolls where a phone is narrower than the formula; with tabindex, by keys, too.
    box = '<div class="math-block" tabindex="0" role="region" aria-label="formula">'
    writer.body.append(f"{box}{_mathml(node, as_block=True)}</div>\n")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, as_block: bool = False) -> str:
    tex = _UNBRACED.sub(r"\1{\2}{\3}", node.astext().strip())
    if as_block:
        tex = r" \\ ".join(part.strip() for part in tex.split("\n\n"))  # equations, one per row
    try:
        return _FUNCTION.sub(_SPACED, tex2mathml(tex, as_block=as_block))
    except MathError as error:
        _log.warning("docutils cannot show this formula: %s", error, location=node)
        return tex
