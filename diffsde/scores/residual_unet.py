r"""A small residual network for any preconditioning.

It works at half and quarter resolution, where a convolution does the most arithmetic for
the memory it moves. The last layer and every residual branch start at zero: untrained, the
network returns zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import expand
from diffsde.errors import InputError

__all__ = ["PixelWaves", "ResidualUNet"]

_GROUPS = 8
_HEAD_WIDTH = 32
_FREQUENCIES = 16


class _Conv(nn.Module):
    """A square convolution that keeps its weight as a matrix (out, k·k·in).

    The matrix is the linear map that optimisers such as Muon orthogonalise. Read as
    (out, k, k, in), it is already in the channels-last order that CPU kernels prefer.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, zero: bool = False) -> None:
        super().__init__()
        self.c_in, self.kernel = c_in, kernel
        fan_in = c_in * kernel**2
        weight = (torch.zeros if zero else torch.randn)(c_out, fan_in)
        # In place, because the other division makes torch load its compiler on the meta device,
        # where a file's network is built: that takes longer than all else.
        self.weight = nn.Parameter(weight.div_(math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.view(-1, self.kernel, self.kernel, self.c_in).permute(0, 3, 1, 2)
        return nn.functional.conv2d(x, kernel, self.bias, padding=self.kernel // 2)


class _Residual(nn.Module):
    """Two convolutions around a shift and scale by the noise level, added to the input.

    Source: the block of arXiv 2105.05233 (adaptive group normalisation), started at zero.
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

    It is written as two matrix products: for 49 pixels on a CPU these are three times as fast,
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

    A likelihood depends on where a pixel lies within its level of 1/256, and a convolution of x
    itself hardly sees that. The damping removes waves that noise of level σ makes meaningless.
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


class ResidualUNet(nn.Module):
    """A residual UNet on two scales, 14 × 14 and 7 × 7 for MNIST, with one attention block.

    Blocks of 2 × 2 pixels are folded into channels at the start (pixel-unshuffle) and unfolded
    at the end.

    Args:
        in_channels: channels C of the images.
        channels: widths at half and quarter resolution, multiples of 8 and of 32.
        blocks: residual blocks before, in and after the quarter-resolution part.
        embed_dim: width of the noise level's embedding.
        classes: number of classes; 0 for a network that takes no class labels.
        waves: frequencies of the `PixelWaves` that the network sees beside the image, in waves
            over the range of a pixel; they need a label ¼ ln σ. Empty for none.
        sigma_data: that of the preconditioning, which the waves need.

    Height and width that are no multiples of 4 are padded with zeros inside, and cut off again.
    """

    axes = 3
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
        self._add_embedding()
        self._add_first_layers()
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

    def _check(self) -> None:
        if len(self.channels) != 2 or self.channels[0] % _GROUPS or self.channels[1] % _HEAD_WIDTH:
            raise InputError(
                f"channels = {self.channels}: expected two widths, a multiple of {_GROUPS} "
                f"and a multiple of {_HEAD_WIDTH}"
            )
        if len(self.blocks) != 3 or min(self.blocks) < 1:
            raise InputError(f"blocks = {self.blocks}: expected three positive numbers")
        if self.classes < 0:
            raise InputError(f"classes = {self.classes}: expected the number of classes, or 0")
        if min(self.waves, default=1) <= 0:
            raise InputError(f"waves = {self.waves}: expected positive frequencies")

    def _add_embedding(self) -> None:
        """The layers that embed the noise level and the class."""
        # Periods of the label ¼ ln σ, from longer than its whole range to a fraction of it.
        frequencies = torch.logspace(math.log10(0.5), math.log10(16), _FREQUENCIES).div_(4)
        self.register_buffer("frequencies", frequencies)
        width = self.embed_dim
        self.embed = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        if self.classes:
            # Zero at first, so that an untrained class label has the same effect as none.
            zeros = torch.zeros(self.classes, width)
            self.embed_class = nn.Embedding(self.classes, width, _weight=zeros)

    def _add_first_layers(self) -> None:
        """The convolutions of the image and of its waves."""
        half = self.channels[0]
        self.first = _Conv(4 * self.in_channels, half, 3)
        if self.waves:
            # Zero at first, so that untrained waves have no effect.
            self.pixel_waves = PixelWaves(self.waves, self.sigma_data)
            folded = 8 * len(self.waves) * self.in_channels
            self.first_of_waves = _Conv(folded, half, 3, zero=True)

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """F(x, label), of x's shape (B, C, H, W), for labels of shape (B,).

        A class label is (B,) whole numbers, −1 for an image without a class label.
        """
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, -width % 4, 0, -height % 4))
        embedding = self._embedding(label, class_label)
        fine = self._first_features(x, label)
        for block in self.encoder:
            fine = block(fine, embedding)
        h = torch.cat([self._quarter_resolution(fine, embedding), fine], 1)
        for block in self.decoder:
            h = block(h, embedding)
        output = nn.functional.pixel_shuffle(self.last(nn.functional.silu(self.norm(h))), 2)
        return output[..., :height, :width]

    def _embedding(self, label: Tensor, class_label: Tensor | None) -> Tensor:
        """The embedding of noise level and class, (B, embed_dim)."""
        angle = 2 * math.pi * label[:, None] * self.frequencies
        linear, swish, *rest = self.embed
        embedding = swish(linear(torch.cat([angle.sin(), angle.cos()], 1)))
        if class_label is not None:
            of_class = self.embed_class(class_label.clamp(min=0))
            embedding = embedding + of_class * (class_label >= 0)[:, None]
        for layer in rest:
            embedding = layer(embedding)
        return embedding

    def _first_features(self, x: Tensor, label: Tensor) -> Tensor:
        h: Tensor = self.first(_folded(x))
        if self.waves:
            h = h + self.first_of_waves(_folded(self.pixel_waves(x, label)))
        return h

    def _quarter_resolution(self, fine: Tensor, embedding: Tensor) -> Tensor:
        """The middle blocks, with attention half way, from half resolution and back to it."""
        h = self.down(nn.functional.avg_pool2d(fine, 2))
        for i, block in enumerate(self.middle):
            h = block(h, embedding)
            if i == (len(self.middle) - 1) // 2:
                h = self.attention(h)
        return nn.functional.interpolate(self.up(h), scale_factor=2.0, mode="nearest")

    def config(self) -> dict[str, Any]:
        """The arguments from which this network can be rebuilt."""
        return {
            "in_channels": self.in_channels,
            "channels": list(self.channels),
            "blocks": list(self.blocks),
            "embed_dim": self.embed_dim,
            "classes": self.classes,
            **({"waves": list(self.waves), "sigma_data": self.sigma_data} if self.waves else {}),
        }


def _folded(x: Tensor) -> Tensor:
    """Blocks of 2 × 2 pixels as channels: (B, 4·C, H/2, W/2)."""
    folded = nn.functional.pixel_unshuffle(x, 2)
    return folded.to(memory_format=torch.channels_last)
