"""The site in a real browser, offline: its formulas and tables, and that its check finds faults.

`.ci/run` builds the whole site and lets `docs/check_site.py` look at every page; here the same
check sees one real page, with the real theme, and pages that are wrong on purpose.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
DOCS = Path(__file__).parents[2] / "docs"
FORMULAS = 10  # at least as many are on the page of the mathematics
CONF = f"""
import sys
sys.path.insert(0, {str(DOCS)!r})
extensions = ["myst_parser", "mathml"]
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = [{str(DOCS / "_static")!r}]
html_css_files = ["site.css"]
"""
PAGE = "<!doctype html><meta name=viewport content='width=device-width'><body>"


@pytest.fixture(scope="module")
def check() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import check_site

        yield check_site
        sys.modules.pop("check_site")


@pytest.fixture(scope="module")
def browser(check: Any) -> Iterator[Any]:
    found = next((path for name in check.NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(check.NAMES)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=check.OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with formulas, in the real theme, with a table and code wider than a phone."""
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name, reason="needs the extra `docs`")
    from sphinx.cmd.build import build_main

    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "conf.py").write_text(CONF, "utf-8")
    formulas = [
        block
        for block in (DOCS / "mathematics.md").read_text("utf-8").split("\n\n")
        if "$" in block and "{" + "term" not in block
    ]
    row = "| " + " | ".join(f"`diffsde.a_name_number_{i}`" for i in range(6)) + " |"
    table = f"{row}\n{'|---' * 6}|\n{row}"
    half = r"$$ \tfrac12 (x + y) $$"
    text = "\n\n".join(["# A page", *formulas, half, table, "```\n" + 200 * "x" + "\n```"])
    (source / "index.md").write_text(text, "utf-8")
    assert build_main(["-q", "-W", "-b", "html", str(source), str(out)]) == 0
    return out


def test_formulas_are_mathml_and_nothing_is_too_wide(check: Any, browser: Any, site: Path) -> None:
    assert (site / "index.html").read_text("utf-8").count("<math") >= FORMULAS
    assert not list(check.look(browser, site))


def test_a_half_has_one_above_two(browser: Any, site: Path) -> None:
    """TeX takes two digits after the command for its two arguments."""
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    fractions = page.locator("mfrac").all_text_contents()
    assert "12" not in {text.split()[0] for text in fractions if text.split()}
    assert any(text.split() == ["1", "2"] for text in fractions)
    page.close()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<div style='width: 500px'>wide</div>", "pixels wide, the screen 390"),
        ("<script>console.error('lost')</script>", "lost"),
        ("<script>missing()</script>", "missing is not defined"),
        ("<script src='https://example.org/a.js'></script>", "asks for https://example.org/a.js"),
        ("<img src='none.png'>", "none.png is missing"),
    ],
)
def test_faults_are_found(check: Any, browser: Any, tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "index.html").write_text(PAGE + body, "utf-8")
    faults = [line for line in check.look(browser, tmp_path) if fault in line]
    assert any("phone" in line for line in faults)
