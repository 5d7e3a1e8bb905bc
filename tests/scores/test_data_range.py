"""Twin models, one of data in [0, 1], one of the same data in [−1, 1], agree in all that is shown.

Both are exact: y = 2x − 1 has the same law, seen through an affine map, and an SDE of twice the
noise level takes one path of the flow to the other. (Noise along the way belongs to a time, which
the map changes, so paths of the reverse SDE agree in law alone.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsde.analysis.bits import bits_by_noise
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.likelihood import dequantise, log_likelihood
from diffsde.equations.ranges import checked_range, from_unit, to_unit
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.errors import InputError
from diffsde.scores.checkpoint import load_model, save_model
from diffsde.scores.guidance import classifier_guided
from diffsde.scores.model import ScoreModel
from diffsde.scores.observations import inpainting
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.animation import animate
from diffsde.views.arrays import from_xarray, to_xarray
from diffsde.views.images import film_strip, plot_images

SHAPE = (1, 4, 4)
MEAN, STD = 0.4, 0.25
RANGES = [(-1.0, 1.0), (0.0, 255.0), (-0.5, 0.5)]


class Gaussian(nn.Module):
    """The score of images x = low + width · N(0.4, 0.25²) under EDM's SDE."""

    def __init__(self, low: float, width: float) -> None:
        super().__init__()
        self.mean, self.std = low + width * MEAN, width * STD

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        score: Tensor = (self.mean - x) / (self.std**2 + t.reshape(-1, 1, 1, 1) ** 2)
        return score


def model(data_range: tuple[float, float]) -> ScoreModel:
    low, width = data_range[0], data_range[1] - data_range[0]
    sde = EDMSDE(T=10.0 * width, eps=0.01 * width)
    sde.centre(torch.full(SHAPE, low + width * MEAN))
    return ScoreModel(Gaussian(low, width), sde, SHAPE, data_range=data_range)


def drawn(data_range: tuple[float, float], **settings: Any) -> Trajectory:
    given = {"steps": 10, "seed": 0, "dtype": torch.float64, "estimates": True, "kind": "ode"}
    return model(data_range).sample(6, **given | settings)


@pytest.mark.parametrize("data_range", RANGES)
def test_the_same_images(data_range: tuple[float, float]) -> None:
    unit, other = drawn((0.0, 1.0)), drawn(data_range)
    assert other.data_range == data_range
    for frame in range(len(unit)):
        assert torch.allclose(unit.images(frame), other.images(frame), atol=1e-5)
    assert float(unit.images().std()) > 0.1  # not all clamped


@pytest.mark.parametrize("data_range", RANGES)
@pytest.mark.parametrize("view", [plot_images, film_strip])
def test_the_same_pictures(view: Any, data_range: tuple[float, float]) -> None:
    def picture(sol: Trajectory) -> Any:
        figure = view(sol)
        return figure.axes[0].images[0].get_array()

    assert np.allclose(picture(drawn((0.0, 1.0))), picture(drawn(data_range)), atol=1e-5)


@pytest.mark.parametrize("data_range", RANGES)
def test_the_same_film(data_range: tuple[float, float], tmp_path: Path) -> None:
    def film(given: tuple[float, float]) -> bytes:
        # t and s(t) differ, so they are left out; float64 keeps the shades to the last level.
        return animate(drawn(given), tmp_path / "a.gif", title=False).read_bytes()

    assert film((0.0, 1.0)) == film(data_range)


@pytest.mark.parametrize("data_range", RANGES)
def test_the_same_page(data_range: tuple[float, float], tmp_path: Path) -> None:
    def shades(given: tuple[float, float]) -> str:
        page = drawn(given).to_html(tmp_path / "page.html").read_text("utf-8")
        return page[page.index('"states":') : page.index('"denoised":')]

    assert shades((0.0, 1.0)) == shades(data_range)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert f'"range":[{data_range[0]:g},{data_range[1]:g}]' in page.replace(" ", "").replace(
        ".0", ""
    )


@pytest.mark.parametrize("data_range", RANGES)
def test_the_same_bits(data_range: tuple[float, float]) -> None:
    levels = (
        torch.randint(256, (5, *SHAPE), generator=torch.Generator().manual_seed(0)).double() / 255
    )

    def bits(given: tuple[float, float]) -> Tensor:
        flow = model(given).flow()
        x = dequantise(levels, seed=0, data_range=given)
        assert torch.allclose(to_unit(x, given), dequantise(levels, seed=0))
        found = log_likelihood(flow, x, exact=True, method="rk4", steps=30)
        by_noise = bits_by_noise(flow, x, rtol=1e-6, atol=1e-6)
        assert by_noise.total == pytest.approx(float(found.bits_per_dim.mean()), rel=0.02)
        whole = evaluate_likelihood(flow, levels, method="rk4", steps=30, exact=True)
        assert torch.allclose(whole.bits_per_dim, found.bits_per_dim)
        return found.bits_per_dim

    assert torch.allclose(bits((0.0, 1.0)), bits(data_range), atol=1e-6)


def test_a_results_file_knows_the_range(tmp_path: Path) -> None:
    levels = torch.zeros(2, *SHAPE)
    own = model((-1.0, 1.0))
    settings = {"path": tmp_path / "bits", "method": "rk4", "steps": 5}
    evaluate_likelihood(own.flow(), levels, **settings)
    own.data_range = (0.0, 1.0)
    with pytest.raises(InputError, match="holds likelihoods"):
        evaluate_likelihood(own.flow(), levels, **settings)


def test_guided_scores_pass_it_on() -> None:
    own = model((-1.0, 1.0))
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[..., :2] = True
    guided = [
        inpainting(own, own.sde, torch.zeros(SHAPE), mask),
        classifier_guided(own, lambda x, t: x.flatten(1), 0),
    ]
    for score in guided:
        assert score.data_range == (-1.0, 1.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("data_range", [(0.0, 1.0), *RANGES])
def test_files_keep_it(data_range: tuple[float, float], tmp_path: Path) -> None:
    own = ScoreModel(ResidualUNet(channels=[8, 32]), EDMSDE(), (1, 8, 8), "edm", data_range)
    assert load_model(save_model(own, tmp_path / "m.safetensors")).data_range == data_range
    sol = drawn(data_range)
    assert Trajectory.load(sol.save(tmp_path / "sol.safetensors")).data_range == data_range
    assert sol.sample(2).data_range == sol.to(torch.float32).data_range == data_range
    pytest.importorskip("xarray")
    assert from_xarray(to_xarray(sol)).data_range == data_range


@pytest.mark.parametrize("value", [(1, 0), (0, 0), (0,), "01", None, (0, float("inf")), (0, "1")])
def test_what_is_no_range(value: Any) -> None:
    with pytest.raises(InputError, match="data_range"):
        checked_range(value)
    with pytest.raises(InputError, match="data_range"):
        ScoreModel(Gaussian(0, 1), EDMSDE(), SHAPE, data_range=value)


def test_there_and_back() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for data_range in RANGES:
        assert torch.allclose(to_unit(from_unit(x, data_range), data_range), x)


def test_images_alone_say_what_is_black() -> None:
    x = from_unit(torch.rand(2, 1, 4, 4), (-1.0, 1.0))
    shown = plot_images(x, data_range=(-1, 1)).axes[0].images[0].get_array()
    expected = plot_images(to_unit(x, (-1.0, 1.0))).axes[0].images[0].get_array()
    assert np.allclose(shown, expected, atol=1e-6)
    with pytest.raises(InputError, match="knows its own"):
        plot_images(drawn((0.0, 1.0)), data_range=(-1, 1))
