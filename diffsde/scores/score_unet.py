r"""The score network of the PyTorch tutorial that accompanies arXiv 2011.13456.

Four convolutions lead down and four lead up. The time enters every level through random
Fourier features. The output is the score: it is divided by the marginal std s(t), because
the true score has norm about √D / s(t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError

__all__ = ["FourierFeatures", "ScoreUNet"]


class FourierFeatures(nn.Module):
    """Features sin(2π w t), cos(2π w t) with fixed random w ~ N(0, scale²).

    The weights w are a buffer: they are saved with the network and never trained.
    Source: Tancik et al., arXiv 2006.10739, section 5.
    """

    w: Tensor

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("w", torch.randn(features // 2).mul_(scale))

    def forward(self, t: Tensor) -> Tensor:
        """The features (B, features) of times t of shape (B,)."""
        angle = 2 * math.pi * t[:, None] * self.w
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class _Level(nn.Module):
    """One level: a convolution plus a bias that depends on time, then group norm and swish."""

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

    axes = 3
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
        self.down1 = _down(in_channels, c1, embed_dim, stride=1, groups=4)
        self.down2 = _down(c1, c2, embed_dim)
        self.down3 = _down(c2, c3, embed_dim)
        self.down4 = _down(c3, c4, embed_dim)
        self.up4 = _up(c4, c3, embed_dim)
        self.up3 = _up(c3 + c3, c2, embed_dim)
        self.up2 = _up(c2 + c2, c1, embed_dim)
        self.up1 = nn.ConvTranspose2d(c1 + c1, in_channels, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The score ∇ log p_t(x), of x's shape (B, C, H, W), for t of shape (B,)."""
        self.arguments(tuple(x.shape[1:]))
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

    @classmethod
    def arguments(cls, shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments that images of this shape (C, H, W) need.

        Raises:
            InputError: they are too small.
        """
        if min(shape[-2:]) < cls.min_size:
            raise InputError(
                f"images of {shape[-2]}×{shape[-1]} are too small for ScoreUNet: "
                f"expected at least {cls.min_size}×{cls.min_size} pixels; resize them (--size "
                f"{cls.min_size}), or choose network = 'ResidualUNet'"
            )
        return {"in_channels": shape[0]}

    def config(self) -> dict[str, Any]:
        """The arguments, apart from the SDE, from which this network can be rebuilt."""
        return {
            "in_channels": self.in_channels,
            "channels": list(self.channels),
            "embed_dim": self.embed_dim,
            "scale": self.scale,
        }


def _down(c_in: int, c_out: int, embed_dim: int, stride: int = 2, groups: int = 32) -> _Level:
    return _Level(nn.Conv2d(c_in, c_out, 3, stride, bias=False), c_out, embed_dim, groups)


def _up(c_in: int, c_out: int, embed_dim: int) -> _Level:
    return _Level(nn.ConvTranspose2d(c_in, c_out, 3, 2, bias=False), c_out, embed_dim, 32)
