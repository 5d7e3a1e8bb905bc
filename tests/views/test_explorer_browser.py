"""The explorer in a real browser, headless and offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diffsde.views.explorer import write_html
from tests.paths import images, noisy
from tests.views.browsers import chromium, settle, without_complaints

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install 'diffsde[browser]'"
)

expect = sync_api.expect

FRAMES, IMAGES = 41, 16


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paths of an SDE, with estimates, and of a flow, with half as many frames."""
    x0 = images(IMAGES)
    sde = noisy(x0, FRAMES)
    flow = noisy(x0, FRAMES // 2 + 1, flow=True, method="dopri5")
    sde.denoised = x0.expand_as(sde.ys)
    return write_html([sde, flow], tmp_path_factory.mktemp("explorer") / "path.html")


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So few images that they form a single row."""
    sol = noisy(images(4), 3)
    sol.denoised = sol.ys
    return write_html([sol, sol], tmp_path_factory.mktemp("explorer") / "row.html")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signals of two channels, with estimates: channel 0 rises, channel 1 falls."""
    rising = torch.linspace(-1, 1, 9).expand(4, 1, 9)
    sol = noisy(torch.cat([rising, -rising], 1), 5)
    sol.ys[-1] = sol.ys[-1].round()
    sol.denoised = sol.ys
    return write_html([sol, sol], tmp_path_factory.mktemp("explorer") / "lines.html")


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    context = browser.new_context(has_touch=True)
    return context.new_page()


@pytest.fixture
def page(tab: Any, file: Path) -> Iterator[Any]:
    """A fresh page. At the end of a test it must have no errors and no network requests."""
    with without_complaints(tab):
        tab.set_viewport_size({"width": 1100, "height": 1000})
        tab.emulate_media(color_scheme="light")
        tab.goto(file.as_uri())
        settle(tab)
        yield tab


def frame(page: Any) -> int:
    return int(page.locator("#time").input_value())


def picture(page: Any, selector: str = "figure canvas") -> str:
    url = page.locator(selector).first.evaluate("canvas => canvas.toDataURL()")
    assert len(url) > 500
    return str(url)


def test_scrub(page: Any) -> None:
    assert frame(page) == 0
    assert page.locator("#now").inner_text().startswith("t = 1.000, s(t) = 9.85")
    noise, chart = picture(page), picture(page, "#chart")
    page.locator("#time").fill(str(FRAMES - 1))
    settle(page)
    assert page.locator("#now").inner_text().startswith("t = 0.001")
    assert page.locator("#time").get_attribute("aria-valuetext").startswith("t = 0.001")
    assert picture(page) != noise
    assert picture(page, "#chart") != chart


def test_the_last_frame_shows_the_images(page: Any) -> None:
    page.locator("#time").fill(str(FRAMES - 1))
    page.locator("#shades").select_option("data")
    settle(page)
    centre, corner = page.locator("figure canvas").first.evaluate(
        "c => { const {data} = c.getContext('2d').getImageData(0, 0, 28, 28);"
        " return [data[4 * (14 * 28 + 14)], data[0]]; }"
    )
    assert centre > 200  # the first disc
    assert corner < 50


def test_play_and_pause(page: Any) -> None:
    time = page.locator("#time")
    page.get_by_role("button", name="Play").click()
    expect(time).not_to_have_value("0")
    page.get_by_role("button", name="Pause").click()
    settle(page)
    stopped = frame(page)
    page.wait_for_timeout(400)
    assert 0 < frame(page) == stopped < FRAMES - 1
    page.locator("#speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    expect(time).to_have_value(str(FRAMES - 1))
    expect(page.get_by_role("button", name="Play")).to_be_visible()  # it stops by itself


def test_click_a_pixel(page: Any) -> None:
    chart = picture(page, "#chart")
    canvas = page.locator("figure canvas").first
    box = canvas.bounding_box()
    side = box["width"] / (4 * 29 - 1)  # of one pixel of 4 × 4 images
    # Image 6 is the second of the second row; row 11, column 3.
    canvas.click(position={"x": (29 + 2.5) * side, "y": (29 + 10.5) * side})
    settle(page)
    chosen = [page.locator(f"#{name}").input_value() for name in ("image", "row", "column")]
    assert chosen == ["6", "11", "3"]
    assert picture(page, "#chart") != chart
    expect(page.locator("#said")).to_contain_text("Image 6, row 11, column 3: em")
    assert "dopri5" in page.locator("#chart").get_attribute("aria-label")


def test_hover_shows_and_leaves_no_trace(page: Any) -> None:
    page.mouse.move(5, 5)
    settle(page)
    before = picture(page, "#chart")
    page.locator("figure canvas").nth(1).hover(position={"x": 40, "y": 60})
    settle(page)
    assert picture(page, "#chart") != before
    page.mouse.move(5, 5)
    settle(page)
    assert picture(page, "#chart") == before


def test_a_chosen_pixel_stays_while_the_pointer_rests_on_the_images(page: Any) -> None:
    def chart() -> str:
        settle(page)
        return picture(page, "#chart")

    canvas = page.locator("figure canvas").first
    page.mouse.move(5, 5)
    canvas.click(position={"x": 40, "y": 60})
    chosen = chart()
    canvas.hover(position={"x": 120, "y": 90})
    assert chart() == chosen
    canvas.focus()
    page.keyboard.press("ArrowDown")  # is seen, although the pointer rests on another pixel
    moved = chart()
    assert moved != chosen
    page.mouse.move(5, 5)
    assert chart() == moved
    canvas.hover(position={"x": 120, "y": 90})  # has left the images and come back
    assert chart() not in (chosen, moved)


def test_keyboard(page: Any) -> None:
    canvas = page.locator("figure canvas").first
    canvas.focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft", "]"):
        page.keyboard.press(key)
    chosen = [page.locator(f"#{name}").input_value() for name in ("image", "row", "column")]
    assert chosen == ["2", "16", "13"]
    for key, expected in ((".", 1), (".", 2), (",", 1), ("End", FRAMES - 1), ("Home", 0)):
        page.keyboard.press(key)
        settle(page)
        assert frame(page) == expected
    page.keyboard.press("Space")
    expect(page.locator("#time")).not_to_have_value("0")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_touch(page: Any) -> None:
    page.locator("figure canvas").first.tap(position={"x": 3, "y": 3})
    chosen = [page.locator(f"#{name}").input_value() for name in ("image", "row", "column")]
    assert chosen[0] == "1"
    assert max(map(int, chosen[1:])) <= 2
    box = page.locator("#chart").bounding_box()
    page.touchscreen.tap(box["x"] + 46 + 0.5 * (box["width"] - 56), box["y"] + 100)
    settle(page)
    assert frame(page) == FRAMES // 2


def test_runs_are_aligned_by_time(page: Any) -> None:
    """The flow has half as many frames, so it changes at every second frame of the SDE."""

    def flow() -> str:
        return picture(page, "figure:nth-of-type(2) canvas")

    pictures = [flow()]
    for _ in range(2):
        page.get_by_role("button", name="One frame on").click()
        settle(page)
        pictures.append(flow())
    assert pictures[0] == pictures[1] != pictures[2]
    page.locator("#time").fill(str(FRAMES - 1))
    settle(page)
    assert flow() not in pictures


def test_the_estimate_can_be_hidden(page: Any) -> None:
    assert page.locator("figure canvas:visible").count() == 3
    page.get_by_role("checkbox", name="Denoised estimate").uncheck()
    settle(page)
    assert page.locator("figure canvas:visible").count() == 2


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_light_and_dark(page: Any) -> None:
    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    settle(page)
    light, chart = paper(), picture(page, "#chart")
    page.emulate_media(color_scheme="dark")
    settle(page)
    assert (light, paper()) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
    assert picture(page, "#chart") != chart


def chosen(page: Any) -> list[str]:
    settle(page)
    names = ("image", "column", "channel")
    return [page.locator(f"#{name}").input_value() for name in names]


def test_signals(page: Any, lines: Path) -> None:
    """The pointer finds the nearest value of the nearest line; keys go on from there."""
    page.goto(lines.as_uri())
    page.keyboard.press("End")
    settle(page)
    canvas = page.locator("figure canvas").first
    box = canvas.bounding_box()
    wide, high = (box["width"] - 8) / 2, (box["height"] - 8) / 2  # of each of 2 × 2 cells
    # In the fourth cell, near its right end: the rising line is above, the falling one below.
    for share, channel in ((0.1, "1"), (0.9, "2")):
        at = {"x": wide + 8 + 4 + 7.1 / 8 * (wide - 8), "y": high + 8 + share * high}
        canvas.click(position=at)
        assert chosen(page) == ["4", "8", channel]
    expect(page.locator("#said")).to_contain_text("Signal 4, position 8, channel 2: em −1")
    chart = picture(page, "#chart")
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "["):
        page.keyboard.press(key)
    assert chosen(page) == ["3", "9", "2"]
    assert picture(page, "#chart") != chart
    at_the_end = picture(page)
    page.locator("#scale").select_option("far")
    settle(page)
    assert picture(page) != at_the_end
    for name in ("row", "shades", "chart-2", "some"):
        expect(page.locator(f"#{name}")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1100


@pytest.mark.parametrize("which", ["file", "row", "lines"])
def test_nothing_lies_over_anything_else(
    page: Any, which: str, request: pytest.FixtureRequest
) -> None:
    page.goto(request.getfixturevalue(which).as_uri())
    settle(page)
    controls = "button, select:visible, input:visible, figure canvas, #chart"
    boxes = [element.bounding_box() for element in page.locator(controls).all()]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
            down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
            assert across <= 1 or down <= 1
