"""Signals and points of any number of coordinates, in every view; flat states and shaped ones."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from diffsde.cli.pictures import Pictures
from diffsde.cli.solving import Run, Solved
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores.exact import MixtureScore
from diffsde.scores.model import ScoreModel
from diffsde.solvers.trajectory import Trajectory
from diffsde.views import (
    film_strip,
    gallery,
    plot_images,
    plot_plane,
    plot_signals,
    write_gallery,
    write_html,
)
from diffsde.views.animation import animate
from diffsde.views.film_fit import CELL_GAP, fit_signals
from diffsde.views.film_parts import LINE_HEIGHT
from diffsde.views.film_signals import thinned
from diffsde.views.kinds import IMAGES, PLANE, SIGNALS, kind_of
from diffsde.views.last_states import plot_last_states
from diffsde.views.style import DARK, LIGHT, Theme
from tests.paths import images, noisy
from tests.views.figures import pixels
from tests.views.test_animation import frames_of
from tests.views.test_explorer import page_of

SHAPES = ((1,), (3,), (1, 16), (2, 64))
MARGIN, EDGE = 8, 3  # around a film, and beside the ends of a line

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
flat_and_shaped = pytest.mark.parametrize("flat", [False, True], ids=["shaped", "flat"])


def samples(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Waves with a phase of their own for every sample and every channel: (n, *shape)."""
    *channels, length = shape
    late = torch.arange(n * math.prod(channels)).reshape(n, *channels, 1)
    return torch.sin(0.7 * late + 0.4 * torch.arange(length))


def path(shape: tuple[int, ...], *, flat: bool = False, n: int = 4, seed: int = 0) -> Trajectory:
    """A path to such samples, with their halves as estimates."""
    x0 = samples(n, shape)
    sol = noisy(x0, 4, seed=seed)
    sol.ys[-1], sol.denoised = x0, (0.5 * x0).expand_as(sol.ys)
    return flattened(sol) if flat else sol


def flattened(sol: Trajectory) -> Trajectory:
    assert sol.denoised is not None
    return replace(sol, ys=sol.ys.flatten(2), denoised=sol.denoised.flatten(2))


# -- films -------------------------------------------------------------------------------------


