r"""Autoencoders of diffusers: from the latent space in which a model draws, back to images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.ranges import Range

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Latents (B, C, H, W) as images (B, 3, H·f, W·f), f the autoencoder's factor.

    Args:
        autoencoder: an `AutoencoderKL` or a `VQModel`; its `scaling_factor`, `shift_factor`,
            `latents_mean` and `latents_std` lead from the latents that a model draws to those
            that it takes.

    Attributes:
        data_range: the values of black and of white of the images.
    """

    data_range: Range = (-1.0, 1.0)

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """The images, (B, 3, H·f, W·f); nothing is kept for a gradient."""
        config = self.autoencoder.config
        weight = next(self.autoencoder.parameters())
        mean, std = self._statistics(config, weight)
        z = latents.to(weight) / config.scaling_factor * std + mean
        images: Tensor = self.autoencoder.decode(z).sample
        return images

    def _statistics(self, config: Any, like: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the std of each channel of the latents, as the autoencoder states them."""
        shift = getattr(config, "shift_factor", None) or 0.0
        mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
        if mean is None or std is None:
            return like.new_tensor(shift), like.new_tensor(1.0)
        columns = (like.new_tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
        return next(columns), next(columns)
