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
    PLANE,
    adaptive_paths,
    every_figure,
    every_plot,
    normal_density,
    normal_paths,
    pixels,
    plane_paths,
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
    assert len(few.get_segments()) == 16
    assert "16 of 500 paths" in legend_of(axes)


@pytest.mark.parametrize("dark", [False, True])
def test_the_second_trajectory_leaves_the_first_one_visible(dark: bool) -> None:
    figure = plots.plot_paths([normal_paths(500), normal_paths(500, flow=True)], dark=dark)
    red, _, blue = np.moveaxis(pixels(figure).astype(int), -1, 0)
    flow, sde = (red > blue + 30).sum(), (blue > red + 30).sum()
    assert 0.05 < flow / sde < 0.6  # 3.2 with 64 lines


@pytest.mark.parametrize("scale", ["linear", "asinh"])
@pytest.mark.parametrize("clock", ["t", "log_std"])
@pytest.mark.parametrize("copies", [1, 100])  # drawn as lines, and as an image
def test_paths_stand_where_the_axes_say(scale: str, clock: str, copies: int) -> None:
    sol = normal_paths(3, 6)
    sol.ys = sol.ys.repeat(1, copies, 1)
    figure = plots.plot_paths(sol, envelope="std", scale=scale, clock=clock)
    drawn = pixels(figure).astype(int)
    axes = figure.axes[0]
    xs = sol.std if clock == "log_std" else sol.ts
    for k in (1, 3, 4):
        extreme = int(sol.ys[k, :, 0].abs().argmax())
        x, y = axes.transData.transform((float(xs[k]), float(sol.ys[k, extreme, 0])))
        row, column = len(drawn) - 1 - int(y), int(x)
        spot = drawn[row - 3 : row + 4, column - 3 : column + 4]
        assert (spot[..., 2] - spot[..., 0]).max() > 15  # something blue
    (upper, lower) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert np.allclose(upper.get_xdata(), xs)
    assert np.allclose(lower.get_ydata(), -sol.std)


def test_the_end_is_seen_on_an_asinh_axis() -> None:
    sol = noisy(images(5), 41)

    def share(**options: str) -> float:
        axes = plots.plot_paths(sol, **options).axes[0]
        low, high = axes.transAxes.inverted().transform(axes.transData.transform([(0, 0), (0, 1)]))
        return high[1] - low[1]

    assert share() < 0.02
    assert share(scale="asinh") > 0.1


def test_a_state_without_noise_has_no_place_in_log_std() -> None:
    sol = normal_paths(5)
    sol.std[-1] = 0
    axes = plots.plot_paths(sol, clock="log_std").axes[0]
    assert axes.get_xlim() == (float(sol.std[0]), float(sol.std[-2]))
    assert len(lines(axes, "--")[0]) == 20
    sol.std[3] = sol.std[5]
    with pytest.raises(InputError, match="does not rise or fall"):
        plots.plot_paths(sol, clock="log_std")
    with pytest.raises(InputError, match="take clock='t'"):
        plots.plot_paths(Trajectory(sol.ts, sol.ys, "own"), clock="log_std")
    with pytest.raises(InputError, match="scale = 'log'"):
        plots.plot_paths(sol, scale="log")
    with pytest.raises(InputError, match="clock = 's'"):
        plots.plot_paths(sol, clock="s")


def test_a_line_of_text_says_what_the_envelopes_are() -> None:
    sol = normal_paths(5)
    said = plots.plot_paths(sol, envelope="both").get_supxlabel()
    assert "diffusion coefficient" in said
    assert "standard deviation" in said
    assert plots.plot_paths(sol, envelope=None).get_supxlabel() == ""
    figure = Figure()
    plots.plot_paths(sol, ax=figure.add_subplot())
    assert figure.get_supxlabel() == ""


