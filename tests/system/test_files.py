"""Files: whatever is written is written whole, or an error of ours says why it is not."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import diffsde
from diffsde import (
    CheckpointError,
    DataError,
    FileError,
    InputError,
    ProbabilityFlow,
    TrainingError,
    Trajectory,
)
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable
from diffsde.evaluation.plots import plot_evaluation
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.evaluation.scoring import Evaluation
from diffsde.views.comparisons import plot_losses
from tests import launched, paths
from tests.problems import flow, gaussian
from tests.system.kinds_of_scores import model as small_model


@cache
def sol() -> Trajectory:
    return paths.noisy(paths.images(2, side=8), 3)


@cache
def table() -> EvaluationTable:
    score = Evaluation(100, *[0.5] * 8, (0.1,) * 10, "mnist", "classifier")
    return EvaluationTable((EvaluationRow(Sampler(), 20, score),), score)


@cache
def work() -> Any:
    x = torch.ones(2, 4)
    return diffsde.work_precision(flow(gaussian(dims=4)), ["heun2"], [10], x=x)


@cache
def shown_film() -> Any:
    return diffsde.animate(sol())


def likelihood(path: Path) -> None:
    made = small_model()
    images = torch.zeros(2, *made.shape)
    problem = ProbabilityFlow(made.sde, made, made.shape)
    diffsde.evaluate_likelihood(problem, images, path=path, method="heun2", steps=1)


# Everything that writes one file, and the suffix that it is given.
WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "film": (".gif", lambda path: diffsde.animate(sol(), path)),
    "apng": (".apng", lambda path: diffsde.animate(sol(), path)),
    "shown film": (".gif", lambda path: shown_film().save(path)),
    "plot": (".png", lambda path: diffsde.plot_paths(sol(), path)),
    "svg": (".svg", lambda path: diffsde.plot_paths(sol(), path)),
    "images": (".png", lambda path: diffsde.plot_images(sol(), path)),
    "strip": (".png", lambda path: diffsde.film_strip(sol(), path)),
    "losses": (".png", lambda path: plot_losses([(1, 2.0), (2, 1.0)], path)),
    "scores": (".png", lambda path: plot_evaluation(table(), path)),
    "trajectory": (".safetensors", lambda path: sol().save(path)),
    "model": (".safetensors", lambda path: diffsde.save_model(launched.small_model(), path)),
    "explorer": (".html", lambda path: diffsde.views.write_html(sol(), path)),
    "table": (".csv", lambda path: table().save(path)),
    "work": (".csv", lambda path: work().save(path)),
    "likelihood": (".safetensors", likelihood),
}  # fmt: skip
PLOTS = ("plot", "images", "strip", "losses", "scores")
FILMS = ("film", "apng")

each_writer = pytest.mark.parametrize(("suffix", "write"), WRITERS.values(), ids=WRITERS)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within, the system refuses to make a file longer, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@each_writer
def test_names_that_are_allowed(
    suffix: str, write: Callable[[Path], object], tmp_path: Path
) -> None:
    for name in ("ä b" + suffix, "n" * (255 - len(suffix)) + suffix):
        write(tmp_path / name)
        assert left(tmp_path) == {name}
        (tmp_path / name).unlink()
    write(tmp_path / "new" / "folder" / f"a{suffix}")
    assert left(tmp_path / "new" / "folder") == {f"a{suffix}"}


@each_writer
def test_a_link_stays_a_link(suffix: str, write: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / f"target{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(target)
    write(link)  # a link to nothing yet
    assert link.is_symlink()
    assert target.stat().st_size
    assert left(tmp_path / "far") == {target.name}


@each_writer
def test_what_cannot_be_written(
    suffix: str, write: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"circle{suffix}").symlink_to(tmp_path / f"circle{suffix}")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    before = left(tmp_path)
    for path, words in (
        (tmp_path / f"folder{suffix}", "a folder is in the way"),
        (tmp_path / f"pipe{suffix}", "a device or a pipe"),
        (tmp_path / f"circle{suffix}", "no file can have this name .*[Ll]oop|levels of symbolic"),
        (tmp_path / ("n" * 300 + suffix), "no file can have this name .*too long"),
        (tmp_path / f"a\0b{suffix}", "no file can have this name .*null"),
        (tmp_path / "file" / f"a{suffix}", "cannot be written|file is in the way|cannot write in"),
        (Path(f"/proc/a{suffix}"), "cannot be written|cannot write in"),
    ):
        with pytest.raises((InputError, FileError), match=words):
            write(path)
        assert left(tmp_path) == before
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"likelihood"}))
def test_a_full_disk_takes_nothing_away(name: str, tmp_path: Path) -> None:
    suffix, write = WRITERS[name]
    path = tmp_path / f"a{suffix}"
    write(path)
    before = path.read_bytes()
    with files_of_at_most(20), pytest.raises(FileError, match=f"{path}: it cannot be written"):
        write(path)
    assert path.read_bytes() == before
    assert left(tmp_path) == {path.name}


def test_a_full_disk_loses_no_likelihoods(tmp_path: Path) -> None:
    with files_of_at_most(20), pytest.raises(FileError, match="it cannot be written"):
        likelihood(tmp_path / "kept")
    assert not left(tmp_path)


@pytest.mark.parametrize("name", [*PLOTS, *FILMS])
@pytest.mark.parametrize("suffix", ["", ".", ".nope", "x.png.exe"])
def test_a_suffix_chooses_the_format(name: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"format.* Valid names: .*\.png"):
        WRITERS[name][1](tmp_path / f"a{suffix}")
    assert not left(tmp_path)


@pytest.mark.parametrize("name", ["trajectory", "model", "explorer", "table", "work"])
def test_other_files_may_have_any_name(name: str, tmp_path: Path) -> None:
    WRITERS[name][1](tmp_path / "without")
    assert (tmp_path / "without").stat().st_size


# -- folders --------------------------------------------------------------------------


def gallery(out: Path) -> None:
    diffsde.views.write_gallery(out, launched.small_model(), steps=1, n=1)


def train(out: Path) -> None:
    diffsde.train(out, launched.images(), launched.RECIPE, start_from=launched.small_model(3),
                  progress=False)  # fmt: skip


def samples(out: Path) -> None:
    sample_images(launched.small_model(), Sampler("euler", steps=1), 2, out=out, progress=False)


@pytest.mark.parametrize("write", [gallery, train, samples])
def test_folders_that_cannot_be_written_to(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for path in (
        tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("n" * 300), Path("/proc/run"),
    ):  # fmt: skip
        with pytest.raises((InputError, TrainingError), match=r"cannot|can be written|no file can"):
            write(path)
    assert left(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "a file"


# -- nothing to write -------------------------------------------------------------------

EMPTY = [
    Trajectory(torch.linspace(1, 0, 3), torch.zeros(3, 0, 1, 8, 8), "em", shape=(1, 8, 8)),
    Trajectory(torch.zeros(0), torch.zeros(0, 2, 1, 8, 8), "em", shape=(1, 8, 8)),
]
SHOWN: list[tuple[str, Callable[..., object]]] = [
    ("gif", diffsde.animate),
    ("png", diffsde.plot_paths),
    ("png", diffsde.plot_images),
    ("png", diffsde.film_strip),
    ("png", diffsde.plot_bands),
    ("html", diffsde.views.write_html),
]


@pytest.mark.parametrize("empty", EMPTY, ids=["no samples", "no times"])
@pytest.mark.parametrize(("suffix", "show"), SHOWN, ids=[show.__name__ for _, show in SHOWN])
def test_no_images(
    empty: Trajectory, suffix: str, show: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least one"):
        show(empty, tmp_path / f"a.{suffix}")
    assert not left(tmp_path)


# -- reading, and the cache ----------------------------------------------------------------


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for read in (Trajectory.load, diffsde.load_model):
        with pytest.raises(CheckpointError, match=r"folder"):
            read(tmp_path)
        with pytest.raises(CheckpointError, match=r"no such file"):
            read(tmp_path / ("n" * 300))


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIFFSDE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("variable", ["DIFFSDE_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_cache_that_cannot_be_used(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc")):  # where nothing can be written
        monkeypatch.setenv(variable, str(place))
        with pytest.raises(DataError, match=r"MNIST cannot be unpacked.*DIFFSDE_CACHE"):
            diffsde.load_images("mnist")


@pytest.mark.usefixtures("no_cache")
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(none))
    with pytest.raises(DataError, match=r"no home.*DIFFSDE_CACHE"):
        diffsde.load_images("mnist")


def test_a_cache_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path))
    with files_of_at_most(1000), pytest.raises(DataError, match=r"cannot be unpacked.*DIFFSDE"):
        diffsde.load_images("mnist")
    assert not list(tmp_path.rglob("*ubyte"))
    diffsde.load_images("mnist", train=False)


def test_a_file_removed_from_the_cache_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path))
    diffsde.load_images("mnist", train=False)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.unlink()
        assert len(diffsde.load_images("mnist", train=False).images) == 10_000
        assert path.exists()
