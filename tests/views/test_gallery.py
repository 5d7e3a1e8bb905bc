"""The gallery's files and page; `test_pages_browser` opens the page in a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.solvers.trajectory import Trajectory
from diffsde.views import gallery
from diffsde.views.gallery import SHOWN, write_gallery


class Nothing(torch.nn.Module):
    """The score of data that are all zero, for images of std s(t)."""

    def __init__(self, sde: Any) -> None:
        super().__init__()
        self.sde = sde

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        _, std = self.sde.marginal_prob(torch.zeros_like(x), t)
        return -x / std**2


def small(sde: Any = None, channels: int = 1) -> ScoreModel:
    sde = sde or VESDE()
    return ScoreModel(Nothing(sde), sde, (channels, 6, 6))


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text("utf-8")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots of few pixels, and as few samplers as the gallery's last section needs."""
    monkeypatch.setattr(gallery, "_PLOT_DPI", 30)
    monkeypatch.setattr(gallery, "SHOWN", SHOWN[1:4])


def test_every_file_is_on_the_page_and_listed(tmp_path: Path) -> None:
    written = write_gallery(tmp_path, small(), steps=3, n=2)
    assert len(written) == len(set(written))
    assert set(written) == set(tmp_path.iterdir())
    linked = set(re.findall(r'(?:src|href)="([^":]+)"', page_of(tmp_path)))
    assert linked == {path.name for path in written} - {"index.html"}


def test_names_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the heading, the film, the legend, the explorer and the progress bar."""
    named: dict[str, list[str]] = {"animate": [], "plot_paths": [], "write_html": []}

    def spied(view: str) -> Callable[..., Any]:
        original = getattr(gallery, view)

        def spy(sol: Any, path: Path, **settings: Any) -> Any:
            if isinstance(sol, Trajectory) or len(sol) == 1:
                named[view].append((sol if isinstance(sol, Trajectory) else sol[0]).method)
            return original(sol, path, **settings)

        return spy

    for view in named:
        monkeypatch.setattr(gallery, view, spied(view))
    write_gallery(tmp_path, small(), steps=2, n=1, progress=True, dark=False)
    bars = capsys.readouterr().err
    titles = [row.title for row in SHOWN[1:4]]
    assert list(named.values()) == [titles] * 3
    headings = re.findall(r"<h2>(.*?) <small>", page_of(tmp_path))
    assert [html.unescape(heading) for heading in headings] == titles
    assert all(f"{title}: " in bars for title in titles)


def test_explorers_of_large_batches_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "_EXPLORER_BYTES", 8e4)
    write_gallery(tmp_path, small(channels=3), steps=30, n=30, dark=False)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.html") if path.stem != "index"]
    assert len(sizes) == 4
    assert max(sizes) < 1.7e5


@pytest.mark.parametrize("dark", [False, True])
def test_one_theme_for_everyone(tmp_path: Path, dark: bool) -> None:
    write_gallery(tmp_path, small(), steps=2, n=1, dark=dark)
    assert not list(tmp_path.glob("*_dark.png"))
    scheme = "dark" if dark else "light"
    assert f'<meta name="color-scheme" content="{scheme}">' in page_of(tmp_path)


def test_the_words_fit_the_equation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gallery(tmp_path / "ve", small(), steps=2, n=1, dark=False)
    assert "±σᵗ (dashed) is the diffusion coefficient" in page_of(tmp_path / "ve")
    write_gallery(tmp_path / "vp", small(VPSDE()), steps=20, n=1, dark=False)
    assert "±g(t) (dashed) is the diffusion coefficient" in page_of(tmp_path / "vp")


def refused(model: ScoreModel | None = None, **arguments: Any) -> Callable[[Path], Any]:
    return lambda folder: write_gallery(folder, model or small(), **arguments)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (refused(steps=0), "steps = 0: expected a whole number"),
        (refused(n=-1), "n = -1: expected a whole number"),
        (refused(small(channels=2)), "expected images with 1 or 3 channels"),
        (lambda folder: write_gallery(folder / "file", small()), "a file is in the way"),
        (lambda folder: write_gallery(folder / "file" / "under", small()), "a file is in the way"),
        (lambda _: write_gallery("/proc/gallery", small()), "nothing can be written"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Path], Any], words: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(gallery, "solve", None)
    with pytest.raises(InputError, match=words):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_ctrl_c_keeps_the_rows_that_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(sol: Any, path: Path, *, view: Any = gallery.animate, **settings: Any) -> Any:
        if path.name == "sde_euler.gif":
            raise KeyboardInterrupt
        return view(sol, path, **settings)

    monkeypatch.setattr(gallery, "animate", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        write_gallery(tmp_path, small(), steps=2, n=1)
    page = page_of(tmp_path)
    assert re.findall(r'<section id="(\w+)">', page) == ["pc"]
    assert "Stopped early: 1 of 3 samplers are finished." in page
    names = {path.name for path in stopped.value.written}  # type: ignore[attr-defined]
    assert {"noise.png", "pc.gif", "pc.html", "index.html"} <= names
    assert all((tmp_path / name).is_file() for name in names)


def test_ctrl_c_before_the_first_row_leaves_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        write_gallery(tmp_path, small(), steps=2, n=1)
    assert stopped.value.written == []  # type: ignore[attr-defined]
    assert not (tmp_path / "index.html").exists()
