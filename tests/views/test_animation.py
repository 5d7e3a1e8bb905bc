"""Films are read back by independent readers: Pillow, and PyAV through imageio."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views import film_parts
from diffsde.views.animation import animate
from diffsde.views.display import reached, shade_limits, title_of
from diffsde.views.pace import choose_pace
from diffsde.views.style import DARK, LIGHT
from tests.paths import images, noisy

GAP = np.full((28, 24, 3), 255)  # between trajectories
SHADE = 255 / 63 + 0.5  # rounding to one of 64 shades may go either way


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """The colours of every frame, and how many milliseconds it is shown."""
    with Image.open(path) as film:
        frames, durations = [], []
        for k in range(film.n_frames):
            film.seek(k)
            durations.append(film.info["duration"])
            frames.append(np.asarray(film.convert("RGB")))
    return frames, durations


def bare(sol: Trajectory, path: Path, **options: object) -> list[np.ndarray]:
    """The frames of an unmagnified film without text and margin: only the images."""
    animate(sol, path, title=False, zoom=1, **options)
    return [frame[8:-8, 8:-8] for frame in frames_of(path)[0]]


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_given_fps_every_state_is_a_frame_and_the_last_is_held(tmp_path: Path, suffix: str) -> None:
    path = animate(noisy(images(5), 41), tmp_path / f"film{suffix}", fps=50)
    frames, durations = frames_of(path)
    assert len(frames) == 41
    assert durations == [20] * 40 + [2000]


LENGTHS = [(5, 6.0), (20, 6.0), (100, 6.0), (500, 10.0), (900, 12.0)]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".apng"])
@pytest.mark.parametrize(("steps", "seconds"), LENGTHS)
def test_a_film_lasts_as_long_as_one_can_watch(
    tmp_path: Path, suffix: str, steps: int, seconds: float
) -> None:
    path = animate(noisy(images(1, side=8), steps + 1), tmp_path / f"film{suffix}", title=False)
    frames, durations = frames_of(path)
    assert len(frames) == min(steps, 600) + 1
    assert sum(durations[:-1]) == pytest.approx(1000 * seconds)
    assert len(set(durations[:-1])) == 1  # nothing stutters
    assert durations[-1] == 2000


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize(("steps", "seconds"), LENGTHS[:-1])
def test_a_video_lasts_as_long(tmp_path: Path, suffix: str, steps: int, seconds: float) -> None:
    av = pytest.importorskip("av")
    path = animate(noisy(images(1, side=8), steps + 1), tmp_path / f"film{suffix}", title=False)
    with av.open(path) as film:
        times = [float(p.pts * p.time_base) for p in film.demux(video=0) if p.pts is not None]
    assert len(times) == 50 * (seconds + 2)
    assert max(times) == pytest.approx(seconds + 2 - 1 / 50, abs=1e-3)


@pytest.mark.parametrize("length", [*range(1, 40), 151, 301, 302, 421, 600, 601, 602, 2000])
def test_every_default_pace(length: int) -> None:
    pace = choose_pace(length, fps=None, speed=None, duration=None, hold=None, ping_pong=False)
    *passing, held = pace.shown
    assert [k for k, _ in pace.shown] == sorted({k for k, _ in pace.shown})
    assert len({ticks for _, ticks in passing}) <= 1
    assert 25 < pace.fps <= 50  # so that seconds are whole numbers of ticks, to within 20 ms
    assert held[0] == length - 1
    assert held[1] / pace.fps == pytest.approx(2, abs=0.02)
    seconds = sum(ticks for _, ticks in passing) / pace.fps
    assert seconds == pytest.approx(0 if length == 1 else np.clip((length - 1) / 50, 6, 12))


def test_the_product_of_fps_speed_and_duration_is_the_number_of_steps(tmp_path: Path) -> None:
    sol, path = noisy(images(1, side=8), 61), tmp_path / "film.png"

    def passing(**options: float) -> tuple[int, float]:
        frames, durations = frames_of(animate(sol, path, title=False, hold=1, **options))
        assert durations[-1] == pytest.approx(1000, abs=20)
        return len(frames) - 1, round(sum(durations[:-1]) / 1000, 6)

    assert passing(duration=3) == (60, 3.0)
    assert passing(duration=0.6) == (30, 0.6)  # at 50 frames per second
    assert passing(speed=2) == (30, 0.6)
    assert passing(speed=0.5) == (60, 2.4)
    assert passing(fps=20) == (60, 3.0)
    assert passing(fps=20, speed=2) == (30, 1.5)
    assert passing(fps=20, duration=1.5) == (30, 1.5)
    assert passing(fps=10, duration=12) == (60, 12.0)


def test_long_stays(tmp_path: Path) -> None:
    sol = noisy(images(1, side=8), 2)
    for suffix in (".gif", ".png"):
        path = animate(sol, tmp_path / f"film{suffix}", duration=500, hold=600)
        assert frames_of(path)[1] == [500_000, 600_000]


@pytest.mark.parametrize(("suffix", "lag"), [(".gif", 2), (".png", 0)])
def test_pixels_are_the_states(tmp_path: Path, suffix: str, lag: int) -> None:
    sol = noisy(images(1), 41)
    frames = bare(sol, tmp_path / f"film{suffix}")
    errors = []
    for k, (low, high) in enumerate(shade_limits(sol, "envelope")):
        expected = ((sol.ys[k, 0, 0] - low) / (high - low)).clamp(0, 1) * 255
        errors.append(np.abs(frames[k][..., 0] - expected.numpy()).max())
    shade = 255 / 63
    assert max(errors) <= (0.51 + lag) * shade + 1
    assert errors[-1] <= 0.51 * shade + 1  # the last frame is exact


def grey(states: torch.Tensor) -> np.ndarray:
    """Values (H, W) in [0, 1] rounded to the film's 64 shades, on [0, 255]."""
    shades = np.floor(63 * states.clamp(0, 1).double().numpy() + 0.5)
    return np.round(255 * shades / 63)