def test_the_legend_stands_where_the_paths_are_narrow() -> None:
    sol = normal_paths(500)
    back = Trajectory(sol.ts.flip(0), sol.ys.flip(0), "", diffusion=sol.diffusion.flip(0))
    for one, side in ((sol, 0.85), (back, 0.15)):
        figure = plots.plot_paths(one)
        pixels(figure)
        axes = figure.axes[0]
        box = axes.get_legend().get_window_extent().transformed(axes.transAxes.inverted())
        assert abs((box.x0 + box.x1) / 2 - side) < 0.15


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (1, 3), (2, 4, 4)])
def test_paths_of_any_states(shape: tuple[int, ...]) -> None:
    axes = plots.plot_paths(noisy(torch.zeros(6, *shape), 5)).axes[0]
    assert f"{6 * int(np.prod(shape))} paths" in legend_of(axes)


# -- points in the plane -----------------------------------------------------------------------


def shades(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("scale", ["linear", "relative"])
def test_points_end_where_they_end(scale: str) -> None:
    sol = plane_paths(300)
    axes = plots.plot_plane(sol, scale=scale).axes[0]
    (paths,) = axes.collections
    assert len(paths.get_segments()) == 16
    view = 1 if scale == "linear" else None
    rings, ends = axes.lines[1:]
    r = 1.15 * float((sol.final.amax(0) - sol.final.amin(0)).max()) / 2
    middle = (sol.final.amax(0) + sol.final.amin(0)).double().numpy() / 2

    def place(k: int) -> np.ndarray:
        gain = view or r / (r + 2.5 * float(sol.std[k]))
        return middle + gain * (sol.ys[k].double().numpy() - middle)

    assert np.allclose(ends.get_xydata(), place(-1), atol=1e-5)
    assert np.allclose(rings.get_xydata()[0], place(0)[0], atol=1e-5)
    assert np.allclose(paths.get_segments()[0], [place(k)[0] for k in range(21)], atol=1e-5)
    assert axes.get_xlim()[0] < ends.get_xdata().min()


def test_the_exact_density_of_the_plane() -> None:
    sol = plane_paths(300)
    figure = plots.plot_plane(sol, exact=PLANE, scale="relative")
    drawn, axes = shades(figure), figure.axes[0]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    middles = (np.arange(len(drawn)) + 0.5) / len(drawn)
    x, y = x0 + middles * (x1 - x0), (y0 + middles * (y1 - y0))[:, None]
    variance = 0.25 + float(sol.std[-1]) ** 2
    law = sum(
        np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / variance)
        for a, b in ((3.0, 0.0), (-3.0, 1.0))
    )
    assert np.allclose(drawn, law / law.max(), atol=1e-4)
    smoothed = shades(plots.plot_plane(sol, scale="relative"))
    assert np.corrcoef(smoothed.ravel(), law.ravel())[0, 1] > 0.8
    assert "exact density" in figure.get_supxlabel()


def test_what_is_not_in_the_plane() -> None:
    with pytest.raises(InputError, match=r"\(2, 784\) are not points.*plot_paths shows any states"):
        plots.plot_plane(noisy(torch.zeros(2, 784), 3))
    sol = plane_paths(5)
    with pytest.raises(InputError, match="scale = 'asinh'"):
        plots.plot_plane(sol, scale="asinh")
    with pytest.raises(InputError, match="expected a score with log_prob"):
        plots.plot_plane(sol, exact=lambda x, t: x)
    with pytest.raises(InputError, match="one finite number for each point"):
        plots.plot_plane(sol, exact=OneNumber())
    with pytest.raises(InputError, match="take scale='linear'"):
        plots.plot_plane(Trajectory(sol.ts, sol.ys, "own"), scale="relative")


class OneNumber:
    def log_prob(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.zeros(1)


def test_points_of_a_plot_that_are_not_finite() -> None:
    sol = plane_paths(5)
    sol.ys[3:, 0], sol.ys[4:, 1] = float("nan"), float("inf")
    assert np.isfinite(plots.plot_plane(sol).axes[0].get_xlim()).all()
    sol.ys[:] = float("nan")
    pixels(plots.plot_plane(sol))


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
