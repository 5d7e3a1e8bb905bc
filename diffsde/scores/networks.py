r"""Score networks.

A network is any `torch.nn.Module` called as `(x, label)` with x of shape
(B, C, H, W) and label of shape (B,); a preconditioning says what the two are and
what the output means.

`ScoreUNet` is the one of the PyTorch tutorial that accompanies arXiv 2011.13456:
four convolutions down, four up, the time entering every level through random
Fourier features, and the output divided by the marginal std s(t), because the
true score has norm about √D / s(t). It returns the score.

`ResidualUNet` is a small residual network for any preconditioning. It works at
half and quarter resolution, where a convolution has the most arithmetic for the
memory it moves, and every residual branch begins at zero: untrained, it returns zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError, name_list

__all__ = ["NETWORKS", "FourierFeatures", "PixelWaves", "ResidualUNet", "ScoreUNet", "make_network"]


class FourierFeatures(nn.Module):
    """Features sin(2π w t), cos(2π w t) with fixed random w ~ N(0, scale²).

    The weights w are a buffer: saved with the network, never trained.
    Source: Tancik et al., arXiv 2006.10739, section 5.
    """

    w: Tensor

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("w", torch.randn(features // 2) * scale)

    def forward(self, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t[:, None] * self.w
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class _Level(nn.Module):
    """One level: convolution, plus a bias that depends on time, then group norm and swish."""

    def __init__(self, conv: nn.Module, channels: int, embed_dim: int, groups: int) -> None:
        super().__init__()
        self.conv = conv
        self.dense = nn.Linear(embed_dim, channels)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, embedding: Tensor, size: Sequence[int] | None = None) -> Tensor:
        h = self.conv(x) if size is None else self.conv(x, output_size=list(size))
        return nn.functional.silu(self.norm(h + self.dense(embedding)[:, :, None, None]))


class ScoreUNet(nn.Module):
    """The tutorial's UNet, a score network: 1,115,297 parameters for one channel.

    Args:
        sde: the forward process whose s(t) divides the output; the tutorial's VE SDE by default.
        in_channels: channels C of the images.
        channels: widths of the four levels.
        embed_dim: width of the time embedding.
        scale: standard deviation of the Fourier features' frequencies.

    Images must be at least 18 pixels high and wide; 28 × 28 and 32 × 32 are usual.
    """

    min_size = 18  # three unpadded 3×3 convolutions with stride 2 must leave a pixel

    def __init__(
        self,
        sde: SDE | None = None,
        *,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        embed_dim: int = 256,
        scale: float = 30.0,
    ) -> None:
        super().__init__()
        self.sde = sde if sde is not None else VESDE()
        self.in_channels, self.channels = in_channels, tuple(channels)
        self.embed_dim, self.scale = embed_dim, scale
        c1, c2, c3, c4 = self.channels
        self.embed = nn.Sequential(
            FourierFeatures(embed_dim, scale), nn.Linear(embed_dim, embed_dim), nn.SiLU()
        )

        def down(c_in: int, c_out: int, stride: int, groups: int) -> _Level:
            conv = nn.Conv2d(c_in, c_out, 3, stride, bias=False)
            return _Level(conv, c_out, embed_dim, groups)

        def up(c_in: int, c_out: int) -> _Level:
            conv = nn.ConvTranspose2d(c_in, c_out, 3, 2, bias=False)
            return _Level(conv, c_out, embed_dim, 32)

        self.down1 = down(in_channels, c1, 1, 4)
        self.down2 = down(c1, c2, 2, 32)
        self.down3 = down(c2, c3, 2, 32)
        self.down4 = down(c3, c4, 2, 32)
        self.up4 = up(c4, c3)
        self.up3 = up(c3 + c3, c2)
        self.up2 = up(c2 + c2, c1)
        self.up1 = nn.ConvTranspose2d(c1 + c1, in_channels, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The score ∇ log p_t(x), of x's shape (B, C, H, W), for t of shape (B,)."""
        if min(x.shape[-2:]) < self.min_size:
            raise InputError(
                f"images of {x.shape[-2]}×{x.shape[-1]} are too small for ScoreUNet: "
                f"expected at least {self.min_size}×{self.min_size} pixels"
            )
        e = self.embed(t)
        h1 = self.down1(x, e)
        h2 = self.down2(h1, e)
        h3 = self.down3(h2, e)
        h4 = self.down4(h3, e)
        h = self.up4(h4, e, h3.shape[-2:])
        h = self.up3(torch.cat([h, h3], 1), e, h2.shape[-2:])
        h = self.up2(torch.cat([h, h2], 1), e, h1.shape[-2:])
        h = self.up1(torch.cat([h, h1], 1))
        score: Tensor = h.to(x.dtype) / expand(self.sde.marginal_std(t), x)
        return score

    def config(self) -> dict[str, Any]:
        """The arguments, beside the SDE, that build this network again."""
        return {
            "in_channels": self.in_channels,
            "channels": list(self.channels),
            "embed_dim": self.embed_dim,
            "scale": self.scale,
        }


