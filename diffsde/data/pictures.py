"""Pictures as tensors: from Pillow's images, of one size, in one stack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from diffsde.data.samples import Contents
from diffsde.errors import DataError, InputError

__all__ = ["Sides", "as_tensor", "checked_size", "stacked", "to_size"]

Sides = tuple[int, int]  # height and width

_LARGEST_SIDE = 2**14


def checked_size(size: Any) -> Sides:
    """(height, width) from a side, "HxW" or a pair.

    Raises:
        InputError: it is none of these.
    """
    sides = size
    if isinstance(size, str):
        found = re.fullmatch(r"(\d{1,6})(?:\s*[x×,]\s*(\d{1,6}))?", size.strip().lower())
        sides = [int(part) for part in found.groups() if part] if found else ()
    sides = tuple(sides) if isinstance(sides, list | tuple) else (sides,)
    sides = sides * 2 if len(sides) == 1 else sides
    good = len(sides) == 2 and all(_is_side(side) for side in sides)
    if not good:
        raise InputError(
            f"size = {size!r:.40}: expected a side or HEIGHTxWIDTH in pixels, such as 32 or 28x36"
        )
    return int(sides[0]), int(sides[1])


def _is_side(value: Any) -> bool:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    return whole and 1 <= int(value) <= _LARGEST_SIDE


def as_tensor(image: Image.Image, sides: Sides | None) -> Tensor:
    """One picture, upright, uint8 (1, H, W) if it is grey and (3, H, W) otherwise."""
    # Cameras keep pixels as the sensor lay, and say in EXIF how to turn them.
    upright = ImageOps.exif_transpose(image)
    mode = "L" if upright.mode in ("1", "L", "LA") else "RGB"
    pixels: Tensor = pil_to_tensor(upright.convert(mode))
    return pixels if sides is None else to_size(pixels, sides)


def to_size(images: Tensor, sides: Sides) -> Tensor:
    """Crop the largest centre of the wanted proportions, and resize it; images (…, H, W)."""
    height, width = images.shape[-2:]
    scale = min(height / sides[0], width / sides[1])
    # Cropped first: resized first, a strip of 1 × 10⁷ pixels would outgrow any memory.
    centre = [max(1, round(side * scale)) for side in sides]
    resized: Tensor = resize(center_crop(images, centre), list(sides), antialias=True)
    return resized


def stacked(name: str, pictures: Iterable[tuple[str, Tensor]]) -> Contents:
    """Pictures of one size as one tensor; if any has colour, all get three channels.

    Args:
        name: of the data set.
        pictures: what to call each in an error, and its pixels, uint8 (1 or 3, H, W).

    Raises:
        DataError: there are none, or one has another size than the first.
    """
    called: list[str] = []
    images: list[Tensor] = []
    for where, image in pictures:
        if images and image.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{where}: {_pixels(image)} pixels, but {called[0]} has {_pixels(images[0])}; "
                "give a size (--size 32, or --size 28x36) to resize all images to"
            )
        called.append(where)
        images.append(image)
    if not images:
        raise DataError(f"{name}: no images")
    channels = max(len(image) for image in images)
    return Contents(name, torch.stack([image.expand(channels, -1, -1) for image in images]))


def _pixels(image: Tensor) -> str:
    return f"{image.shape[-1]}×{image.shape[-2]}"
