"""Decoded trajectories: every view of a path of latents shows what the decoder makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import diffsde
from diffsde import GaussianScore, ProbabilityFlow, Trajectory, solve
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.views.decoding import decoded
from diffsde.views.images import film_strip, plot_images

LATENTS = (4, 3, 3)


def path(n: int = 3) -> Trajectory:
    sde = VESDE()
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.zeros(LATENTS), 0.3), LATENTS)
    x1 = sde.prior_sample((n, *LATENTS), seed=0)
    return solve(flow, x1, "heun2", steps=6, clock="karras", estimates=True)


class Enlarged(nn.Module):
    """A decoder: one channel, doubled in size, in [−1, 1]; it notes how much it was given."""

    data_range = (-1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.sizes: list[int] = []

    def forward(self, latents: Tensor) -> Tensor:
        assert latents.dtype == torch.float64
        self.sizes.append(len(latents))
        return nn.functional.interpolate(self.weight * latents[:, :1].tanh(), scale_factor=2)


def by_hand(latents: Tensor) -> Tensor:
    """What `Enlarged` shows, in [0, 1]."""
    return (nn.functional.interpolate(latents[:, :1].tanh(), scale_factor=2) + 1) / 2


def test_every_frame_is_decoded() -> None:
    sol = path()
    shown = decoded(sol, Enlarged())
    assert shown.ys.shape == (7, 3, 1, 6, 6)
    assert (shown.shape, shown.data_range) == ((1, 6, 6), (0.0, 1.0))
    for k in range(7):
        # Half precision has 11 digits.
        torch.testing.assert_close(shown.images(k), by_hand(sol.ys[k]), rtol=0, atol=2**-11)
    torch.testing.assert_close(
        shown.denoised[2].float(), by_hand(sol.denoised[2]), rtol=0, atol=2**-11
    )
    assert torch.equal(shown.ts, sol.ts)
    assert torch.equal(shown.evaluations, sol.evaluations)
    assert shown.stats == sol.stats
    assert shown.method == "flow · heun2"


def test_frames_chosen_and_chunks() -> None:
    sol, decode = path(), Enlarged()
    shown = decoded(replace(sol, denoised=None), decode, frames=[0, 4, -1], chunk=2)
    assert decode.sizes == [2, 1] * 3
    assert torch.equal(shown.ts, sol.ts[[0, 4, 6]])
    torch.testing.assert_close(shown.images(1), by_hand(sol.ys[4]), rtol=0, atol=2**-11)


def test_flat_states_and_functions() -> None:
    sol = path()
    flat = replace(sol, ys=sol.ys.flatten(2), denoised=None)
    shown = decoded(flat, by_hand)  # a function without a range returns images in [0, 1]
    torch.testing.assert_close(shown.images(), by_hand(sol.final), rtol=0, atol=2**-11)


def test_memory_is_bounded() -> None:
    """The images are in a file: a second look at them shows the same numbers."""
    shown = decoded(path(), Enlarged())
    numbers = shown.ys.clone()
    shown.ys[0] = 0  # copied on write
    assert torch.equal(shown.ys[1:], numbers[1:])
    assert shown.ys.dtype == torch.float16


VIEWS: dict[str, tuple[str, Callable[..., Any]]] = {
    "animate": ("film.gif", diffsde.animate),
    "film_strip": ("strip.png", film_strip),
    "plot_images": ("images.png", plot_images),
    "write_html": ("page.html", diffsde.views.write_html),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_with_decode_is_the_view_of_what_is_decoded(name: str, tmp_path: Path) -> None:
    file, view = VIEWS[name]
    sol = path()
    view(sol, tmp_path / file, decode=Enlarged())
    (tmp_path / "other").mkdir()
    view(decoded(sol, Enlarged()), tmp_path / "other" / file)
    assert (tmp_path / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_view_decodes_only_what_it_shows() -> None:
    decode = Enlarged()
    film_strip(path(), frames=3, n=2, decode=decode)
    assert decode.sizes == [2] * 3
    decode = Enlarged()
    figure = plot_images(path(), decode=decode)
    assert decode.sizes == [3]
    sheet = figure.axes[0].images[0].get_array()
    assert sheet[0, 0, 0] == pytest.approx(float(by_hand(path().final)[0, 0, 0, 0]), abs=1e-3)


def test_the_explorer_of_a_notebook() -> None:
    sol = path()
    page = diffsde.views.explore(sol, decode=Enlarged()).page
    assert page == diffsde.views.explore(decoded(sol, Enlarged())).page
    assert page == sol.explore(decode=Enlarged()).page


def test_the_gallery_of_a_model_of_latents(tmp_path: Path) -> None:
    class Zero(nn.Module):
        """Under EDM's preconditioning, the exact network of Gaussian data."""

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return 0 * x

    model = ScoreModel(Zero(), VESDE(), LATENTS, "edm")
    with pytest.raises(InputError, match=r"shape = \(4, 3, 3\): .* or a model with a decoder"):
        diffsde.views.write_gallery(tmp_path, model)
    model.decoder = Enlarged()
    files = diffsde.views.write_gallery(tmp_path, model, steps=3, n=2)
    assert (tmp_path / "em.gif") in files


def test_what_cannot_be_decoded() -> None:
    sol = path()
    cases: list[tuple[Any, str]] = [
        ("model.decoder", "expected a function from latents to images"),
        (lambda z: z, r"returned \(3, 4, 3, 3\) for latents \(3, 4, 3, 3\): expected images"),
        (lambda z: "image", "decode returned str"),
    ]
    for decode, words in cases:
        with pytest.raises(InputError, match=words):
            decoded(sol, decode)
    with pytest.raises(InputError, match="chunk = 0"):
        decoded(sol, Enlarged(), chunk=0)
    with pytest.raises(InputError, match=r"decode: x is no trajectory"):
        plot_images(sol.final, decode=Enlarged())


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("diffsde.views.decoding.TemporaryFile", Full)
    with pytest.raises(InputError, match=r"no room for decoded images.*No space left.*TMPDIR"):
        decoded(path(), Enlarged())
