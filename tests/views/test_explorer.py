"""The contents of the explorer's file; `test_explorer_browser` opens it in a browser."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.explorer import write_html
from tests.paths import images, noisy


def page_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    return json.loads(data)


def states_of(run: dict[str, Any], shape: list[int], key: str = "states") -> np.ndarray:
    stored = np.frombuffer(base64.b64decode(run[key]), np.uint8).reshape(-1, *shape)
    return stored / 255


def test_the_states_are_in_the_file(tmp_path: Path) -> None:
    sol = noisy(images(3), 11)
    sol.denoised = images(3).expand_as(sol.ys)
    page = page_of(write_html(sol, tmp_path / "path.html"))
    (run,) = page["runs"]
    assert page["shape"] == [3, 1, 28, 28]
    assert page["sigma"] == pytest.approx(25)
    assert run["method"] == "em"
    assert run["nfe"] == 10
    low, high = np.array(run["span"]).T[..., None, None, None, None]
    stored = low + states_of(run, page["shape"]) * (high - low)
    error = np.abs(stored - sol.ys.numpy()) / (high - low)
    assert error.max() <= 0.51 / 255
    assert np.allclose(run["t"], sol.ts, rtol=1e-5)
    assert np.allclose(run["diffusion"], sol.diffusion, rtol=1e-5)
    assert np.allclose(run["std"], sol.std, rtol=1e-5)
    guesses = states_of(run, page["shape"], "denoised")
    assert np.abs(guesses - sol.denoised.numpy()).max() <= 0.51 / 255


def test_sixteen_images_by_two_hundred_frames_are_under_five_megabytes(tmp_path: Path) -> None:
    path = write_html(noisy(images(16), 200), tmp_path / "path.html")
    assert path.stat().st_size < 5_000_000
    assert len(page_of(path)["runs"][0]["t"]) == 200


@pytest.mark.parametrize("count", [1, 2])
def test_longer_paths_are_thinned_to_the_size(tmp_path: Path, count: int) -> None:
    sols = [noisy(images(16), 501, seed=k) for k in range(count)]
    path = write_html(sols, tmp_path / "path.html", megabytes=2)
    assert 1_900_000 < path.stat().st_size < 2_000_000
    for run in page_of(path)["runs"]:
        assert run["t"][0] == 1
        assert run["t"][-1] == pytest.approx(1e-3)
        assert np.ptp(np.diff(run["t"])) < 0.01


class _References(HTMLParser):
    """Collects everything that an HTML file would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_nothing_is_loaded(tmp_path: Path) -> None:
    text = write_html(noisy(images(1), 3), tmp_path / "path.html").read_text(encoding="utf-8")
    references = _References()
    references.feed(text)
    assert references.found == ["data:,"]
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest", text)
    assert "default-src 'none'" in text


def test_every_control_has_a_name(tmp_path: Path) -> None:
    text = write_html(noisy(images(1), 3), tmp_path / "path.html").read_text(encoding="utf-8")
    body = text[text.index("<main>") : text.index("</main>")]
    for control in re.findall(r"<(?:button|input|select)[^>]*>", body):
        named = "aria-label=" in control or re.search(
            rf"<label[^>]*>[^/]*{re.escape(control)}|{re.escape(control)}\w", body
        )
        assert named, control
    assert 'aria-live="polite"' in body
    assert 'lang="en"' in text


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"
    path = write_html(noisy(images(1), 3, method=name), tmp_path / "path.html")
    assert path.read_text(encoding="utf-8").count("<script") == 2
    assert page_of(path)["runs"][0]["method"] == name


def test_own_equations_and_values_that_are_not_finite(tmp_path: Path) -> None:
    ys = torch.randn(4, 2, 3 * 8 * 8)
    ys[2] = float("nan")
    sol = Trajectory(torch.linspace(0, 1, 4), ys, "own", shape=(3, 8, 8))
    page = page_of(write_html(sol, tmp_path / "path.html"))
    assert page["shape"] == [2, 3, 8, 8]
    assert page["sigma"] is page["runs"][0]["std"] is None


def test_points_in_the_plane(tmp_path: Path) -> None:
    x0 = torch.tensor([[4.0, 6.0], [6.0, 6.0], [5.0, 8.0]])
    sol = noisy(x0, 11, flow=True)
    sol.ys[-1] = x0
    sol.denoised = x0.expand_as(sol.ys)
    page = page_of(write_html(sol, tmp_path / "path.html"))
    (run,) = page["runs"]
    assert page["shape"] == [3, 1, 1, 2]
    assert page["plane"]["centre"] == pytest.approx([5, 7])
    assert page["plane"]["near"] == pytest.approx(1)
    away = (sol.ys - torch.tensor([5.0, 7.0])).abs().max()
    assert page["plane"]["far"] == pytest.approx(float(away), rel=1e-5)
    for key, states in (("states", sol.ys), ("denoised", sol.denoised)):
        low, high = np.array(run["guess_span" if key == "denoised" else "span"]).T[..., None, None]
        stored = np.frombuffer(base64.b64decode(run[key]), "<u2").reshape(states.shape) / 65535
        error = np.abs(low + stored * (high - low) - states.numpy())
        assert (error <= 1e-5 * (high - low)).all()


def test_points_that_are_not_finite(tmp_path: Path) -> None:
    ys = torch.randn(4, 6, 2)
    ys[3] = float("nan")
    plane = page_of(write_html(Trajectory(torch.linspace(0, 1, 4), ys, "own"), tmp_path / "a.html"))
    assert all(np.isfinite(plane["plane"]["centre"]))
    assert plane["plane"]["far"] == pytest.approx(float(ys[:3].abs().max()))


def test_many_points_fit_the_size(tmp_path: Path) -> None:
    path = write_html(noisy(torch.randn(1000, 2), 501), tmp_path / "path.html", megabytes=1)
    assert 900_000 < path.stat().st_size < 1_000_000


def test_what_cannot_be_explored(tmp_path: Path) -> None:
    path = tmp_path / "path.html"
    with pytest.raises(InputError, match="expected images .*plot_paths shows any states"):
        write_html(Trajectory(torch.zeros(2), torch.zeros(2, 5, 4, 6, 6), "own"), path)
    with pytest.raises(InputError, match="expected one shape"):
        write_html([noisy(images(1), 3), noisy(images(2), 3)], path)
    with pytest.raises(InputError, match="two frames do not fit"):
        write_html(noisy(images(4), 3), path, megabytes=0.01)
    assert not path.exists()
