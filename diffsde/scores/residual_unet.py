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

from diffsde.errors import InputError
from diffsde.scores.residual_layers import GROUPS, Attention, Conv, PixelWaves, Residual

__all__ = ["ResidualUNet"]

_HEAD_WIDTH = 32
_FREQUENCIES = 16


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
        self.encoder = nn.ModuleList(Residual(half, half, embed_dim) for _ in range(before))
        self.down = Conv(half, quarter, 1)
        self.middle = nn.ModuleList(Residual(quarter, quarter, embed_dim) for _ in range(inside))
        self.attention = Attention(quarter, quarter // _HEAD_WIDTH)
        self.up = Conv(quarter, half, 1)
        self.decoder = nn.ModuleList(
            Residual(2 * half if i == 0 else half, half, embed_dim) for i in range(after)
        )
        self.norm = nn.GroupNorm(GROUPS, half)
        self.last = Conv(half, 4 * in_channels, 3, zero=True)

    def _check(self) -> None:
        if len(self.channels) != 2 or self.channels[0] % GROUPS or self.channels[1] % _HEAD_WIDTH:
            raise InputError(
                f"channels = {self.channels}: expected two widths, a multiple of {GROUPS} "
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
        self.first = Conv(4 * self.in_channels, half, 3)
        if self.waves:
            # Zero at first, so that untrained waves have no effect.
            self.pixel_waves = PixelWaves(self.waves, self.sigma_data)
            folded = 8 * len(self.waves) * self.in_channels
            self.first_of_waves = Conv(folded, half, 3, zero=True)

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """F(x, label), of x's shape (B, C, H, W), for labels of shape (B,).

        A class label is (B,) whole numbers, −1 for an image without a class label.
        """
        return self.answer(self.features(x, label, self.embedding(label, class_label)), x)

    def embedding(self, label: Tensor, class_label: Tensor | None) -> Tensor:
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

    def features(self, x: Tensor, label: Tensor, embedding: Tensor) -> Tensor:
        """What the last layer sees, (B, channels, ⌈H/4⌉ · 2, ⌈W/4⌉ · 2)."""
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, -width % 4, 0, -height % 4))
        fine = self._first_features(x, label)
        for block in self.encoder:
            fine = block(fine, embedding)
        h = torch.cat([self._quarter_resolution(fine, embedding), fine], 1)
        for block in self.decoder:
            h = block(h, embedding)
        return nn.functional.silu(self.norm(h))

    def answer(self, features: Tensor, x: Tensor) -> Tensor:
        """The output that the last layer makes of features of x, of x's shape."""
        height, width = x.shape[-2:]
        return nn.functional.pixel_shuffle(self.last(features), 2)[..., :height, :width]

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
