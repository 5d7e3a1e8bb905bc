"""Networks: the parameters of the tutorial's, and the residual one, which starts at zero."""

from __future__ import annotations

import math

import pytest
import torch

from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.scores.networks import NETWORKS, make_network, shape_arguments
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_layers import PixelWaves
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet

SMALL = {"channels": (16, 32), "blocks": (1, 2, 1), "embed_dim": 32}


def test_tutorial_network_has_its_parameters() -> None:
    network = ScoreUNet()
    assert sum(p.numel() for p in network.parameters()) == 1_115_297
    # The Fourier features are saved with the network but not trained.
    assert "embed.0.w" in dict(network.named_buffers())
    assert network.embed[0].w.std() == pytest.approx(30, rel=0.2)


def test_tutorial_network_is_divided_by_the_std() -> None:
    network = ScoreUNet(VESDE())
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([0.2, 0.9])
    out = network(x, t)
    network.sde = VESDE(sigma=50.0)
    ratio = VESDE().marginal_std(t) / VESDE(sigma=50.0).marginal_std(t)
    torch.testing.assert_close(network(x, t), out * ratio[:, None, None, None])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32])
def test_any_channels_and_both_sizes(name: str, channels: int, size: int) -> None:
    shape = (channels, size, size)
    network = make_network(name, VESDE(), **shape_arguments(name, shape))
    x = torch.randn(2, *shape)
    assert network(x, torch.tensor([0.1, 0.7])).shape == x.shape


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="at least 18×18"):
        ScoreUNet()(torch.randn(1, 1, 17, 28), torch.ones(1))
    with pytest.raises(InputError, match=r"samples of shape \(2,\).*'MLP'"):
        shape_arguments("ResidualUNet", (2,))
    with pytest.raises(InputError, match=r"17×40 are too small.*--size 18.*ResidualUNet"):
        shape_arguments("ScoreUNet", (1, 17, 40))
    with pytest.raises(InputError, match="multiple of 32"):
        ResidualUNet(channels=(16, 40))
    with pytest.raises(InputError, match=r"blocks = \(1, 0, 1\)"):
        ResidualUNet(blocks=(1, 0, 1))
    with pytest.raises(InputError, match="did you mean 'ScoreUNet'"):
        make_network("ScoreUnet", VESDE())


