"""Plots are read back: the artists' data, and the pixels that are drawn."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from diffsde import views as plots
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views import paths as path_plots
from diffsde.views.style import DARK, LIGHT
from tests.paths import images, marginal_std, noisy
from tests.views.figures import (
    ALL,
    NORMAL_QUANTILES,
    PAIRS,
    adaptive_paths,
    every_figure,
    every_plot,
    normal_density,
    normal_paths,
    pixels,
)


def lines(axes: Axes, style: str) -> list[np.ndarray]:
    drawn = [line for line in axes.lines if line.get_linestyle() == style and len(line.get_xdata())]
    return [np.asarray(line.get_ydata(), dtype=float) for line in drawn]


@every_figure
def test_files_and_global_state(name: str, tmp_path: Path) -> None:
    settings = dict(matplotlib.rcParams)
    figure = (ALL | PAIRS)[name](path=tmp_path / "plot.png")
    assert isinstance(figure, Figure)
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] > 100
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == []


@every_plot
def test_the_callers_axes(name: str) -> None:
    figure = Figure()
    left, right = figure.subfigures(1, 2)
    axes = right.add_subplot()
    assert ALL[name](ax=axes) is figure
    assert axes.lines or axes.images
    assert not left.axes


def test_threads_may_plot() -> None:
    drawn: list[np.ndarray] = []
    work = [
        threading.Thread(target=lambda: drawn.append(pixels(ALL["few_paths"](dark=True))))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(drawn) == 4
    assert all(np.array_equal(drawn[0], other) for other in drawn[1:])


def test_time_runs_as_it_was_solved() -> None:
    sol = normal_paths(5)
    assert plots.plot_paths(sol).axes[0].get_xlim() == (1.0, 1e-3)
    back = Trajectory(sol.ts.flip(0), sol.ys.flip(0), "forward")
    assert plots.plot_paths(back).axes[0].get_xlim() == (1e-3, 1.0)


def test_envelopes() -> None:
    sol = normal_paths(5)
    sigma, std = (25.0**sol.ts).numpy(), marginal_std(sol.ts).numpy()

    def curves(envelope: str | None) -> list[np.ndarray]:
        axes = plots.plot_paths(sol, None, envelope).axes[0]
        return [*lines(axes, "--"), *lines(axes, ":")]

    for envelope, expected in [("sigma", [sigma]), ("std", [std]), ("both", [sigma, std])]:
        both_sides = [sign * curve for curve in expected for sign in (1, -1)]
        assert np.allclose(curves(envelope), both_sides)
    assert curves(None) == []
    with pytest.raises(InputError, match="did you mean 'sigma'"):
        curves("sigmas")


def legend_of(axes: Axes) -> str:
    return " ".join(text.get_text() for text in axes.get_legend().get_texts())


def test_the_legend_names_the_equation() -> None:
    sol = normal_paths(5)
    assert "σ = 25" in legend_of(plots.plot_paths(sol).axes[0])
    sol.diffusion = torch.sqrt(0.1 + 19.9 * sol.ts)  # that of a variance-preserving SDE
    assert "g(t)" in legend_of(plots.plot_paths(sol).axes[0])


def test_a_users_own_equation_has_no_envelope() -> None:
    own = Trajectory(torch.linspace(0, 1, 5), torch.randn(5, 3, 2), "own")
    assert lines(plots.plot_paths(own).axes[0], "--") == []


def test_a_picture_of_paths_counts_them() -> None:
    ts = np.array([1.0, 0.5, 0.0])
    flat = np.zeros((3, 7), np.float32) + 0.5
    step = np.array([[-1.0], [-1.0], [1.0]], np.float32)
    counts = path_plots._passes(ts, np.hstack([flat, step]), (-2.0, 2.0), (40, 10))
    assert (counts[25] >= 7).all()  # 0.5 is in row 25 of 40 over [-2, 2]
    assert (counts[10, :5] == 1).all()  # the eighth path waits at −1
    assert (counts[10:31, 5:].sum(1) >= 1).all()  # and climbs without gaps
    assert counts.sum(0)[:5].tolist() == [8] * 5
    assert counts[:10].sum() == counts[31:].sum() == 0


def test_every_point_of_every_path_is_covered() -> None:
    sol = normal_paths(300, 50)
    values, ts = sol.ys.reshape(50, -1).numpy(), sol.ts.numpy()
    counts = path_plots._passes(ts, values, (-40.0, 40.0), (600, 1000))
    column = np.minimum((ts[0] - ts) / (ts[0] - ts[-1]) * 1000, 999).astype(int)
    row = ((values + 40) * 600 / 80).astype(int)
    covered = counts[row, column[:, None]] > 0
    assert covered.mean() > 0.99  # a peak inside a column of pixels may be cut off
    assert path_plots._opacity(counts)[counts > 0].min() >= 0.15


def test_lone_paths_and_values_that_are_not_finite() -> None:
    sol = normal_paths(200)
    sol.ys[10:, 3] = float("nan")
    sol.ys[10:, 4] = float("inf")
    axes = plots.plot_paths(sol).axes[0]
    assert 20 < axes.get_ylim()[1] < 60


def test_vector_output_stays_small(tmp_path: Path) -> None:
    sol = normal_paths(20_000)
    for suffix in (".pdf", ".svg"):
        plots.plot_paths(sol, tmp_path / f"paths{suffix}")
        assert (tmp_path / f"paths{suffix}").stat().st_size < 200_000


def test_a_hundred_thousand_paths_take_seconds() -> None:
    sol = normal_paths(100_000, 201)
    started = time.process_time()  # processor time, because the machine may be busy
    pixels(plots.plot_paths(sol))
    assert time.process_time() - started < 5


def test_over_all_paths_others_lay_a_few() -> None:
    axes = ALL["overlaid"]().axes[0]
    (few,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert len(few.get_segments()) == 64
    assert "64 of 500 paths" in legend_of(axes)


def test_bands_are_quantiles() -> None:
    sol = normal_paths(40_000, 5)
    axes = plots.plot_bands(sol, coverage=(0.9,)).axes[0]
    edges = axes.collections[0].get_paths()[0].vertices
    assert edges[:, 1].max() == pytest.approx(1.6449 * float(sol.std[0]), rel=0.03)
    with pytest.raises(InputError, match="coverage = 90"):
        plots.plot_bands(sol, coverage=(90,))


def test_marginals_lie_on_the_exact_ones() -> None:
    sol = normal_paths(40_000, 5)
    axes = plots.plot_marginals(sol, exact=normal_density).axes[0]
    expected = NORMAL_QUANTILES[:, None] * sol.std.numpy()
    tolerance = 0.03 * sol.std.numpy()
    assert (np.abs(np.array(lines(axes, "--")) - expected) < 0.1 * tolerance).all()
    assert (np.abs(np.array(lines(axes, "-")) - expected) < tolerance).all()
    other = plots.plot_marginals(sol, exact=normal_paths(40_000, 9, seed=2)).axes[0]
    assert len(lines(other, "--")[0]) == 9


def test_a_wrong_exact_density() -> None:
    sol = normal_paths(50, 3)
    with pytest.raises(InputError, match="one density for each"):
        plots.plot_marginals(sol, exact=lambda *_: torch.ones(3))
    with pytest.raises(InputError, match="exact = str"):
        plots.plot_marginals(sol, exact="forward")


def test_steps_and_evaluations() -> None:
    figure = plots.plot_steps(adaptive_paths())
    sizes, spent = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert np.allclose(sizes, [0.5, 0.2, 0.1, 0.199, 0.199])
    assert list(spent) == [0, 7, 18, 29, 34]
    assert figure.axes[1].get_ylabel() == "NFE (dashed)"
    assert "4 steps, 2 rejected, 34 NFE" in legend_of(figure.axes[0])


def test_steps_that_nobody_counted_the_cost_of() -> None:
    own = Trajectory(torch.linspace(1, 0, 4), torch.zeros(4, 2, 1), "own")
    figure = plots.plot_steps([adaptive_paths(), own])
    assert [line.get_ydata().tolist() for line in figure.axes[1].lines] == [
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3],
    ]
    assert figure.axes[1].get_ylabel() == "steps taken (dashed)"


def test_a_long_legend_stands_beside_the_axes() -> None:
    table = [
        {"method": f"m{k}, karras", "nfe": n, "error": 1 / n} for k in range(40) for n in (1, 2)
    ]
    figure = plots.plot_work_precision(table)
    pixels(figure)  # applies the layout, which warns if the axes vanish
    axes = figure.axes[0]
    assert axes.get_window_extent().width > 0.5 * figure.bbox.width
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert len(looks) == 40


def test_convergence_fits_the_order() -> None:
    axes = ALL["convergence"]().axes[0]
    assert "heun (order 2.00)" in legend_of(axes)
    assert list(axes.lines[0].get_xdata()) == [10, 20, 40]  # although the rows are not sorted
    assert np.allclose(lines(axes, ":")[0], axes.lines[1].get_ydata())
    with pytest.raises(InputError, match=r"no 'error'\. Its columns: method, steps"):
        plots.plot_convergence([{"method": "euler", "steps": 3}])


def test_images_are_drawn_pixel_by_pixel(tmp_path: Path) -> None:
    x = images(2, channels=3)
    plots.plot_images(x, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        zoom = image.width // (2 * 28 + 1)
        drawn = np.asarray(image.convert("RGB"))[zoom // 2 :: zoom, zoom // 2 :: zoom]
    expected = x[1].movedim(0, -1).numpy() * 255
    assert np.abs(drawn[:, 29:57] - expected).max() <= 1
    with pytest.raises(InputError, match="are not images"):
        plots.plot_images(torch.zeros(3, 784))


def test_film_strip_shows_what_was_asked_for() -> None:
    sol = noisy(images(3))
    figure = plots.film_strip(sol, times=(1.0, 0.5, 0.0), n=2)
    (sheet,) = [image.get_array() for image in figure.axes[0].images]
    assert sheet.shape == (2 * 28 + 1, 3 * 28 + 2, 3)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["t = 1", "t = 0.5", "t = 0.001"]
    assert np.abs(sheet[:28, -28:, 0] - sol.ys[-1, 0, 0].clamp(0, 1).numpy()).max() < 0.1
    with pytest.raises(InputError, match="no denoised"):
        plots.film_strip(sol, denoised=True)
    sol.denoised = images(3).expand_as(sol.ys)
    (sheet,) = [i.get_array() for i in plots.film_strip(sol, denoised=True).axes[0].images]
    assert len(sheet) == 6 * 29 - 1


def luminance(colour: str) -> float:
    """Relative luminance as defined by WCAG."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_and_differ(theme: object) -> None:
    assert isinstance(theme, type(LIGHT))
    paper = luminance(theme.paper)

    def contrast(colour: str) -> float:
        low, high = sorted((paper, luminance(colour)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.ink) > 7
    assert min(map(contrast, theme.lines)) > 2
    # Simulated red and green blindness: Machado et al. 2009, severity 1.
    for vision in (
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    ):
        seen = [np.array(vision) @ np.array(to_rgb(c)) for c in theme.lines[:4]]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.12


def test_a_users_own_figure_may_take_the_style() -> None:
    with matplotlib.rc_context(DARK.rc()):
        assert pixels(Figure())[0, 0].tolist() == [round(255 * c) for c in to_rgb(DARK.paper)]
