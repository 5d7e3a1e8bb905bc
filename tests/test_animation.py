"""Films are read back with readers that are not ours: Pillow, and PyAV through imageio."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffsde.animation import animate
from diffsde.display import reached, shade_limits
from diffsde.errors import InputError
from diffsde.trajectory import Trajectory
from tests.paths import images, noisy


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Colours of every frame, and its milliseconds."""
    with Image.open(path) as film:
        frames, durations = [], []
        for k in range(film.n_frames):
            film.seek(k)
            durations.append(film.info["duration"])
            frames.append(np.asarray(film.convert("RGB")))
    return frames, durations


def bare(sol: Trajectory, path: Path, **options: object) -> list[np.ndarray]:
    """A film without words and at its own size, without its margin: only the images."""
    animate(sol, path, title=False, zoom=1, **options)
    return [frame[8:-8, 8:-8] for frame in frames_of(path)[0]]


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_every_state_is_a_frame_and_the_last_is_held(tmp_path: Path, suffix: str) -> None:
    path = animate(noisy(images(5), 41), tmp_path / f"film{suffix}", fps=50)
    frames, durations = frames_of(path)
    assert len(frames) == 41
    assert durations == [20] * 40 + [200]  # 40 frames and, at the end, a quarter of them


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
    assert errors[-1] <= 0.51 * shade + 1  # the frame that is held is exact


def test_a_gif_leaves_out_changes_that_nobody_sees(tmp_path: Path) -> None:
    def size(frames: int) -> int:
        return animate(noisy(images(5), frames), tmp_path / "film.gif").stat().st_size

    # Steps of a path that is twice as fine are smaller: most pixels wait.
    assert size(201) < 1.75 * size(101)  # 1.93 if none did


def test_shades_follow_the_noise_and_end_on_the_data() -> None:
    sol = noisy(images(5), 101)
    limits = shade_limits(sol, "envelope")
    clipped = [
        float(((y < low) | (y > high)).float().mean())
        for y, (low, high) in zip(sol.ys, limits, strict=True)
    ]
    assert max(clipped) < 0.06  # what lies beyond two standard deviations
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
    assert frames_of(path)[1] == [40] * 20 + [20]
    animate(sol, path, speed=3, hold=1, fps=25, ping_pong=True)
    frames, durations = frames_of(path)
    forward, back = frames[:8], frames[8:]
    assert durations[7] == 1000
    assert len(back) == 6
    differences = [np.abs(a.astype(int) - b) for a, b in zip(forward[6:0:-1], back, strict=True)]
    assert max(map(np.max, differences)) <= 4 * 255 / 63 + 1  # two shades of lag each way


def test_gif_delays_add_up(tmp_path: Path) -> None:
    path = animate(noisy(images(1), 31), tmp_path / "film.gif", fps=30, hold=0)
    assert sum(frames_of(path)[1]) == pytest.approx(31 / 30 * 1000, abs=10)


def test_one_palette_serves_the_whole_film(tmp_path: Path) -> None:
    path = animate(noisy(images(2), 5), tmp_path / "film.gif")
    with Image.open(path) as film:
        palette = bytes(film.getpalette()[:192])
    content = path.read_bytes()
    assert content.count(palette) == 1
    # Image descriptors (0x2C, corner, size, flags, bits a pixel): no frame brings its own.
    corner = b"\x2c\0\0\0\0" + content[6:10]
    assert content.count(corner + b"\0\x08") == content.count(corner) == 5


def test_several_trajectories_are_aligned_by_time(tmp_path: Path) -> None:
    x0 = images(1)
    fine, coarse = noisy(x0, 41), noisy(x0, 5, method="coarse")
    frames = bare([fine, coarse], tmp_path / "film.png", columns=1)
    right = [frame[:, 28 + 8 :] for frame in frames]
    changes = [k for k in range(1, 41) if not np.array_equal(right[k], right[k - 1])]
    assert changes == [10, 20, 30, 40]


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
    # The estimates stand on [0, 1] from the first frame on.
    frames = bare(sol, path, columns=2)
    assert np.array_equal(frames[0][:, 57 + 8 :], frames[-1][:, 57 + 8 :])


def test_the_title_changes_with_time(tmp_path: Path) -> None:
    sol = noisy(images(1), 3)
    frames, _ = frames_of(animate(sol, tmp_path / "film.png"))
    title = [frame[8:26] for frame in frames]
    assert title[0].std() > 10
    assert not np.array_equal(title[0], title[1])


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


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        sol = noisy(images(5), frames)
        tracemalloc.start()
        animate(sol, tmp_path / "film.gif", zoom=4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)  # fonts and colour maps are loaded once
    one_frame = 5 * 28 * 28 * 4**2
    assert peak(120) - peak(20) < 2 * one_frame


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"speed": 0}, "speed = 0"),
        ({"hold": -1}, "hold = -1"),
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
    points = Trajectory(torch.tensor([1.0, 0.0]), torch.zeros(2, 5, 2), "own", shape=(2,))
    with pytest.raises(InputError, match="are not images"):
        animate(points, tmp_path / "film.gif")
    with pytest.raises(InputError, match="expected a Trajectory"):
        animate([], tmp_path / "film.gif")
    with pytest.raises(InputError, match="expected a Trajectory"):
        animate([torch.zeros(3)], tmp_path / "film.gif")
