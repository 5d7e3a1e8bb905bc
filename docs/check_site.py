"""Look at the built site in a real browser, without a network: does every page fit and work?

    python docs/check_site.py docs/_build

opens every page in Chromium, on a desktop (1280 pixels wide) and on a phone (390 pixels), light and
dark, and fails if a page is wider than the screen, writes an error to the console, or asks for a
file that is not in the site. It also searches for the words that readers look for. With
`--pictures FOLDER` it saves pictures of some pages, to be looked at.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = ("light", "dark")
# Each word leads to a page.
WORDS = {
    "velocity": "Velocity and flow-matching models",
    "label": "The command line",
    "mp4": "The command line",
    "notebook": "In a notebook",
}
SHOWN = ("index", "start", "choosing", "models", "velocity", "examples/index", "api/scores")


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the built site in Chromium.")
    parser.add_argument("site", type=Path, help="the folder that sphinx-build has written")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of some pages")
    arguments = parser.parse_args()
    site = arguments.site.resolve()
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if not (site / "index.html").exists():
        sys.exit(f"{site} has no index.html: build the site first")
    if found is None:
        sys.exit(f"no Chromium: none of {', '.join(NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        faults = [*look(browser, site, arguments.pictures), *search(browser, site)]
        browser.close()
    print(*faults, sep="\n")
    sys.exit(f"{len(faults)} faults" if faults else None)


def look(browser: Browser, site: Path, pictures: Path | None = None) -> Iterator[str]:
    """What is wrong with the pages, a line for each fault."""
    for (device, width), scheme in itertools.product(WIDTHS.items(), SCHEMES):
        screen: Any = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
        page = browser.new_page(**screen)
        faults = listen(page)
        for file in pages(site):
            page.goto(file.as_uri())
            name = file.relative_to(site).with_suffix("").as_posix()
            faults += too_wide(page, width)
            yield from (f"{name}, {device}, {scheme}: {fault}" for fault in faults)
            faults.clear()
            if pictures and name in SHOWN:
                file_name = f"{name.replace('/', '-')}-{device}-{scheme}.png"
                page.screenshot(path=pictures / file_name, full_page=device == "phone")
        page.close()


def pages(site: Path) -> list[Path]:
    """The pages, without the parts of the theme."""
    return sorted(f for f in site.rglob("*.html") if "_static" not in f.parts)


def listen(page: Page) -> list[str]:
    """A list which the page's errors are added to."""
    faults: list[str] = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: faults.append(f"asks for {r.url}") if outside(r.url) else None)
    page.on("requestfailed", lambda request: faults.append(f"{request.url} is missing"))
    return faults


def outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def too_wide(page: Page, width: int) -> list[str]:
    needed = page.evaluate("document.documentElement.scrollWidth")
    return [f"is {needed} pixels wide, the screen {width}"] if needed > width else []


def search(browser: Browser, site: Path) -> Iterator[str]:
    """Type each word into the search page, and look for its page among the results."""
    page = browser.new_page()
    for word, title in WORDS.items():
        page.goto(f"{(site / 'search.html').as_uri()}?q={word}")
        result = page.locator("#search-results li a", has_text=title).first
        try:
            expect(result).to_be_visible(timeout=10_000)
        except AssertionError:
            yield f"a search for {word!r} does not find the page {title!r}"
    page.close()


if __name__ == "__main__":
    main()
