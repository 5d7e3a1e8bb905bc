"""A folder of image files as one tensor.

What is not one 8-bit image of a sensible size is refused before its pixels are decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from diffsde.errors import DataError, InputError

__all__ = ["read_folder", "to_size"]

_MOST_PIXELS = 2**26  # in one image file: a small file may claim to be enormous
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def read_folder(root: str | os.PathLike[str] | None, size: int | None) -> tuple[str, Tensor]:
    """Read the name of a folder and all images in it and below it, uint8 (N, C, H, W).

    If any image has colour, all get three channels.

    Raises:
        DataError: there are no images, or one is damaged or of another size than the first.
        InputError: `root` is missing.
    """
    if root is None:
        raise InputError("dataset='folder' needs root, the folder of images (--data FOLDER)")
    folder = Path(root)
    paths = _image_files(folder)
    # Each is resized at once: a folder of photographs would not fit in memory.
    images = [_read_image(path, size) for path in paths]
    channels = max(len(image) for image in images)
    images = [image.expand(channels, -1, -1) for image in images]
    _check_sizes(paths, images)
    return folder.name, torch.stack(images)


def _image_files(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder}: no images found (looked for {', '.join(sorted(_SUFFIXES))} "
            "in this folder and those below)"
        )
    return paths


def _check_sizes(paths: Sequence[Path], images: Sequence[Tensor]) -> None:
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{path}: {image.shape[-1]}×{image.shape[-2]} pixels, but {paths[0].name} has "
                f"{images[0].shape[-1]}×{images[0].shape[-2]}; give a size (--size 32) to resize "
                "all images to"
            )


def _read_image(path: Path, size: int | None) -> Tensor:
    """Read one image, uint8, of shape (1, H, W) if it is grey and (3, H, W) otherwise."""
    try:
        with Image.open(path) as image:
            _check_image(path, image)
            pixels: Tensor = pil_to_tensor(
                image.convert("L" if image.mode in ("1", "L") else "RGB")
            )
    except DataError:
        raise
    # Pillow's decoders may raise any exception on a damaged file.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); repair or remove it"
        ) from error
    return pixels if size is None else to_size(pixels, size)


def _check_image(path: Path, image: Image.Image) -> None:
    """Check that a file holds one 8-bit image of a sensible size, before decoding its pixels."""
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(
            f"{path}: {image.width}×{image.height} pixels, more than the limit of "
            f"{_MOST_PIXELS:,}; make it smaller or remove it"
        )
    if getattr(image, "is_animated", False):
        raise DataError(f"{path}: several images in one file; save one of them or remove it")
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: pixels of more than 8 bits (mode {image.mode}), which would be cut off at "
            "255; save it with 8 bits a channel"
        )


def to_size(images: Tensor, size: int) -> Tensor:
    """Crop the central square of images (…, H, W) and resize it to that side."""
    # Cropped first: resized first, a strip of 1 × 10⁷ pixels would outgrow any memory.
    square = center_crop(images, [min(images.shape[-2:])] * 2)
    resized: Tensor = resize(square, [size, size], antialias=True)
    return resized