@pytest.mark.parametrize("height", [1, 3, 5, 28, 31])
@pytest.mark.parametrize("width", [2, 7, 36])
def test_the_residual_network_takes_every_size(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = ResidualUNet(**SMALL)
    torch.nn.init.normal_(network.last.weight)
    x = torch.randn(2, 1, height, width)
    out = network(x, torch.tensor([0.1, 0.7]))
    assert out.shape == x.shape
    # Padded outside by hand, it is the same.
    padded = torch.nn.functional.pad(x, (0, -width % 4, 0, -height % 4))
    same = network(padded, torch.tensor([0.1, 0.7]))[..., :height, :width]
    assert torch.equal(out, same)


@pytest.mark.parametrize("height", [18, 19, 23, 28])
@pytest.mark.parametrize("width", [18, 21, 36])
def test_the_tutorials_network_takes_sizes_from_18(height: int, width: int) -> None:
    x = torch.randn(1, 3, height, width)
    assert ScoreUNet(in_channels=3)(x, torch.ones(1)).shape == x.shape


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 10), (1, 4, 5)])
def test_the_mlp_takes_samples_of_every_shape(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = make_network("MLP", VESDE(), classes=3, width=16, **shape_arguments("MLP", shape))
    x, label = torch.randn(4, *shape), torch.tensor([-1.0, -0.5, 0.0, 0.5])
    assert not network(x, label).any()
    assert torch.equal(network(x, label, torch.tensor([0, 1, 2, -1])), network(x, label))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    out = network(x, label)
    assert out.shape == x.shape
    flat = make_network("MLP", VESDE(), **network.config())
    flat.load_state_dict(network.state_dict())
    assert torch.equal(flat(x.flatten(1), label), out.flatten(1))
    told = network(x, label, torch.tensor([0, 1, 2, -1]))
    assert (told != out).flatten(1).any(1).tolist() == [True, True, True, False]
    assert (network(x, label + 0.3) != out).flatten(1).any(1).all()
    with pytest.raises(InputError, match="features: expected as many"):
        network(torch.randn(2, 99), label[:2])


@pytest.mark.parametrize("change", [{"width": 0}, {"width": 3}, {"depth": 0}, {"classes": -1}])
def test_an_mlp_that_is_none(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected positive numbers, width even"):
        make_network("MLP", VESDE(), **change)


def test_untrained_residual_network_returns_zero() -> None:
    """Under EDM it therefore starts as the best linear denoiser of white data."""
    network, sde = ResidualUNet(**SMALL), VESDE()
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([0.01, 0.3, 1.0])
    assert not network(x, t).any()
    model = ScoreModel(network, sde, (1, 28, 28), EDM(0.33))
    s = sde.marginal_std(t)[:, None, None, None]
    torch.testing.assert_close(model.denoise(x, t), 0.33**2 / (0.33**2 + s**2) * x)


def test_every_residual_branch_begins_at_zero() -> None:
    network = ResidualUNet(**SMALL)
    x = torch.randn(2, 32, 7, 7)
    for block in network.middle:
        assert torch.equal(block(x, torch.randn(2, 32)), x)
    assert torch.equal(network.attention(x), x)


def test_residual_network_hears_the_noise_level_and_every_pixel() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(**SMALL)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    labels = torch.tensor([-1.4, 0.6])
    out = network(x.expand(2, -1, -1, -1), labels)
    assert (out[0] - out[1]).abs().mean() > 1e-3
    out[0, 0, 14, 14].backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_samples_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    for name in NETWORKS:
        network = make_network(name, VESDE(), **shape_arguments(name, (1, 28, 28))).eval()
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.05 * torch.randn_like(p))
            x, t = torch.randn(3, 1, 28, 28), torch.tensor([0.1, 0.5, 0.9])
            together, alone = network(x, t), network(x[1:2], t[1:2])
        torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)


def test_pixel_waves_are_what_noise_leaves_of_waves() -> None:
    """E sin(2πf(x + σz)) = e^{−(2πfσ)²/2} sin(2πfx), although the network sees a scaled x."""
    sde, frequencies, sigma = VESDE(), (3, 64, 1024), 0.004
    x = torch.rand(2, 3, 4, 4)
    t = sde.time_of_noise_level(torch.full((2,), sigma))
    c = EDM(0.33).coefficients(sde, t)
    found = PixelWaves(frequencies, 0.33)(c.input[:, None, None, None] * x, c.label)
    angle = torch.stack([2 * math.pi * f * x for f in frequencies], 1)
    damping = torch.tensor([math.exp(-0.5 * (2 * math.pi * f * sigma) ** 2) for f in frequencies])
    damping = damping[:, None, None, None]
    expected = torch.cat([damping * angle.cos(), damping * angle.sin()], 1).flatten(1, 2)
    # float32 holds three decimals of an angle of thousands of radians; that wave is damped away.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_waves_are_heard_and_damped() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(**SMALL, waves=(256,))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model = ScoreModel(network, VESDE(), (1, 28, 28), EDM(0.33))
    plain = ScoreModel(ResidualUNet(**SMALL), VESDE(), (1, 28, 28), EDM(0.33))
    plain.network.load_state_dict(network.state_dict(), strict=False)
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        assert not torch.allclose(model(x, 1e-7), plain(x, 1e-7), rtol=1e-2)
        network.first_of_waves.bias.zero_()
        assert torch.equal(model(x, 0.5), plain(x, 0.5))
    with pytest.raises(InputError, match=r"waves = \(8, 0\): expected positive"):
        ResidualUNet(**SMALL, waves=(8, 0))