class _Conv(nn.Module):
    """A square convolution that keeps its weight as a matrix (out, k·k·in).

    The matrix is the linear map that optimisers such as Muon orthogonalise, and read as
    (out, k, k, in) it is already in the channels-last order that the CPU's kernels like.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, zero: bool = False) -> None:
        super().__init__()
        self.c_in, self.kernel = c_in, kernel
        fan_in = c_in * kernel**2
        weight = torch.zeros if zero else torch.randn
        self.weight = nn.Parameter(weight(c_out, fan_in) / math.sqrt(fan_in))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.view(-1, self.kernel, self.kernel, self.c_in).permute(0, 3, 1, 2)
        return nn.functional.conv2d(x, kernel, self.bias, padding=self.kernel // 2)


class _Residual(nn.Module):
    """Two convolutions around a shift and scale by the noise level, added to the input.

    Source: the block of arXiv 2105.05233 (adaptive group normalisation), at its zero start.
    """

    def __init__(self, c_in: int, c_out: int, embed_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, c_in)
        self.conv1 = _Conv(c_in, c_out, 3)
        self.norm2 = nn.GroupNorm(_GROUPS, c_out, affine=False)
        self.film = nn.Linear(embed_dim, 2 * c_out)
        self.conv2 = _Conv(c_out, c_out, 3, zero=True)
        self.skip = _Conv(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        h = self.norm2(h) * (1 + scale) + shift
        residual: Tensor = self.skip(x) + self.conv2(nn.functional.silu(h))
        return residual


class _Attention(nn.Module):
    """Self-attention over all pixels, added to the input.

    Written as two matrix products: over 49 pixels that is three times as fast on a CPU,
    backward pass included, as the fused kernel.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = _Conv(channels, 3 * channels, 1)
        self.out = _Conv(channels, channels, 1, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1)
        qkv = qkv.reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(c // self.heads), -1)
        y = (weights @ v).permute(0, 2, 1, 3).reshape(b, h, w, c).permute(0, 3, 1, 2)
        attended: Tensor = x + self.out(y)
        return attended


class PixelWaves(nn.Module):
    """cos(2πfx) and sin(2πfx) of every pixel x, damped by e^{−(2πfσ)²/2} as noise damps their mean.

    A likelihood asks where within its level of 1/256 a pixel lies, and a convolution of x itself
    hardly sees that. Damping leaves out the waves that noise of level σ makes meaningless.
    Sources: Kingma et al., arXiv 2107.00630, section 5.1, for the waves; Barron et al.,
    arXiv 2103.13415, eq. 14, for the damping.

    Args:
        frequencies: f, in waves over the range of a pixel, 0 to 1.
        sigma_data: of the preconditioning, which feeds a network x / √(σ² + σ_data²).
    """

    frequencies: Tensor

    def __init__(self, frequencies: Sequence[int], sigma_data: float) -> None:
        super().__init__()
        self.sigma_data = sigma_data
        self.register_buffer("frequencies", torch.tensor(frequencies).float().view(-1, 1, 1, 1))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """(B, 2·F·C, H, W) for an input (B, C, H, W) with labels ¼ ln σ of shape (B,)."""
        sigma = expand((4 * label).exp(), x)
        pixels = x * (sigma**2 + self.sigma_data**2).sqrt()
        angle = 2 * math.pi * self.frequencies * pixels[:, None]
        damping = (-0.5 * (2 * math.pi * self.frequencies * sigma[:, None]) ** 2).exp()
        waves = torch.cat([damping * angle.cos(), damping * angle.sin()], 1)
        return waves.flatten(1, 2)


def _folded(x: Tensor) -> Tensor:
    folded = nn.functional.pixel_unshuffle(x, 2)
    return folded.to(memory_format=torch.channels_last)


_GROUPS = 8
_HEAD_WIDTH = 32
_FREQUENCIES = 16


class ResidualUNet(nn.Module):
    """A residual UNet on two scales, 14 × 14 and 7 × 7 for MNIST, with one attention block.

    Pixels are first folded 2 × 2 into channels (pixel-unshuffle), and unfolded at the end.

    Args:
        in_channels: channels C of the images.
        channels: widths at half and quarter resolution, multiples of 8 and of 32.
        blocks: residual blocks before, in and after the quarter-resolution part.
        embed_dim: width of the noise level's embedding.
        classes: how many classes it may be told of; 0 for a network that takes no labels.
        waves: frequencies of `PixelWaves` given to the network beside the image, in waves over
            the range of a pixel; they need a label ¼ ln σ. Empty for none.
        sigma_data: that of the preconditioning, which the waves need.

    Height and width must be multiples of 4: 28 and 32 are usual.
    """

    frequencies: Tensor

    def __init__(
        self,
        *,
        in_channels: int = 1,
        channels: Sequence[int] = (48, 128),
        blocks: Sequence[int] = (1, 4, 1),
        embed_dim: int = 192,
        classes: int = 0,
        waves: Sequence[int] = (),
        sigma_data: float = 0.33,
    ) -> None:
        super().__init__()
        self.in_channels, self.embed_dim, self.classes = in_channels, embed_dim, classes
        self.waves, self.sigma_data = tuple(waves), sigma_data
        self.channels, self.blocks = tuple(channels), tuple(blocks)
        self._check()
        half, quarter = self.channels
        before, inside, after = self.blocks
        # Periods of the label ¼ ln σ, from longer than its whole range to a fraction of it.
        frequencies = torch.logspace(math.log10(0.5), math.log10(16), _FREQUENCIES) / 4
        self.register_buffer("frequencies", frequencies)
        self.embed = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, embed_dim),
            nn.SiLU(),
            nn.Linear(embed_dim, embed_dim),
            nn.SiLU(),
        )
        if classes:
            # From zero: told of a class, an untrained embedding says what no class does.
            self.embed_class = nn.Embedding(
                classes, embed_dim, _weight=torch.zeros(classes, embed_dim)
            )
        self.first = _Conv(4 * in_channels, half, 3)
        if self.waves:
            # From zero, as above.
            self.pixel_waves = PixelWaves(self.waves, sigma_data)
            self.first_of_waves = _Conv(8 * len(self.waves) * in_channels, half, 3, zero=True)
        self.encoder = nn.ModuleList(_Residual(half, half, embed_dim) for _ in range(before))
        self.down = _Conv(half, quarter, 1)
        self.middle = nn.ModuleList(_Residual(quarter, quarter, embed_dim) for _ in range(inside))
        self.attention = _Attention(quarter, quarter // _HEAD_WIDTH)
        self.up = _Conv(quarter, half, 1)
        self.decoder = nn.ModuleList(
            _Residual(2 * half if i == 0 else half, half, embed_dim) for i in range(after)
        )
        self.norm = nn.GroupNorm(_GROUPS, half)
        self.last = _Conv(half, 4 * in_channels, 3, zero=True)

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """F(x, label), of x's shape (B, C, H, W), for labels of shape (B,).

        A class label is (B,) whole numbers, −1 for an image whose class is not told.
        """
        if x.shape[-2] % 4 or x.shape[-1] % 4:
            raise InputError(
                f"images of {x.shape[-2]}×{x.shape[-1]} pixels: ResidualUNet expects height and "
                "width to be multiples of 4; resize them (--size 28 or 32)"
            )
        embedding = self._embedding(label, class_label)
        h = self.first(_folded(x))
        if self.waves:
            h = h + self.first_of_waves(_folded(self.pixel_waves(x, label)))
        for block in self.encoder:
            h = block(h, embedding)
        fine = h
        h = self.down(nn.functional.avg_pool2d(h, 2))
        for i, block in enumerate(self.middle):
            h = block(h, embedding)
            if i == (len(self.middle) - 1) // 2:
                h = self.attention(h)
        h = nn.functional.interpolate(self.up(h), scale_factor=2.0, mode="nearest")
        h = torch.cat([h, fine], 1)
        for block in self.decoder:
            h = block(h, embedding)
        return nn.functional.pixel_shuffle(self.last(nn.functional.silu(self.norm(h))), 2)

    def _embedding(self, label: Tensor, class_label: Tensor | None) -> Tensor:
        angle = 2 * math.pi * label[:, None] * self.frequencies
        linear, swish, *rest = self.embed
        embedding = swish(linear(torch.cat([angle.sin(), angle.cos()], 1)))
        if class_label is not None:
            told = self.embed_class(class_label.clamp(min=0))
            embedding = embedding + told * (class_label >= 0)[:, None]
        for layer in rest:
            embedding = layer(embedding)
        return embedding

    def _check(self) -> None:
        if len(self.channels) != 2 or self.channels[0] % _GROUPS or self.channels[1] % _HEAD_WIDTH:
            raise InputError(
                f"channels = {self.channels}: expected two widths, a multiple of {_GROUPS} "
                f"and a multiple of {_HEAD_WIDTH}"
            )
        if len(self.blocks) != 3 or min(self.blocks) < 1:
            raise InputError(f"blocks = {self.blocks}: expected three positive numbers")
        if self.classes < 0:
            raise InputError(f"classes = {self.classes}: expected how many there are, or 0")
        if min(self.waves, default=1) <= 0:
            raise InputError(f"waves = {self.waves}: expected positive frequencies")

    def config(self) -> dict[str, Any]:
        """The arguments that build this network again."""
        return {
            "in_channels": self.in_channels,
            "channels": list(self.channels),
            "blocks": list(self.blocks),
            "embed_dim": self.embed_dim,
            "classes": self.classes,
            **({"waves": list(self.waves), "sigma_data": self.sigma_data} if self.waves else {}),
        }


NETWORKS: dict[str, type[nn.Module]] = {"ScoreUNet": ScoreUNet, "ResidualUNet": ResidualUNet}


def make_network(name: str, sde: SDE, **config: Any) -> nn.Module:
    """A network by name, with its arguments; the SDE goes to those that divide by s(t)."""
    if name not in NETWORKS:
        raise InputError(f"no network {name!r}: {name_list(name, NETWORKS)}")
    cls = NETWORKS[name]
    return ScoreUNet(sde, **config) if cls is ScoreUNet else cls(**config)
