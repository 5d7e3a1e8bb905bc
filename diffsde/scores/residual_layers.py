"""Layers of the residual networks: convolutions, residual blocks, attention, waves of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffsde.equations.forward import expand

__all__ = ["GROUPS", "Attention", "Conv", "PixelWaves", "Residual", "pixels_and_level"]

GROUPS = 8  # of channels, in every normalisation


class Conv(nn.Module):
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


class Residual(nn.Module):
    """Two convolutions around a shift and scale by the noise level, added to the input.

    Source: the block of arXiv 2105.05233 (adaptive group normalisation), started at zero.
    """

    def __init__(self, c_in: int, c_out: int, embed_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, c_in)
        self.conv1 = Conv(c_in, c_out, 3)
        self.norm2 = nn.GroupNorm(GROUPS, c_out, affine=False)
        self.film = nn.Linear(embed_dim, 2 * c_out)
        self.conv2 = Conv(c_out, c_out, 3, zero=True)
        self.skip = Conv(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self._convolved(nn.functional.silu(self.norm1(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        h = self.norm2(h) * (1 + scale) + shift
        residual: Tensor = self.skip(x) + self.conv2(nn.functional.silu(h))
        return residual

    def _convolved(self, h: Tensor) -> Tensor:
        convolved: Tensor = self.conv1(h)
        return convolved


class Attention(nn.Module):
    """Self-attention over all pixels, added to the input.

    It is written as two matrix products: for 49 pixels on a CPU these are three times as fast,
    backward pass included, as the fused kernel.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = Conv(channels, 3 * channels, 1)
        self.out = Conv(channels, channels, 1, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1)
        qkv = qkv.reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(c // self.heads), -1)
        y = (weights @ v).permute(0, 2, 1, 3).reshape(b, h, w, c).permute(0, 3, 1, 2)
        attended: Tensor = x + self.out(y)
        return attended


def pixels_and_level(x: Tensor, label: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    """What a preconditioning has divided by √(σ² + σ_data²), and σ of the labels ¼ ln σ.

    Returns:
        Of x's shape (B, C, H, W), and (B, 1, 1, 1).
    """
    sigma = expand((4 * label).exp(), x)
    return x * (sigma**2 + sigma_data**2).sqrt(), sigma


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
        pixels, sigma = pixels_and_level(x, label, self.sigma_data)
        angle = 2 * math.pi * self.frequencies * pixels[:, None]
        damping = (-0.5 * (2 * math.pi * self.frequencies * sigma[:, None]) ** 2).exp()
        waves = torch.cat([damping * angle.cos(), damping * angle.sin()], 1)
        return waves.flatten(1, 2)
