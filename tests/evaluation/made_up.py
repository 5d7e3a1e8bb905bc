"""Small coloured images in three classes, which take no time to learn."""

from __future__ import annotations

import torch

from diffsde.data.images import ImageData

CLASSES = 3


def coloured(n: int, seed: int, *, size: tuple[int, int] = (32, 32)) -> ImageData:
    """Noise whose brightest channel is the class: the first class is twice as frequent."""
    numbers = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES + 1, (n,), generator=numbers) % CLASSES
    images = torch.randint(100, (n, CLASSES, *size), generator=numbers)
    images[torch.arange(n), labels] += 100
    return ImageData("coloured", images.to(torch.uint8), labels)


def pair(train: int = 300, test: int = 150) -> tuple[ImageData, ImageData]:
    """Training and test images."""
    return coloured(train, 0), coloured(test, 1)


def brightness(images: torch.Tensor) -> torch.Tensor:
    """The mean of the upper and of the lower half, as features."""
    upper, lower = images.flatten(1).chunk(2, 1)
    return torch.stack([upper.mean(1), lower.mean(1)], 1)
