"""The network of levels: exact where the law is known; its coarse network where noise is high."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde import VESDE, InputError, ScoreModel, load_model, save_model
from diffsde.analysis import evaluate_likelihood, find_convention, variational_bound
from diffsde.scores import (
    LevelUNet,
    ResidualUNet,
    autoguidance,
    classifier_free,
    classifier_guided,
    inpainting,
    tempered,
)
from diffsde.scores.precision import ByNoiseLevel, Replayed, Way
from diffsde.scores.preconditioning import EDM, DenoisedPrediction

SMALL: dict[str, Any] = {"channels": (16, 32), "blocks": (1, 1, 1), "embed_dim": 32}
FINE: dict[str, Any] = {"fine_channels": 16, "fine_blocks": 2}
SHAPE = (1, 6, 5)


def level_model(shape: tuple[int, ...] = SHAPE, seed: int = 0, **args: Any) -> ScoreModel:
    torch.manual_seed(seed)
    network = LevelUNet(in_channels=shape[0], **{**SMALL, **FINE, "sigma_data": 0.3, **args})
    return ScoreModel(network, VESDE(), shape, DenoisedPrediction(0.3))


def untrained(model: ScoreModel, scale: float = 0.1) -> ScoreModel:
    """The model with random weights everywhere, also where the first ones are zero."""
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(scale * torch.randn_like(p))
    return model


def at_level(model: ScoreModel, images: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Images with noise of this level, and its time."""
    t = model.sde.time_of_noise_level(torch.full((len(images),), sigma, dtype=images.dtype))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).to(images)
    return images + sigma * noise, t


@pytest.mark.parametrize("channels", [1, 3])
def test_independent_pixels_are_denoised_and_coded_exactly(channels: int) -> None:
    """Its last layer's bias may be any law of levels, and the rest is Bayes' rule."""
    shares = torch.rand(256, generator=torch.Generator().manual_seed(2)).double() ** 6
    shares /= shares.sum()
    model = level_model((channels, 6, 5), upto=100.0).double()
    model.network.load_state_dict({"last_levels.bias": shares.log().repeat(channels)}, strict=False)
    size = 60 * channels * 30
    levels = torch.multinomial(
        shares, size, replacement=True, generator=torch.Generator().manual_seed(3)
    ).reshape(60, channels, 6, 5)
    images = levels / 255.0
    for sigma in (0.001, 0.004, 0.05, 2.0):
        x, t = at_level(model, images[:4].double(), sigma)
        weights = shares * torch.exp(
            -0.5 * ((x[..., None] - torch.arange(256).double() / 255) / sigma) ** 2
        )
        wanted = (weights @ torch.arange(256).double() / 255) / weights.sum(-1)
        torch.testing.assert_close(model.denoise(x, t), wanted, rtol=0, atol=1e-5 * sigma)
    bound = variational_bound(model.flow(), images.double(), draws=32, seed=0)
    off = bound.bits_per_dim + shares.log2()[levels].flatten(1).mean(1)
    error = float(off.std()) / math.sqrt(len(off))
    assert error < 0.08
    # The noise at ε hides a level now and then, 0.0002 bits, and the prior is not quite the law.
    assert abs(float(off.mean())) < 0.002 + 4 * error


def test_above_its_noise_level_the_coarse_network_answers() -> None:
    model = untrained(level_model(upto=0.1))
    assert isinstance(model.network, LevelUNet)
    dequantised = ScoreModel(model.network.coarse(), VESDE(), SHAPE, EDM(0.3))
    images = torch.rand(2, *SHAPE).mul(255).round() / 255
    for sigma, same in ((0.099, False), (0.101, True), (3.0, True)):
        x, t = at_level(model, images, sigma)
        seen, t_seen = (
            (255 * x + 0.5) / 256,
            model.sde.time_of_noise_level(torch.full((2,), 255 / 256 * sigma)),
        )
        wanted = (256 * dequantised.denoise(seen, t_seen) - 0.5) / 255
        assert torch.allclose(model.denoise(x, t), wanted, atol=1e-4) is same
        with torch.no_grad():  # where the blocks at full resolution are not even asked
            alone = model.denoise(x, t)
            both = model.denoise(torch.cat([x, x]), torch.cat([t, 0 * t + 1e-6]))[:2]
        torch.testing.assert_close(alone, both)


def test_levels_are_never_left() -> None:
    """However wrong the network, a pixel is a mean of levels, and at no noise its own level."""
    model = untrained(level_model(), 3.0)
    images = torch.rand(4, *SHAPE).mul(255).round() / 255
    x, t = at_level(model, images, 0.05)
    denoised = model.denoise(x, t).detach()
    assert 0 <= float(denoised.min()) <= float(denoised.max()) <= 1
    model = untrained(level_model(), 0.1)
    x, t = at_level(model, images, 2e-4)
    torch.testing.assert_close(model.denoise(x, t), images, rtol=0, atol=1e-5)