def test_images_stand_in_rows_and_columns(tmp_path: Path) -> None:
    sol = noisy(images(5), 2)
    frame = bare(sol, tmp_path / "film.png", columns=3, shading="data")[-1][..., 0]
    assert frame.shape == (2 * 29 - 1, 3 * 29 - 1)
    paper = 255
    for i in range(6):
        y, x = 29 * (i // 3), 29 * (i % 3)
        expected = grey(sol.ys[-1, i, 0]) if i < 5 else np.full((28, 28), paper)
        assert np.abs(frame[y : y + 28, x : x + 28] - expected).max() <= SHADE
    assert (frame[28] == paper).all()
    assert (frame[:, 28] == paper).all()


def test_size(tmp_path: Path) -> None:
    sol, path = noisy(images(2), 2), tmp_path / "film.png"
    once = bare(sol, path)[-1]
    animate(sol, path, title=False, zoom=3)
    thrice = frames_of(path)[0][-1][8:-8, 8:-8]
    assert np.array_equal(thrice, once.repeat(3, 0).repeat(3, 1))
    animate(noisy(images(9), 2), path, title=False)  # 3 × 3 images, 86 pixels across
    with Image.open(path) as film:
        assert film.size == (5 * 86 + 16, 5 * 86 + 16)  # with the margins


def test_colour_maps_and_grounds(tmp_path: Path) -> None:
    sol, path = noisy(images(1), 3), tmp_path / "film.png"
    shades = grey(sol.ys[-1, 0, 0]) / 255
    for cmap in ("viridis", matplotlib.colormaps["magma"]):
        drawn = bare(sol, path, cmap=cmap, shading="data")[-1]
        named = matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
        assert np.abs(drawn - 255 * named(shades)[..., :3]).max() < 8  # one of 64 shades
    for dark, look in ((False, LIGHT), (True, DARK)):
        frame = frames_of(animate(sol, path, dark=dark))[0][0]
        assert np.abs(frame[0, 0] - 255 * np.array(to_rgb(look.paper))).max() <= 0.5
        title = frame[8:26].reshape(-1, 3)
        assert np.abs(title - 255 * np.array(to_rgb(look.ink))).sum(1).min() < 30


def test_a_gif_leaves_out_changes_that_nobody_sees(tmp_path: Path) -> None:
    def size(frames: int) -> int:
        return animate(noisy(images(5), frames), tmp_path / "film.gif").stat().st_size

    # A path with twice as many steps has smaller ones, so most pixels are not redrawn.
    assert size(201) < 1.75 * size(101)  # 1.93 if all were redrawn


def test_shades_follow_the_noise_and_end_on_the_data() -> None:
    sol = noisy(images(5), 101)
    limits = shade_limits(sol, "envelope")
    clipped = [
        float(((y < low) | (y > high)).float().mean())
        for y, (low, high) in zip(sol.ys, limits, strict=True)
    ]
    assert max(clipped) < 0.06  # the share beyond two standard deviations
    assert limits[-1] == pytest.approx([0, 1], abs=0.07)
    bare_sol = Trajectory(sol.ts, sol.ys, "own", shape=sol.shape)
    guessed = shade_limits(bare_sol, "envelope")
    assert guessed[0] == pytest.approx(limits[0], rel=0.05)


def test_shading_on_the_data_and_on_an_interval(tmp_path: Path) -> None:
    sol = noisy(images(1), 3)
    first = bare(sol, tmp_path / "film.png", shading="data")[0]
    assert np.isin(first, [0, 255]).mean() > 0.9  # noise of std 10 on [0, 1]
    wide = bare(sol, tmp_path / "film.png", shading=(-1000.0, 1000.0))[0]
    assert np.abs(wide.astype(int) - 128).max() < 12
    for wrong in ("sigma", (1.0, 0.0)):
        with pytest.raises(InputError, match="shading"):
            animate(sol, tmp_path / "film.png", shading=wrong)


def test_colour_images_keep_their_colours(tmp_path: Path) -> None:
    sol = noisy(images(2, channels=3), 5)
    png = bare(sol, tmp_path / "film.png")[-1][:, :28]
    low, high = shade_limits(sol, "envelope")[-1]
    expected = ((sol.ys[-1, 0] - low) / (high - low)).clamp(0, 1).movedim(0, -1).numpy() * 255
    assert np.abs(png - expected).max() <= 1
    gif = bare(sol, tmp_path / "film.gif")[-1][:, :28]
    assert np.abs(gif - expected).mean() < 12  # 256 colours for the whole film


def test_speed_ping_pong_and_hold(tmp_path: Path) -> None:
    sol, path = noisy(images(1), 21), tmp_path / "film.gif"
    animate(sol, path, speed=4, hold=0)
    assert len(frames_of(path)[0]) == 6
    animate(sol, path, speed=0.5, hold=0, fps=50)
    assert frames_of(path)[1] == [40] * 20 + [20]  # a hold is at least one frame
    animate(sol, path, speed=3, hold=1, fps=25, ping_pong=True)
    frames, durations = frames_of(path)
    forward, back = frames[:8], frames[8:]
    assert durations[7] == 1000
    assert len(back) == 6
    differences = [np.abs(a.astype(int) - b) for a, b in zip(forward[6:0:-1], back, strict=True)]
    assert max(map(np.max, differences)) <= 4 * 255 / 63 + 1  # a lag of two shades each way


def test_gif_delays_add_up(tmp_path: Path) -> None:
    path = animate(noisy(images(1), 31), tmp_path / "film.gif", fps=30, hold=0)
    assert sum(frames_of(path)[1]) == pytest.approx(31 / 30 * 1000, abs=10)


def test_one_palette_serves_the_whole_film(tmp_path: Path) -> None:
    path = animate(noisy(images(2), 5), tmp_path / "film.gif")
    with Image.open(path) as film:
        palette = bytes(film.getpalette()[:192])
    content = path.read_bytes()
    assert content.count(palette) == 1
    # Image descriptors (0x2C, corner, size, flags, bits per pixel): no frame has its own palette.
    corner = b"\x2c\0\0\0\0" + content[6:10]
    assert content.count(corner + b"\0\x08") == content.count(corner) == 5


def test_several_trajectories_are_aligned_by_time(tmp_path: Path) -> None:
    x0 = images(1)
    fine, coarse = noisy(x0, 41), noisy(x0, 5, method="coarse")
    frames = bare([fine, coarse], tmp_path / "film.png", columns=1)
    right = [frame[:, 28 + 24 :] for frame in frames]
    changes = [k for k in range(1, 41) if not np.array_equal(right[k], right[k - 1])]
    assert changes == [10, 20, 30, 40]


def test_side_by_side_each_shows_its_own(tmp_path: Path) -> None:
    sols = [noisy(images(1), 5, seed=k) for k in range(3)]
    path = tmp_path / "film.png"
    alone = [bare(sol, path) for sol in sols]
    together = bare(sols, path)
    for k in range(5):
        assert np.array_equal(
            together[k],
            np.concatenate([alone[0][k], GAP, alone[1][k], GAP, alone[2][k]], axis=1),
        )


@pytest.mark.parametrize(
    ("batch", "trajectories", "grid", "zoom"),
    [
        (1, 2, (1, 1), 8),
        (4, 2, (2, 2), 7),
        (5, 2, (3, 2), 5),
        (6, 3, (3, 2), 5),
        (16, 2, (4, 4), 3),
        (64, 2, (8, 8), 1),
    ],
)
def test_several_trajectories_stand_side_by_side(
    tmp_path: Path, batch: int, trajectories: int, grid: tuple[int, int], zoom: int
) -> None:
    sols = [noisy(images(batch), 2, seed=k) for k in range(trajectories)]
    with Image.open(animate(sols, tmp_path / "film.png", title=False)) as film:
        width, height = film.size
    rows, columns = (29 * n - 1 for n in grid)
    assert height == rows * zoom + 16
    assert width == trajectories * columns * zoom + 24 * (trajectories - 1) + 16


def test_what_does_not_fit_begins_a_new_row(tmp_path: Path) -> None:
    sols = [noisy(images(1, side=200), 2) for _ in range(7)]
    with Image.open(animate(sols, tmp_path / "film.png", title=False, zoom=1)) as film:
        assert film.size == (4 * 200 + 3 * 24 + 16, 2 * 200 + 24 + 16)


def test_what_a_solve_has_reached() -> None:
    ts = torch.tensor([1.0, 0.7, 0.3, 0.1])
    assert [reached(ts, t) for t in (1.0, 0.9, 0.7, 0.31, 0.0)] == [0, 0, 1, 1, 3]
    assert [reached(ts.flip(0), t) for t in (0.0, 0.1, 0.5, 1.0)] == [0, 0, 1, 3]


def test_denoised_and_histogram_find_room(tmp_path: Path) -> None:
    sol = noisy(images(4), 3)
    path = tmp_path / "film.png"

    def size(**options: object) -> tuple[int, int]:
        animate(sol, path, zoom=2, columns=2, **options)
        with Image.open(path) as film:
            return film.size

    plain = size()
    with_bars = size(histogram=True)
    sol.denoised = images(4).expand_as(sol.ys)
    both = size()
    assert with_bars[0] > plain[0]
    assert both[0] > plain[0]
    assert size(denoised=False) == plain


def test_estimates_are_shown_on_the_data_from_the_first_frame_on(tmp_path: Path) -> None:
    sol = noisy(images(1), 3)
    fading = torch.tensor([0.2, 0.6, 1.0]).reshape(3, 1, 1, 1, 1)
    sol.denoised = fading * images(1)
    film = animate(sol, tmp_path / "film.png", zoom=4, title=False)
    for k, frame in enumerate(frames_of(film)[0]):
        right = frame[8:-8:4, 8:-8:4, 0][-28:, -28:]  # below its caption
        assert np.abs(right - grey(sol.denoised[k, 0, 0])).max() <= SHADE


def test_the_histogram_counts_the_frame_s_pixels(tmp_path: Path) -> None:
    sol = noisy(images(4), 3)
    frames = bare(sol, tmp_path / "film.png", columns=2, histogram=True)
    colour = np.round(255 * np.array(to_rgb(LIGHT.lines[0])))
    for k, (low, high) in enumerate(shade_limits(sol, "envelope")):
        bars = (frames[k][:, 57 + 8 :] == colour).all(-1).sum(0)[2::5]
        counts = np.histogram(sol.ys[k].numpy(), 32, (low, high))[0]
        expected = np.sqrt(counts / counts.max()) * bars.max()
        assert np.abs(bars - expected).max() <= 0.5
        assert bars.max() > 40


def test_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame shows the time, the noise, and the cost of each solver so far."""
    said: list[str] = []
    letters = film_parts.letters

    def heard(text: str, *size: int) -> np.ndarray:
        said.append(text)
        return letters(text, *size)

    monkeypatch.setattr(film_parts, "letters", heard)
    sol, path = noisy(images(1), 3), tmp_path / "film.png"
    sol.kind = "sde"
    first, _, last = frames_of(animate(sol, path))[0]
    assert said == [
        "t = 1.000   s(t) = 9.85", "SDE · em · 0 of 2 NFE",
        "t = 0.500   s(t) = 1.93", "SDE · em · 1 of 2 NFE",
        "t = 0.001   s(t) = 0.0317", "SDE · em · 2 of 2 NFE",
    ]  # fmt: skip
    assert first[8:26].std() > 10
    assert not np.array_equal(first[8:26], last[8:26])
    said.clear()
    animate(Trajectory(sol.ts[:1], sol.ys[:1], "own"), path)
    assert said == ["t = 1.000", "own · 0 NFE"]
    said.clear()
    flow = replace(noisy(images(1), 2, flow=True, method="heun2"), kind="ode")
    animate([sol, flow], path, fps=50)
    assert said[:5] == [
        "t = 1.000   s(t) = 9.85", "SDE · em", "0 of 2 NFE", "flow · heun2", "0 of 1 NFE",
    ]  # fmt: skip


def test_titles() -> None:
    sol = noisy(images(1), 2)
    assert title_of(sol) == "em"  # nobody said what it solved
    assert title_of(replace(sol, kind="sde", std=None)) == "SDE · em"
    assert title_of(replace(sol, kind="ode")) == "flow · em"
    assert title_of(replace(sol, kind="ode", std=None)) == "ODE · em"  # no forward process
    assert title_of(replace(sol, kind="ode", method="")) == "flow"
    assert title_of(replace(sol, kind="ode", method="Probability flow")) == "Probability flow"


# -- points in the plane -----------------------------------------------------------------------


CROSS = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [0.0, 3.0], [0.0, -1.0]])


def marks(frame: np.ndarray, colour: str) -> np.ndarray:
    """Where a frame has this colour, in columns and rows from the square's lower left: (N, 2)."""
    rows, columns = np.nonzero((frame == np.round(255 * np.array(to_rgb(colour)))).all(-1))
    return np.stack([columns, len(frame) - 1 - rows], 1)


def squares(sol: Trajectory | list[Trajectory], path: Path, **options: object) -> list[np.ndarray]:
    """The frames of a film of points without text and margin."""
    animate(sol, path, title=False, **options)
    return [frame[8:428, 8:-8] for frame in frames_of(path)[0]]


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_points_are_where_they_are(tmp_path: Path, suffix: str) -> None:
    sol = noisy(CROSS, 3)
    frames = squares(sol, tmp_path / f"film{suffix}")
    middle, data = np.array([0.0, 1.0]), 1.15 * 3.0
    for k, frame in enumerate(frames):
        half = data + 2.5 * float(sol.std[k])
        seen = marks(frame, LIGHT.lines[0])
        for point in sol.ys[k].numpy():
            place = (0.5 + (point - middle) / (2 * half)) * 420
            around = np.abs(seen - place).max(1) <= 4
            assert around.sum() >= 30  # of the disc's 37 pixels, where discs may overlap
            assert np.abs(seen[around].mean(0) - place).max() < 1.5
        assert len(seen) <= 4 * 37


def test_the_view_follows_what_was_asked_for(tmp_path: Path) -> None:
    sol = noisy(CROSS, 3)
    for shading, half in (("data", 3.45), ((-10.0, 10.0), 10.0)):
        seen = marks(squares(sol, tmp_path / "film.png", shading=shading)[-1], LIGHT.lines[0])
        extent = float(sol.final[:, 0].max() - sol.final[:, 0].min())
        assert np.ptp(seen[:, 0]) == pytest.approx(extent / (2 * half) * 420 + 6, abs=2)
    own = Trajectory(sol.ts, sol.ys, "own")
    first = marks(squares(own, tmp_path / "film.png")[0], LIGHT.lines[0])
    assert len(first) > 4 * 25  # without s(t), there is room for all


def test_points_of_a_plane_side_by_side_with_estimates(tmp_path: Path) -> None:
    sols = [noisy(CROSS, 3), noisy(CROSS, 3, flow=True)]
    for sol in sols:
        sol.denoised = CROSS.expand_as(sol.ys)
    frames, _ = frames_of(animate(sols, tmp_path / "film.png", dark=True))
    for number in (0, 1):
        assert len(marks(frames[0], DARK.lines[number])) > 30
    assert frames[0].shape[1] == 4 * 240 + 2 * 8 + 24 + 16
    again = frames_of(animate(sols, tmp_path / "film.png", denoised=False))[0]
    assert again[0].shape[1] == 2 * 420 + 24 + 16


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    sol = noisy(CROSS, 3)
    sol.ys[1:, 0] = float("nan")
    sol.ys[2, 1] = float("inf")
    assert len(marks(squares(sol, tmp_path / "film.png")[2], LIGHT.lines[0])) <= 2 * 37
    sol.ys[:] = 1.0
    squares(sol, tmp_path / "film.png", shading="data")  # data of no extent


@pytest.mark.parametrize("options", [{"columns": 2}, {"zoom": 2}, {"histogram": True}])
def test_points_have_no_pixels(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="films of points in the plane do not have this"):
        animate(noisy(CROSS, 3), tmp_path / "film.gif", **options)
    with pytest.raises(InputError, match="only images, only points in the plane"):
        animate([noisy(CROSS, 3), noisy(images(4), 3)], tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


def test_states_that_hold_nan_are_still_drawn(tmp_path: Path) -> None:
    sol = noisy(images(1), 3)
    sol.ys[1:] = float("nan")
    assert len(bare(sol, tmp_path / "film.gif")) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_video(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    import imageio.v3 as iio

    sol = noisy(images(1), 9)
    path = animate(sol, tmp_path / f"film{suffix}", fps=25, hold=0.2, zoom=3)
    film = iio.imread(path, plugin="pyav")
    still, _ = frames_of(animate(sol, tmp_path / "film.png", zoom=3))
    assert len(film) == 8 + 5
    height, width = still[0].shape[:2]
    assert film.shape[1:3] == (height + height % 2, width + width % 2)
    error = np.abs(film[-1][:height, :width].astype(float) - still[-1])
    assert error.mean() < 8


def test_a_missing_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"diffsde\[video\]"):
        animate(noisy(images(1), 3), tmp_path / "film.mp4")


@pytest.mark.parametrize(("suffix", "channels"), [(".gif", 1), (".png", 1), (".gif", 3)])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, suffix: str, channels: int) -> None:
    def peak(frames: int) -> int:
        sol = noisy(images(5, channels), frames)
        tracemalloc.start()
        animate(sol, tmp_path / f"film{suffix}", zoom=4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)  # the first call also loads fonts and colour maps
    one_frame = 5 * 28 * 28 * 4**2
    assert peak(60) - peak(10) < 2 * one_frame


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"speed": 0}, "speed = 0"),
        ({"speed": 1, "duration": 3}, "both say how fast"),
        ({"fps": 20, "speed": 1, "duration": 3}, "both say how fast"),
        ({"duration": 0}, "duration = 0"),
        ({"duration": float("nan")}, "duration = nan"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"hold": -1}, "hold = -1"),
        ({"hold": 601}, "stay for 601 seconds"),
        ({"duration": 2000}, "stay for 1000 seconds"),
        ({"fps": 60}, "at most 50"),
        ({"fps": 0}, "fps = 0"),
        ({"zoom": 0}, "zoom = 0"),
        ({"columns": 1.5}, "columns = 1.5"),
        ({"cmap": "grey8"}, "did you mean"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        animate(noisy(images(1), 3), tmp_path / "film.gif", **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.avi.*Valid names: .*\.gif"):
        animate(noisy(images(1), 3), tmp_path / "film.avi")
    other = "expected images .*decode=; plot_paths shows any"
    for shape, words in (
        ((2, 5, 4, 6, 6), other),
        ((2, 5), other),
        ((2, 0, 1, 6, 6), "expected at least one time and one sample"),
    ):
        states = Trajectory(torch.tensor([1.0, 0.0]), torch.zeros(shape), "own", shape=shape[2:])
        with pytest.raises(InputError, match=words):
            animate(states, tmp_path / "film.gif")
    with pytest.raises(InputError, match="expected a Trajectory"):
        animate([], tmp_path / "film.gif")
    with pytest.raises(InputError, match="expected a Trajectory"):
        animate([torch.zeros(3)], tmp_path / "film.gif")
