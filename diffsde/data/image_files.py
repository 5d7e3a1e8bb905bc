"""One image file, read with care: a file may be damaged, and a small one may claim to be enormous.

Nothing is decoded before the size that the file declares has been looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image
from torch import Tensor

from diffsde.data.pictures import Sides, as_tensor
from diffsde.errors import DataError

__all__ = ["SUFFIXES", "read_image"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}

# Pillow goes by contents, not by suffix, and some of its other formats start programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_PIXELS = 2**26  # in one file
# More than this in each byte of a file is an image of one colour, or a lie.
_MOST_PIXELS_OF_A_BYTE = 2**12
_SMALL = 2**16  # pixels that any file may have


def read_image(path: Path, sides: Sides | None) -> Tensor:
    """Read one image, uint8 (1, H, W) if it is grey and (3, H, W) otherwise, upright.

    Raises:
        DataError: it is not one 8-bit image of a sensible size, or is damaged.
    """
    try:
        _check_canvas(path)
        _check_sums(path)
        with Image.open(path, formats=_FORMATS) as image:
            _check_image(path, image)
            return as_tensor(image, sides)
    except DataError:
        raise
    # Pillow's decoders may raise any exception on a damaged file.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); repair or remove it"
        ) from error


def _check_canvas(path: Path) -> None:
    """Check the size of a WebP: its decoder allocates the canvas as soon as it is opened."""
    with path.open("rb") as file:
        head = file.read(30)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    kind, words = head[12:16], int.from_bytes(head[21:25], "little")
    sizes = {
        b"VP8X": (head[24:27], head[27:30]),
        b"VP8 ": (head[26:28], head[28:30]),
    }
    width, height = (int.from_bytes(part, "little") for part in sizes.get(kind, (b"", b"")))
    if kind == b"VP8X":
        width, height = width + 1, height + 1
    elif kind == b"VP8L":
        width, height = (words & 0x3FFF) + 1, (words >> 14 & 0x3FFF) + 1
    else:
        width, height = width & 0x3FFF, height & 0x3FFF
    _check_size(path, width, height)


def _check_sums(path: Path) -> None:
    """Check the sums of a PNG, the only one of these formats that has any: decoders skip them."""
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(path, *image.size)
        if image.format == "PNG":
            image.verify()


def _check_image(path: Path, image: Image.Image) -> None:
    """Check that a file holds one 8-bit image of a sensible size, before decoding its pixels."""
    _check_size(path, *image.size)
    # An MPO is a camera's JPEG, whose first image is the photograph and the others previews.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise DataError(f"{path}: several images in one file; save one of them or remove it")
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: pixels of more than 8 bits (mode {image.mode}), which would be cut off at "
            "255; save it with 8 bits a channel"
        )


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise DataError(
            f"{path}: {width}×{height} pixels, more than the limit of {_MOST_PIXELS:,}; make it "
            "smaller or remove it"
        )
    length = os.stat(path).st_size
    if width * height > _SMALL + _MOST_PIXELS_OF_A_BYTE * length:
        raise DataError(
            f"{path}: {width}×{height} pixels in {length} bytes: it is damaged or nearly empty; "
            "repair or remove it"
        )
