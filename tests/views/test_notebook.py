"""What a notebook shows: trajectories, films and pages, always in one line and never an error."""

from __future__ import annotations

import base64
import io
import re
import time
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot
from PIL import Image

from diffsde import InputError, Trajectory, animate, plot_images, plot_paths
from diffsde.solvers.trajectory import Stats
from diffsde.views import explore

TIMES = torch.linspace(1, 1e-3, 501, dtype=torch.float64)


def long_path() -> Trajectory:
    ys = torch.randn(501, 16, 1, 28, 28)
    return Trajectory(TIMES, ys, "euler", Stats(500, 500, 0, 3.8), std=TIMES, diffusion=25**TIMES)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_a_trajectory_is_one_line_and_three_small_pictures() -> None:
    sol = long_path()
    line = "Trajectory(euler, 501 times × 16 × (1, 28, 28), t 1 → 1e-3, 500 NFE, 3.8 s)"
    assert repr(sol) == line
    plot_paths(sol)  # imports what is imported once
    started = time.perf_counter()
    page = sol._repr_html_()
    assert time.perf_counter() - started < 5  # 0.3 s on an idle core
    assert len(page) < 150_000
    last, strip, _ = pictures(page)
    assert last.size == (4 * 29 - 1, 4 * 29 - 1)
    assert strip.size == (8 * 29 - 1, 3 * 29 - 1)


@pytest.mark.parametrize(
    ("ys", "count"),
    [
        (torch.randn(5, 3, 2), 1),
        (torch.randn(5, 3, 3, 6, 6).half(), 3),
        (torch.randn(5, 3, 7), 2),
        (torch.randn(5, 30, 9, 7), 2),
        (torch.full((5, 3, 1, 7), float("nan")), 2),
        (torch.randn(5, 3, 4, 6, 6), 1),  # latents of four channels are no images
        (torch.randn(1, 3, 1, 6, 6), 2),
        (torch.randn(1, 3, 2), 0),
        (torch.full((5, 3, 1, 6, 6), float("nan")), 3),
        (torch.full((5, 3, 1, 6, 6), float("inf")), 3),
        (torch.zeros(5, 3, 1, 6, 6), 3),
        (torch.randn(5, 3, 1, 6, 6).requires_grad_(), 3),
        (torch.randn(5, 0, 1, 6, 6), 0),
        (torch.randn(0, 3, 2), 0),
        (torch.randn(5), 1),
    ],
)
def test_whatever_the_states_are_a_trajectory_shows_itself(ys: torch.Tensor, count: int) -> None:
    sol = Trajectory(torch.linspace(1, 0, len(ys)), ys, "")
    assert "\n" not in repr(sol)
    assert len(pictures(sol._repr_html_())) == count


def test_flat_states_with_a_shape_are_images() -> None:
    sol = Trajectory(torch.linspace(1, 0, 4), torch.randn(4, 2, 36), "own", shape=(1, 6, 6))
    assert len(pictures(sol._repr_html_())) == 3


def test_the_explorer_is_a_frame_that_holds_its_page() -> None:
    sol = Trajectory(torch.linspace(1, 0, 4), torch.randn(4, 2, 1, 6, 6), "<own>")
    page = sol.explore(title='a "title"', height=333)
    frame = page._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "height:333px" in frame
    assert frame.count('"') == 4, "the page inside is quoted"
    assert "<own>" not in frame
    assert explore([sol, sol]).page.count("own") > page.page.count("own")
    with pytest.raises(InputError, match="more than 0"):
        sol.explore(height=0)
    with pytest.raises(InputError, match="Raise megabytes"):
        sol.explore(megabytes=0)


def test_a_film_without_a_path_is_shown_and_can_be_saved(tmp_path: Path) -> None:
    sol = Trajectory(torch.linspace(1, 0, 4), torch.randn(4, 2, 1, 6, 6), "own")
    film = animate(sol, fps=20)
    assert film.gif == animate(sol, tmp_path / "same.gif", fps=20).read_bytes()
    assert film.save(tmp_path / "film.gif").read_bytes() == film.gif
    with Image.open(film.save(tmp_path / "film.png")) as still:
        assert still.n_frames == 4
    assert base64.b64encode(film.gif).decode() in film._repr_html_()
    assert len(repr(film)) < 80
    with pytest.raises(InputError, match="not an animation format"):
        film.save(tmp_path / "film.avi")
    with pytest.raises(InputError, match="at most 50"):
        animate(sol, fps=60)


def test_a_figure_of_our_own_brings_its_picture_and_pyplot_does_not_know_it() -> None:
    sol = Trajectory(torch.linspace(1, 0, 4), torch.rand(4, 2, 1, 6, 6), "own")
    figure = plot_images(sol)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.size == tuple(figure.canvas.get_width_height())
    same = plot_images(sol.images())
    assert figure._repr_png_() == same._repr_png_()
    assert not pyplot.get_fignums()


def test_outside_of_a_notebook_the_callers_figure_is_left_alone() -> None:
    figure, axes = pyplot.subplots()
    sol = Trajectory(torch.linspace(1, 0, 4), torch.rand(4, 2, 1, 6, 6), "own")
    assert plot_paths(sol, ax=axes) is figure
    assert not hasattr(figure, "_ipython_display_")
    pyplot.close(figure)
