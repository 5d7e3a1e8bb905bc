r"""A network for images of 256 levels, which knows what a noisy pixel says of its own level.

A pixel x of an 8-bit image is one of the levels v_k = k / 255. With noise of level σ it is seen as
z = x + σ n, n standard normal, and by Bayes' rule

    P(x = v_k | all pixels)  ∝  exp( f_k − (z − v_k)² / 2σ² ) :

what the pixel says of itself is known exactly, and f_k, what all that surrounds it says, is the
network's. The denoised image is the mean of these probabilities. Thus the network needs to learn
neither that there are levels nor where noise hides them, and its f_k are smooth in z and σ.

At low noise, where most bits of an image are, f_k takes the full resolution: blocks there see the
image, its waves (`PixelWaves`), and what a `ResidualUNet` at half resolution makes of both. At
noise levels above `upto`, where levels do not matter, that coarse network answers alone.

The coarse network is one of dequantised images: level k is (k + ½) / 256 to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffsde.data.images import LEVELS
from diffsde.errors import InputError
from diffsde.scores.residual_layers import GROUPS, Conv, PixelWaves, Residual, pixels_and_level
from diffsde.scores.residual_unet import ResidualUNet

__all__ = ["LevelUNet"]

_FINE_WAVES = (1, 2, 4, 8, 16, 32, 64, 128)
_SHRINK = (LEVELS - 1) / LEVELS  # from one level to the next, dequantised, over that of k / 255
_SHIFT = 0.5 / LEVELS
_TOGETHER = 16  # images whose probabilities are in memory together, a kilobyte for each value


def _all(above: Tensor) -> bool:
    """Whether all are so, if that is worth asking.

    A device would be waited for, and in training every weight should get its gradient.
    """
    free = above.device.type == "cpu" and not torch.compiler.is_compiling()
    return free and not torch.is_grad_enabled() and bool(above.all())


class _LineResidual(Residual):
    """A residual block whose pixels also see the means of their row, of their column and of all.

    Digits were scaled to their size by rows and columns, which left levels that repeat along them.
    """

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__(channels, channels, embed_dim)
        self.rows = Conv(channels, channels, 1, zero=True)
        self.columns = Conv(channels, channels, 1, zero=True)
        self.whole = Conv(channels, channels, 1, zero=True)

    def _convolved(self, h: Tensor) -> Tensor:
        rows, columns = h.mean(3, keepdim=True), h.mean(2, keepdim=True)
        whole = self.whole(rows.mean(2, keepdim=True))
        convolved: Tensor = self.conv1(h) + self.rows(rows) + self.columns(columns) + whole
        return convolved


class LevelUNet(ResidualUNet):
    """A `ResidualUNet` with blocks at full resolution, which returns the denoised image.

    It takes the preconditioning "denoised" and images in [0, 1].

    Args:
        fine_channels: width at full resolution, a multiple of 8.
        fine_blocks: residual blocks there.
        upto: noise level σ above which the coarse network answers alone.
        coarse: arguments of `ResidualUNet`, for the coarse network; with `sigma_data`, which has to
            be that of the preconditioning.
    """

    pixel_levels = LEVELS
    preconditioning = "denoised"

    def __init__(
        self, *, fine_channels: int = 48, fine_blocks: int = 4, upto: float = 0.12, **coarse: Any
    ) -> None:
        super().__init__(**coarse)
        if fine_channels < 1 or fine_channels % GROUPS or fine_blocks < 1:
            raise InputError(
                f"fine_channels = {fine_channels}, fine_blocks = {fine_blocks}: expected a "
                f"multiple of {GROUPS}, and a positive number"
            )
        if not 0 < upto < float("inf"):
            raise InputError(f"upto = {upto}: expected a noise level σ above 0")
        self.fine_channels, self.fine_blocks, self.upto = fine_channels, fine_blocks, upto
        colours = self.in_channels
        self.fine_waves = PixelWaves(_FINE_WAVES, self.sigma_data)
        self.first_fine = Conv((3 + 2 * len(_FINE_WAVES)) * colours, fine_channels, 3)
        self.first_of_coarse = Conv(self.channels[0], 4 * fine_channels, 1)
        self.fine = nn.ModuleList(
            _LineResidual(fine_channels, self.embed_dim) for _ in range(fine_blocks)
        )
        self.norm_fine = nn.GroupNorm(GROUPS, fine_channels)
        self.last_levels = Conv(fine_channels, LEVELS * colours, 1, zero=True)

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """The denoised image, of x's shape (B, C, H, W), for labels ¼ ln σ of shape (B,)."""
        noisy, sigma = pixels_and_level(x, label, self.sigma_data)
        coarse, features, embedding = self._coarsely(noisy, sigma, class_label)
        if _all(sigma > self.upto):
            return coarse
        distance = (noisy - coarse) / sigma.clamp(min=1 / (LEVELS - 1))  # in stds, or in levels
        seen = torch.cat([noisy, coarse, distance, self.fine_waves(x, label)], 1)
        fine = self._mean_level(self._evidence(seen, features, embedding), noisy, sigma)
        return torch.where(sigma > self.upto, coarse, fine)

    def coarse(self) -> ResidualUNet:
        """A copy of the coarse network: one of dequantised images, of the preconditioning "edm"."""
        alone = ResidualUNet(**super().config())
        weights = self.state_dict()
        alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
        return alone.to(weights["first.weight"]).train(self.training)

    def _coarsely(
        self, noisy: Tensor, sigma: Tensor, class_label: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The image that the coarse network makes of z = x + σ n, its features, its embedding.

        It is a network of the preconditioning EDM, arXiv 2206.00364, table 1.
        """
        noisy, sigma = _SHRINK * noisy + _SHIFT, _SHRINK * sigma
        total = (sigma**2 + self.sigma_data**2).sqrt()
        label = sigma.log().flatten() / 4
        embedding = self.embedding(label, class_label)
        features = self.features(noisy / total, label, embedding)
        skip, out = self.sigma_data**2 / total**2, sigma * self.sigma_data / total
        denoised = skip * noisy + out * self.answer(features, noisy)
        return (denoised - _SHIFT) / _SHRINK, features, embedding

    def _evidence(self, seen: Tensor, features: Tensor, embedding: Tensor) -> Tensor:
        """f_k of the module, (B, C, H, W, levels), up to a constant for each value."""
        height, width = seen.shape[-2:]
        h = self.first_fine(seen.contiguous(memory_format=torch.channels_last))
        of_coarse = nn.functional.pixel_shuffle(self.first_of_coarse(features), 2)
        h = h + of_coarse[..., :height, :width]
        for block in self.fine:
            h = block(h, embedding)
        evidence: Tensor = self.last_levels(nn.functional.silu(self.norm_fine(h)))
        return evidence.unflatten(1, (self.in_channels, LEVELS)).movedim(2, -1)

    def _mean_level(self, evidence: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The mean of the levels' probabilities, given evidence and the pixels themselves."""
        values = torch.arange(LEVELS, dtype=noisy.dtype, device=noisy.device) / (LEVELS - 1)
        parts = zip(*(each.split(_TOGETHER) for each in (evidence, noisy, sigma)), strict=True)
        means = []
        for said, seen, std in parts:
            away = (seen / std)[..., None] - values / std[..., None]
            likely = torch.softmax(torch.addcmul(said.to(away.dtype), away, away, value=-0.5), -1)
            # No matrix product: autocast would round the values to 8 bits.
            means.append((likely * values).sum(-1))
        return torch.cat(means)

    def config(self) -> dict[str, Any]:
        """The arguments from which this network can be rebuilt."""
        return {
            **super().config(),
            "sigma_data": self.sigma_data,
            "fine_channels": self.fine_channels,
            "fine_blocks": self.fine_blocks,
            "upto": self.upto,
        }