def test_autocast_leaves_the_levels_exact() -> None:
    model = untrained(level_model(), 0.05)
    images = torch.rand(4, *SHAPE).mul(255).round() / 255
    for sigma in (5e-4, 0.003, 0.05):
        x, t = at_level(model, images, sigma)
        exact = model.denoise(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.denoise(x, t)
        # Evidence of 8 bits moves probabilities by hundredths, and the mean by as many σ.
        torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05 * sigma)


@pytest.mark.parametrize("size", [(28, 28), (5, 7), (1, 2)])
def test_it_takes_every_size_and_hears_everything(size: tuple[int, int]) -> None:
    model = untrained(level_model((2, *size), classes=3))
    x, t = at_level(model, torch.rand(2, 2, *size), 0.02)
    found = model.denoise(x, t)
    assert found.shape == x.shape
    assert (model.denoise(x, t, 2) != found).any()
    for name in ("rows", "columns", "whole"):
        with torch.no_grad():
            model.network.get_parameter(f"fine.0.{name}.weight").mul_(2)
        changed, found = found, model.denoise(x, t)
        assert (changed != found).any(), name


def test_a_file_gives_it_back(tmp_path: Path) -> None:
    model = untrained(level_model(classes=2, waves=(1, 2)))
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    x, t = at_level(model, torch.rand(2, *SHAPE), 0.01)
    assert torch.equal(again.denoise(x, t, 1), model.denoise(x, t, 1))
    assert again.pixel_levels == 256


def test_bits_are_counted_as_suits_levels() -> None:
    images, flow = torch.zeros(3, *SHAPE), level_model().flow()
    assert find_convention(None, flow.score) == "variational"
    assert find_convention(None, level_model().network.embed) == "uniform"
    found = evaluate_likelihood(flow, images, draws=2)
    torch.testing.assert_close(
        found.log_prob, variational_bound(flow, images, draws=2, seed=0).log_prob.double()
    )
    with pytest.raises(InputError, match=r'"uniform" with a network that knows.*"variational"'):
        evaluate_likelihood(flow, images, convention="uniform")


def with_network(model: ScoreModel, network: nn.Module) -> ScoreModel:
    model.network = network
    return model


# Whatever wraps a score or its network.
WRAPPED: dict[str, Callable[[ScoreModel], Any]] = {
    "bfloat16": lambda m: Way(bfloat16=True).of(m),
    "channels last": lambda m: Way(channels_last=True).of(m),
    "compiled": torch.compile,
    "parallel": lambda m: with_network(m, nn.DataParallel(m.network)),
    "banded": lambda m: with_network(m, ByNoiseLevel(m.network, m.network, (-1.0, 0.0))),
    "replayed": lambda m: with_network(m, Replayed(m.network)),
    "free": lambda m: classifier_free(m, 1, 2.0),
    "by a classifier": lambda m: classifier_guided(m, lambda x, _t: x.flatten(1), 1),
    "autoguided": lambda m: autoguidance(m, m, 2.0),
    "tempered": lambda m: tempered(m.sde, m, 0.8, 0.3),
    "observed": lambda m: inpainting(m, m.sde, torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_every_wrapper_says_that_levels_are_known(name: str) -> None:
    assert find_convention(None, WRAPPED[name](level_model(classes=2))) == "variational"


def test_what_does_not_fit_is_refused() -> None:
    for wrong in ({"fine_channels": 12}, {"fine_channels": 0}, {"fine_blocks": 0}):
        with pytest.raises(InputError, match="multiple of 8"):
            LevelUNet(**{**SMALL, **FINE, **wrong})
    for upto in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"upto = .*noise level"):
            LevelUNet(**SMALL, **FINE, upto=upto)
    network = level_model().network
    with pytest.raises(InputError, match=r"sigma_data = 0.5 .* LevelUNet has 0.3"):
        ScoreModel(network, VESDE(), SHAPE, DenoisedPrediction(0.5))
    with pytest.raises(InputError, match=r"LevelUNet with EDM.*DenoisedPrediction"):
        ScoreModel(network, VESDE(), SHAPE, EDM(0.3))
    with pytest.raises(InputError, match=r"data_range = \(-1.0, 1.0\)"):
        ScoreModel(network, VESDE(), SHAPE, DenoisedPrediction(0.3), data_range=(-1.0, 1.0))
    waves = ResidualUNet(**SMALL, waves=(1, 2), sigma_data=0.3)
    with pytest.raises(InputError, match=r"sigma_data = 0.5 .* ResidualUNet has 0.3"):
        ScoreModel(waves, VESDE(), SHAPE, EDM(0.5))