def parts_of(frame: np.ndarray, sols: int, parts: int, height: int) -> list[np.ndarray]:
    """The grids of a film without titles: the states of each trajectory, then its estimates."""
    inner = frame[MARGIN:-MARGIN, MARGIN:-MARGIN]
    width = (inner.shape[1] - 24 * (sols - 1)) // sols
    blocks = [inner[:, k * (width + 24) :][:, :width] for k in range(sols)]
    if parts == 1:
        return [block[:height] for block in blocks]
    top = LINE_HEIGHT + 2  # the caption of states or estimates
    halves = [(b[:, : (width - 8) // 2], b[:, -((width - 8) // 2) :]) for b in blocks]
    return [half[top : top + height] for pair in halves for half in pair]


def heights(cell: np.ndarray, colour: str, columns: np.ndarray, look: Theme) -> np.ndarray:
    """Where a line of this colour crosses these columns, in pixels from below: their middle."""
    line, paper = (255 * np.array(to_rgb(c)) for c in (colour, look.paper))
    along = line - paper
    strength = ((cell - paper) @ along) / (along @ along)
    residue = np.abs(cell - paper - strength[..., None] * along).max(-1)
    ink = np.where((residue < 3) & (strength > 0.3), strength, 0)[::-1, columns]
    with np.errstate(invalid="ignore"):
        middle: np.ndarray = (ink * np.arange(len(cell))[:, None]).sum(0) / ink.sum(0)
    return middle


@every_shape
@flat_and_shaped
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("estimates", [False, True], ids=["states", "estimates"])
def test_lines_are_where_the_values_are(
    tmp_path: Path, shape: tuple[int, ...], flat: bool, dark: bool, estimates: bool
) -> None:
    """In the last frame, at every position that no other channel crosses, to within two pixels."""
    sols = [path(shape, flat=flat), path(shape, flat=flat, seed=1)]
    parts, look = 1 + estimates, DARK if dark else LIGHT
    film = animate(sols, tmp_path / "a.png", title=False, dark=dark, denoised=estimates)
    frames, _ = frames_of(film)
    cells = fit_signals(4, 2 * parts, None)
    grid = -(-4 // cells.columns) * (cells.height + CELL_GAP) - CELL_GAP
    shown = parts_of(frames[-1], 2, parts, grid)
    assert len(shown) == 2 * parts
    x0 = samples(4, shape).reshape(4, -1, shape[-1]).numpy()
    middle = (x0.max() + x0.min()) / 2
    half = 1.15 * (x0.max() - x0.min()) / 2
    # The last frame has s(ε) of noise around the data; estimates are on the data alone.
    spans = [half + 2.5 * float(sols[0].std[-1]), half]
    share = np.linspace(0, 1, shape[-1]) if shape[-1] > 1 else np.array([0.5])
    columns = np.floor(0.5 + EDGE + share * (cells.width - 1 - 2 * EDGE)).astype(int)
    for number, part in enumerate(shown):
        guess = parts == 2 and number % 2 == 1
        for i, channels in enumerate(x0 * (0.5 if guess else 1)):
            y, x = (k * (s + CELL_GAP) for k, s in zip(
                divmod(i, cells.columns), (cells.height, cells.width), strict=True))  # fmt: skip
            cell = part[y : y + cells.height, x : x + cells.width].astype(float)
            for c, values in enumerate(channels):
                colour = look.line(number // parts if len(channels) == 1 else c)
                expected = 0.5 + (values - middle) / (2 * spans[guess])
                found = heights(cell, colour, columns, look)
                expected_rows = expected * (cells.height - 1)
                near = np.abs(found - expected_rows) < 2.5
                # Where two channels cross, or a line is level with the zero, colours mix.
                assert near.mean() >= (0.75 if len(channels) > 1 else 0.9), (number, i, c)


@every_shape
def test_frames_differ_and_flat_states_make_the_same_film(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    sol = path(shape)
    shaped = animate(sol, tmp_path / "a.png").read_bytes()
    assert animate(flattened(sol), tmp_path / "b.png").read_bytes() == shaped
    frames, _ = frames_of(tmp_path / "a.png")
    assert len(frames) == 4
    assert all(not np.array_equal(a, b) for a, b in zip(frames[1:], frames, strict=False))


def test_a_gif_shows_what_a_png_shows(tmp_path: Path) -> None:
    sol = path((2, 64))
    gif, png = (frames_of(animate(sol, tmp_path / f"film{s}"))[0] for s in (".gif", ".png"))
    assert all(np.array_equal(a, b) for a, b in zip(gif, png, strict=True))


def test_a_video_has_the_films_size(tmp_path: Path) -> None:
    pytest.importorskip("av")
    imageio = pytest.importorskip("imageio.v3")
    sol = path((1, 16))
    video = imageio.imread(animate(sol, tmp_path / "film.mp4", duration=1, hold=0.1))
    with Image.open(animate(sol, tmp_path / "film.png")) as film:
        assert video.shape[1:3] == tuple(side + side % 2 for side in film.size[::-1])


def test_the_first_sixteen_are_shown_and_a_line_says_so(tmp_path: Path) -> None:
    sol = replace(path((1, 16), n=20), denoised=None)
    few = frames_of(animate(sol.sample(slice(16)), tmp_path / "a.png", shading=(-3.0, 3.0)))[0][-1]
    many = frames_of(animate(sol, tmp_path / "b.png", shading=(-3.0, 3.0)))[0][-1]
    assert many.shape == (few.shape[0] + LINE_HEIGHT, *few.shape[1:])
    assert np.array_equal(many[: -LINE_HEIGHT - MARGIN], few[:-MARGIN])
    said = many[-LINE_HEIGHT - MARGIN : -MARGIN]
    assert (said != 255).any()


def test_the_scale_follows_what_was_asked_for(tmp_path: Path) -> None:
    """A level line at 1 stands higher, the less is spanned."""
    flat = noisy(torch.ones(1, 1, 8), 2)
    flat.ys[:] = torch.ones(1, 1, 8)

    def level(sol: Trajectory, k: int, **options: Any) -> float:
        frame = frames_of(animate(sol, tmp_path / "film.png", title=False, **options))[0][k]
        cell = frame[MARGIN : -MARGIN - LINE_HEIGHT, MARGIN:-MARGIN].astype(float)
        where = heights(cell, LIGHT.line(0), np.array([cell.shape[1] // 2]), LIGHT)[0]
        return float(where / (len(cell) - 1))

    assert level(flat, 0, shading=(0.0, 4.0)) == pytest.approx(0.25, abs=0.005)
    assert level(flat, 0, shading=(-3.0, 1.5)) == pytest.approx(4 / 4.5, abs=0.005)
    assert level(flat, 0) == pytest.approx(0.5, abs=0.005)  # the data are in the middle
    loud = replace(flat, ys=flat.ys.clone())
    loud.ys[0] += 9.0
    half = 1.0 + 2.5 * float(loud.std[0])  # data of no extent have room 1 on either side
    assert level(loud, 0) == pytest.approx(0.5 + 9 / (2 * half), abs=0.005)
    own = replace(loud, std=None)  # without s(t), all states have room
    assert level(own, 0) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("channels", [1, 7, 9])
def test_channels_go_round_the_colours(tmp_path: Path, channels: int) -> None:
    sol = Trajectory(torch.tensor([1.0, 0.0]), torch.zeros(2, 1, channels, 5), "own")
    sol.ys += torch.arange(channels)[:, None]
    frame = frames_of(animate(sol, tmp_path / "film.png", title=False))[0][-1]
    seen = {tuple(colour) for colour in frame.reshape(-1, 3)}
    wanted = {tuple(np.round(255 * np.array(to_rgb(c))).astype(int)) for c in LIGHT.lines}
    assert len(seen & wanted) == min(channels, len(LIGHT.lines))
    plot_signals(sol)


def test_values_that_are_not_finite_leave_gaps(tmp_path: Path) -> None:
    sol = path((1, 16))
    sol.ys[1:, 0, 0, 4] = float("nan")
    sol.ys[2, 1] = float("inf")
    sol.ys[3] = float("-inf")
    frames, _ = frames_of(animate(sol, tmp_path / "film.png"))
    assert len(frames) == 4
    plot_signals(sol)
    film_strip(sol, denoised=True)
    write_html(sol, tmp_path / "film.html")
    assert len(sol._repr_html_()) > 1000


@pytest.mark.parametrize("columns", [10, 160])
def test_long_signals_keep_their_extremes(columns: int) -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    places, kept = thinned(values, columns)
    assert len(kept) == len(places) == 2 * columns
    assert (kept.min(), kept.max()) == (values.min(), values.max())
    for k in range(columns):
        column = values[int(k * 50_000 / columns) : int((k + 1) * 50_000 / columns)]
        assert set(kept[2 * k : 2 * k + 2]) == {column.min(), column.max()}


def test_a_long_signal_is_drawn(tmp_path: Path) -> None:
    sol = Trajectory(torch.tensor([1.0, 0.0]), torch.randn(2, 2, 200_000), "own")
    frame = frames_of(animate(sol, tmp_path / "film.png", title=False))[0][-1]
    cell = frame[MARGIN : MARGIN + 100, MARGIN + 20 : MARGIN + 600]
    assert (cell != 255).any(-1).mean() > 0.3


@pytest.mark.parametrize("option", [{"zoom": 2}, {"histogram": True}], ids=str)
def test_what_films_of_signals_do_not_have(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="films of signals do not have this; leave it out"):
        animate(path((1, 16)), tmp_path / "film.gif", **option)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", [1, 2, 4, 9])
def test_columns(tmp_path: Path, columns: int) -> None:
    sol = replace(path((1, 16)), denoised=None)
    frame = frames_of(animate(sol, tmp_path / "film.png", columns=columns, title=False))[0][-1]
    cells = fit_signals(4, 1, columns)
    assert cells.columns == min(columns, 4)
    across = cells.columns * (cells.width + CELL_GAP) - CELL_GAP
    down = -(-4 // cells.columns) * (cells.height + CELL_GAP) - CELL_GAP + LINE_HEIGHT
    assert frame.shape[:2] == (down + 2 * MARGIN, across + 2 * MARGIN)


@pytest.mark.parametrize("batch", range(1, 17))
@pytest.mark.parametrize("parts", [1, 2, 4, 6])
def test_cells_have_room(batch: int, parts: int) -> None:
    cells = fit_signals(batch, parts, None)
    down = -(-batch // cells.columns)
    assert cells.height >= 16
    assert cells.width >= 1.4 * cells.height
    assert down * (cells.height + CELL_GAP) - CELL_GAP <= 448
    assert cells.columns * down - batch < cells.columns  # no empty row


def test_one_film_shows_one_kind(tmp_path: Path) -> None:
    for other in (noisy(images(4), 3), noisy(torch.zeros(4, 2), 3)):
        with pytest.raises(InputError, match="show them one after the other"):
            animate([path((1, 16)), other], tmp_path / "film.gif")
    animate([path((1, 16)), path((3,), n=2)], tmp_path / "film.gif")  # both are signals


@pytest.mark.parametrize(
    ("own", "shape", "kind"),
    [
        ((1, 6, 6), (1, 6, 6), IMAGES),
        ((36,), (1, 6, 6), IMAGES),
        ((36,), (36,), SIGNALS),
        ((36,), (), SIGNALS),
        ((36,), (2, 18), SIGNALS),
        ((36,), (2, 17), SIGNALS),  # a shape that does not fit says nothing
        ((2,), (2,), PLANE),
        ((2,), (1, 2), SIGNALS),
        ((1, 2), (1, 2), SIGNALS),
        ((2,), (1, 1, 2), IMAGES),
        ((1,), (), SIGNALS),
        ((4, 6, 6), (4, 6, 6), None),
        ((144,), (4, 6, 6), None),
        ((), (), None),
        ((0,), (0,), None),
    ],
)
def test_what_states_are(own: tuple[int, ...], shape: tuple[int, ...], kind: str | None) -> None:
    assert kind_of(Trajectory(torch.zeros(2), torch.zeros(2, 5, *own), "", shape=shape)) == kind


# -- plots -------------------------------------------------------------------------------------


def values_in(figure: Any, cells: int, channels: int) -> list[np.ndarray]:
    """The values of the lines in a plot, read by the labels beside it."""
    (axes,) = figure.axes
    ticks = list(zip(axes.get_yticks(), axes.get_yticklabels(), strict=True))
    marks = [(height, float(text.get_text().replace("−", "-"))) for height, text in ticks]
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    lines = [line for line in lines if len(line) > 2]
    assert len(lines) == cells * channels
    found = []
    for line in lines:
        row = math.floor(-np.nanmean(line) / 1.16)
        a, b = sorted(m for m in marks if math.floor(-m[0] / 1.16) == row)[::2][:2]
        found.append(a[1] + (line - a[0]) * (b[1] - a[1]) / (b[0] - a[0]))
    return found


@pytest.mark.parametrize("shape", [(3,), (1, 16), (2, 64)], ids=str)
@flat_and_shaped
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_plot_shows_the_last_values(shape: tuple[int, ...], flat: bool, dark: bool) -> None:
    sol = path(shape, flat=flat)
    figure = plot_signals(sol, dark=dark, columns=1)
    signals = samples(4, shape).reshape(-1, shape[-1])
    found = values_in(figure, 4, len(signals) // 4)
    assert np.allclose(found, signals, atol=1e-5)
    look, channels = DARK if dark else LIGHT, len(signals) // 4
    colours = [line.get_color() for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert colours == [look.line(c) for c in range(channels)] * 4
    assert np.array_equal(
        pixels(figure), pixels(plot_signals(samples(4, shape), dark=dark, columns=1))
    )


def test_a_plot_says_how_many_it_shows(tmp_path: Path) -> None:
    x = samples(40, (1, 16))
    assert plot_signals(x, tmp_path / "a.png").texts[-1].get_text() == "The first 16 of 40."
    assert (
        len([line for line in plot_signals(x, n=3).axes[0].lines if len(line.get_xdata()) > 2]) == 3
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    for wrong in ({"n": 0}, {"columns": 0}, {"n": 1.5}):
        with pytest.raises(InputError, match="expected a whole number"):
            plot_signals(x, **wrong)


def test_what_is_not_a_signal_is_sent_to_the_right_plot() -> None:
    flat = Trajectory(torch.zeros(1), torch.zeros(1, 2, 36), "", shape=(1, 6, 6))
    for wrong in (torch.zeros(2, 1, 6, 6), noisy(images(2), 2), flat):
        with pytest.raises(InputError, match="are not signals.*plot_images shows images"):
            plot_signals(wrong)
    with pytest.raises(InputError, match="nothing to show"):
        plot_signals(torch.zeros(0, 1, 6))
    for sol in (path((1, 16)), path((3,)), path((2, 64), flat=True)):
        with pytest.raises(InputError, match=r"are not images.*plot_signals shows signals"):
            plot_images(sol)
        with pytest.raises(InputError, match="plot_signals"):
            sol.images()


@every_shape
@pytest.mark.parametrize("denoised", [False, True])
def test_a_strip_shows_each_sample_at_each_time(shape: tuple[int, ...], denoised: bool) -> None:
    sol = path(shape)
    figure = film_strip(sol, frames=3, n=2, denoised=denoised)
    (axes,) = figure.axes
    colours = {LIGHT.line(c) for c in range(2)}
    lines = [line for line in axes.lines if line.get_color() in colours]
    assert len(lines) == 2 * 3 * (1 + denoised) * (shape[0] if len(shape) == 2 else 1)
    assert axes.get_xticklabels()[0].get_text() == "t = 1"
    flat = film_strip(flattened(sol), frames=3, n=2, denoised=denoised)
    assert np.array_equal(pixels(figure), pixels(flat))
    assert not np.array_equal(pixels(figure), pixels(film_strip(sol, frames=3, n=2, dark=True)))


def test_a_strip_has_the_scale_of_each_time() -> None:
    sol = path((1, 16))
    (axes,) = film_strip(sol, frames=4, n=1).axes
    lines = [line for line in axes.lines if line.get_color() == LIGHT.line(0)]
    x0 = samples(4, (1, 16))
    middle, half = float(x0.max() + x0.min()) / 2, 1.15 * float(x0.max() - x0.min()) / 2
    for k, line in enumerate(lines):
        span = half + 2.5 * float(sol.std[k])
        expected = -0.5 + (sol.ys[k, 0, 0].numpy() - middle) / (2 * span)
        assert np.allclose(line.get_ydata(), expected, atol=1e-5)


# -- explorer, gallery -------------------------------------------------------------------------


@every_shape
@flat_and_shaped
def test_an_explorer_holds_the_values(tmp_path: Path, shape: tuple[int, ...], flat: bool) -> None:
    sol = path(shape, flat=flat)
    page = page_of(write_html([sol, sol], tmp_path / "path.html"))
    channels = shape[0] if len(shape) == 2 else 1
    assert page["shape"] == [4, channels, 1, shape[-1]]
    assert page["plane"] is None
    x0 = samples(4, shape)
    assert page["signals"]["centre"] == pytest.approx([float(x0.max() + x0.min()) / 2], abs=1e-5)
    assert page["signals"]["near"] == pytest.approx(float(x0.max() - x0.min()) / 2, rel=1e-4)
    for run in page["runs"]:
        for key, spans, states in (
            ("states", "span", sol.ys),
            ("denoised", "guess_span", sol.denoised),
        ):
            low, high = np.array(run[spans]).T[..., None]
            stored = np.frombuffer(base64.b64decode(run[key]), "<u2").reshape(4, -1) / 65535
            error = np.abs(low + stored * (high - low) - states.flatten(1).numpy())
            assert (error <= 1e-5 * (high - low)).all()


def test_an_explorer_holds_the_first_of_many(tmp_path: Path) -> None:
    page = page_of(write_html(noisy(samples(90, (2, 8)), 3), tmp_path / "path.html"))
    assert (page["shape"], page["batch"]) == ([64, 2, 1, 8], 90)
    with pytest.raises(InputError, match="expected one shape"):
        write_html([path((1, 16)), path((2, 64))], tmp_path / "path.html")
    with pytest.raises(InputError, match=r"signals of shape \(1, 16\) take .*two frames do not"):
        write_html(path((1, 16)), tmp_path / "path.html", megabytes=0)


class Known(torch.nn.Module):
    """The score of a few samples, as a network would give it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.sde = VESDE()
        self.score = MixtureScore(self.sde, samples(5, shape), 0.1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.score(x, t)


@pytest.mark.parametrize(
    ("sol", "plot"),
    [
        (noisy(images(2), 2), plot_images),
        (noisy(torch.eye(2), 2), plot_plane),
        (path((3,)), plot_signals),
        (path((2, 64), flat=True), plot_signals),
    ],
)
def test_last_states_are_in_the_plot_that_fits(sol: Trajectory, plot: Any, tmp_path: Path) -> None:
    assert np.array_equal(pixels(plot_last_states(sol, tmp_path / "a.png")), pixels(plot(sol)))


def test_the_command_knows_that_signals_have_no_pixels(tmp_path: Path) -> None:
    model = ScoreModel(Known((1, 16)), VESDE(), (1, 16))
    look: dict[str, Any] = {"film": "gif", "fps": None, "paths": True, "dark": False}
    with pytest.raises(InputError, match=r"--size 300: .* samples of shape \(1, 16\), not images"):
        Pictures.checked(tmp_path, model, size=300, **look)
    nobody: Any = None
    solved, written = Solved([Run(nobody, path((1, 16)))], None), list[Path]()
    Pictures.checked(tmp_path, model, size=None, **look).write(solved, written)
    assert [file.suffix for file in written] == [".safetensors", ".png", ".png", ".gif"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2,), ("points", "coordinate")),
        ((3,), ("signals", "value")),
        ((2, 8), ("signals", "value")),
    ],
)
def test_a_gallery_of_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], words: tuple[str, str]
) -> None:
    monkeypatch.setattr(gallery, "_PLOT_DPI", 30)
    monkeypatch.setattr(gallery, "SHOWN", gallery.SHOWN[2:4])
    known = Known(shape)
    written = write_gallery(tmp_path, ScoreModel(known, known.sde, shape), steps=3, n=2, dark=True)
    assert set(written) == set(tmp_path.iterdir())
    text = (tmp_path / "index.html").read_text("utf-8")
    said = re.sub(r'(?:src|href)="[^"]*"|<style.*?</style>', "", text, flags=re.S)
    things, value = words
    assert f"turns it into {things}" in said
    assert f"path of every {value}" in said
    assert "{{" not in said
    assert not re.search(r"\bimages?\b|\bpixel", re.sub(r'class="[^"]*"', "", said))


@pytest.mark.parametrize("shape", [(1, 16), (2, 64)], ids=str)
def test_a_dataset_names_the_axes_of_signals(shape: tuple[int, ...]) -> None:
    pytest.importorskip("xarray")
    from diffsde.views.arrays import from_xarray, to_xarray

    sol = path(shape)
    dataset = to_xarray(sol)
    assert dataset["states"].dims == ("t", "sample", "channel", "position")
    assert dataset["denoised"].dims == dataset["states"].dims
    assert torch.equal(from_xarray(dataset).ys, sol.ys)
    assert to_xarray(path((3,)))["states"].dims == ("t", "sample", "axis_0")
