"""Every page that the package writes, on a desktop's screen and a phone's, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diffsde.views import gallery
from diffsde.views.explorer import explorer_page, write_html
from diffsde.views.gallery import write_gallery
from tests.paths import images, noisy
from tests.views.browsers import chromium, settle, without_complaints
from tests.views.test_gallery import small

PAGES = ("gallery", "images", "block", "points", "embedded")


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_context(has_touch=True).new_page()


@pytest.fixture(scope="module")
def folder(tab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each of the pages."""
    out = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "_PLOT_DPI", 40)
        write_gallery(out / "gallery", small(), steps=3, n=4)
    row, block = noisy(images(4), 11), noisy(images(9), 11, flow=True)
    row.denoised, block.denoised = row.ys, block.ys
    write_html([row, row], out / "images.html", title="A long title of two solvers " * 3)
    write_html(block, out / "block.html")
    points = noisy(torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), 21)
    points.denoised = 0.1 * points.ys
    write_html([points, points], out / "points.html")
    page = explorer_page(points).replace("&", "&amp;").replace('"', "&quot;")
    style = "border: 0; width: 100%; height: 1200px"
    frame = f'<body style="margin: 0"><iframe style="{style}" srcdoc="{page}"></iframe>'
    (out / "embedded.html").write_text(f'<!DOCTYPE html><link rel="icon" href="data:,">{frame}')
    return out


@pytest.fixture
def at(tab: Any, folder: Path) -> Iterator[Any]:
    """Opens a page by its name; in the end the browser must have had no complaints."""

    def open_page(name: str) -> Any:
        file = folder / (f"{name}/index.html" if name == "gallery" else f"{name}.html")
        tab.goto(file.as_uri())
        settle(tab)
        return tab

    with without_complaints(tab):
        yield open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_no_sideways_scroll_by_day_and_night(
    at: Any, tab: Any, name: str, width: int, scheme: str
) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    page = at(name)
    frames = [frame.evaluate("document.documentElement.scrollWidth") for frame in page.frames]
    assert max(frames) <= width
    paper = page.frames[-1].evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_gallery_shows_the_plots_of_its_theme(at: Any, tab: Any, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)
    page = at("gallery")
    shown = page.locator("img:visible")
    names = [shown.nth(i).get_attribute("src") for i in range(shown.count())]
    plots = [name for name in names if "_paths" in name]
    assert len(plots) == 6
    assert {name.endswith("_dark.png") for name in plots} == {scheme == "dark"}
    page.evaluate("for (const image of document.images) image.loading = 'eager'")
    page.wait_for_function(
        "[...document.images].every(i => !i.offsetParent || (i.complete && i.naturalWidth))"
    )


def test_films_and_plots_of_the_gallery_are_of_one_width(at: Any, tab: Any) -> None:
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        page = at("gallery")
        wide = [box.bounding_box()["width"] for box in page.locator(".grid figure:visible").all()]
        assert len(wide) == 15
        assert max(wide) - min(wide) <= 1


def test_the_gallery_leads_to_full_pictures_and_explorers(at: Any) -> None:
    page = at("gallery")
    assert page.evaluate("[...document.images].every(i => i.closest('a').href === i.src)")
    assert page.evaluate("[...document.images].every(i => i.alt)")
    page.locator("#flow_rk45 .explore").click()
    assert page.title() == "RK45 by SciPy"


def points_state(page: Any) -> tuple[str, str, str]:
    """The chosen point, the picture of the points and the first chart."""
    settle(page)
    canvases = [
        page.locator(selector).first.evaluate("canvas => canvas.toDataURL()")
        for selector in (".points", "#chart")
    ]
    return page.locator("#image").input_value(), *canvases


def test_points_move_and_one_is_chosen(at: Any, tab: Any) -> None:
    tab.set_viewport_size({"width": 1280, "height": 900})
    page = at("points")
    assert page.locator("figure canvas:visible").count() == 4  # states and estimates of two runs
    assert page.locator(".charts canvas:visible").count() == 2
    assert page.locator("#row").is_hidden()
    start = points_state(page)
    page.locator("#time").fill("20")
    moved = points_state(page)
    assert moved[0] == start[0] == "1"
    assert moved[1] != start[1]
    canvas = page.locator(".points").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    chosen = points_state(page)
    assert chosen[0] == "2"
    assert chosen[1] != moved[1]
    assert chosen[2] != moved[2]
    page.get_by_label("Scale").select_option("far")
    assert points_state(page)[1] != chosen[1]
    assert "Point 2" in page.locator("#chart-2").get_attribute("aria-label")


def test_a_point_is_found_by_a_tap(at: Any, tab: Any) -> None:
    page = at("points")
    page.locator("#time").fill("20")
    settle(page)
    canvas, p = page.locator(".points").first, 16
    x, y = page.evaluate(
        "i => { const run = page.runs[0], canvas = document.querySelector('.points');"
        " const f = planeFrame(canvas, reach(run, 20, false));"
        " return f.at(pointOf(run.states, run.span, 20, i)); }",
        p,
    )
    canvas.tap(position={"x": x + 1, "y": y})
    assert points_state(page)[0] == str(p + 1)
