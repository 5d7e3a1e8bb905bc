r"""Movie files, written frame by frame.

A writer takes a frame and the number of ticks for which it is shown, where a tick lasts
1 / fps seconds. It does not keep the frame, so memory does not grow with the film's length.
A frame is an array of (H, W) indices into one palette for the whole film, or of (H, W, 3)
colours.

GIF and animated PNG are written here with Pillow's LZW encoder and Python's zlib, because
Pillow's own writers keep every frame until the end and give each frame its own palette.
Sources: the GIF89a specification, and https://www.w3.org/TR/png-3/ for APNG. MP4 and WebM
are written by imageio and PyAV, the extra `video`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from diffsde.errors import InputError, name_list
from diffsde.system.files import written_whole
from diffsde.system.numbers import real_number

__all__ = ["SUFFIXES", "Frame", "Write", "check_movie", "open_movie"]

Frame = NDArray[np.uint8]
Palette = NDArray[np.uint8]


class Write(Protocol):
    """Append a frame that is shown for a number of ticks.

    With `exact`, no pixel may differ from the frame. Formats that are always exact ignore it.
    """

    def __call__(self, frame: Frame, ticks: int, *, exact: bool) -> None: ...


_CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
SUFFIXES = (".gif", ".png", ".apng", *_CODECS)

_GIF_FPS = 50.0  # players slow down files that ask for more
_LZW_BITS = 8
_MOST_COLOURS = 255  # which leaves one index for transparent pixels
_LAG = 2  # shades by which a pixel of a GIF may differ from its state before it is redrawn
_PNG_UP = 2  # the filter that subtracts the row above: magnified rows repeat, so they become 0


def check_movie(path: Path, fps: float | None) -> None:
    """Check that `open_movie` can write this file, at this speed if one is asked for.

    Raises:
        InputError: the suffix is unknown, the format cannot be played at this speed, or PyAV
            is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: not an animation format. {name_list(suffix, SUFFIXES)}")
    if suffix == ".gif" and fps is not None and real_number(fps, "fps", "a number") > _GIF_FPS:
        raise InputError(
            f"fps = {fps}: GIF players show at most 50 frames per second. Lower fps, skip frames "
            "with speed=, or write .png, .mp4 or .webm"
        )
    if suffix in _CODECS:
        _check_pyav(path)


def _check_pyav(path: Path) -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{path}: writing {path.suffix} needs PyAV: pip install 'diffsde[video]'; "
            ".gif and .png need no extra"
        ) from error


@contextmanager
def open_movie(
    path: Path,
    fps: float,
    count: int,
    palette: Palette | None,
    shades: int,
    samples: Callable[[], list[Frame]],
) -> Iterator[Write]:
    """Yield a function that appends frames to `path`, which appears once all are written.

    Args:
        path: its suffix, one of `SUFFIXES`, selects the format.
        fps: ticks per second.
        count: how many frames will be written.
        palette: (N, 3) colours, N < 256, for frames of indices; None for frames of colours.
        shades: how many of the palette's first colours form a scale on which neighbours look
            alike.
        samples: returns some frames of colours, from which a GIF chooses its one palette.
    """
    suffix = path.suffix.lower()
    with written_whole(path) as temporary:
        if suffix in _CODECS:
            with _video(temporary, fps, _CODECS[suffix], palette) as write:
                yield write
            return
        with temporary.open("wb") as file:
            if suffix != ".gif":
                yield _Apng(file, fps, count, palette)
                file.write(_chunk(b"IEND", b""))
            else:
                gif = None if palette is None else _Gif(file, fps, palette, shades)
                yield gif or _quantised(file, fps, samples())
                file.write(b";")


class _Gif:
    """A GIF with one global palette.

    A frame holds only the pixels that changed; the others are transparent. On the scale of
    shades, a change of up to `_LAG` shades is put off unless the frame must be exact: noise
    that moves a little at every step would make up most of the file, and nobody sees it.
    """

    def __init__(self, file: BinaryIO, fps: float, palette: Palette, shades: int) -> None:
        self.file, self.palette, self.shades = file, palette, shades
        self.delay = _Delays(fps, 100)
        self.shown: Frame | None = None

    def __call__(self, frame: Frame, ticks: int, *, exact: bool) -> None:
        height, width = frame.shape
        clear = len(self.palette)  # the index of transparent pixels
        delay = self.delay(ticks)
        pixels = self._changes(frame, exact)
        # "1 << 2": the next frame is drawn over this one; "| 1": some pixels are transparent.
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1 << 2 | 1, delay, clear, 0)
        corner = struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, _LZW_BITS)
        self.file.write(control + corner + _lzw(pixels) + b"\0")

    def _changes(self, frame: Frame, exact: bool) -> Frame:
        """The frame where it differs from what is shown, transparent pixels elsewhere."""
        if self.shown is None:
            self._start(*frame.shape)
            self.shown = frame.copy()
            return frame
        difference = frame - self.shown  # bytes wrap around: −1 is 255
        same = difference == 0
        if not exact:
            alike = difference + np.uint8(_LAG) <= 2 * _LAG
            same |= alike & (frame < self.shades) & (self.shown < self.shades)
        np.copyto(self.shown, frame, where=~same)
        return np.where(same, np.uint8(len(self.palette)), frame)

    def _start(self, height: int, width: int) -> None:
        bits = max(1, len(self.palette).bit_length())
        table = np.zeros((2**bits, 3), np.uint8)
        table[: len(self.palette)] = self.palette
        self.file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0 | (bits - 1), 0, 0))
        self.file.write(table.tobytes())
        self.file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # repeat for ever


class _Delays:
    """From ticks to the units of a file, rounded so that rounding errors do not add up."""

    def __init__(self, fps: float, units: int) -> None:
        self.fps, self.units = fps, units  # ticks and units per second
        self.ticks = self.written = 0  # so far

    def __call__(self, ticks: int) -> int:
        self.ticks += ticks
        delay = round(self.units * self.ticks / self.fps) - self.written
        self.written += delay
        return delay


def _lzw(pixels: Frame) -> bytes:
    from PIL import Image

    # "gif" is Pillow's LZW encoder. Its arguments: mode, bits per pixel, not interlaced.
    return Image.fromarray(pixels).tobytes("gif", "L", _LZW_BITS, 0)


def _quantised(file: BinaryIO, fps: float, samples: list[Frame]) -> Write:
    """A GIF writer for frames of colours, with one palette chosen from these samples."""
    palette = _chosen_palette(samples)
    nearest = _nearest(palette)
    gif = _Gif(file, fps, palette, shades=0)

    def write(frame: Frame, ticks: int, *, exact: bool) -> None:
        red, green, blue = np.moveaxis(frame >> 3, -1, 0).astype(np.uint16)
        gif(nearest[(red << 10) | (green << 5) | blue], ticks, exact=exact)

    return write


def _chosen_palette(samples: list[Frame]) -> Palette:
    from PIL import Image

    sheet = np.concatenate([s.reshape(-1, 3) for s in samples])[None]
    chosen = Image.fromarray(sheet).quantize(_MOST_COLOURS).getpalette() or [0, 0, 0]
    return np.array(chosen, np.uint8).reshape(-1, 3)[:_MOST_COLOURS]


def _nearest(palette: Palette) -> Frame:
    """The index of the nearest palette colour to each colour of 5 bits per channel: (32768,)."""
    levels = np.arange(32, dtype=np.float32) * 8 + 4
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    colours = palette.astype(np.float32)
    # ‖c − p‖² without ‖c‖², which does not depend on p.
    return np.asarray(((colours**2).sum(1) - 2 * cube @ colours.T).argmin(1), dtype=np.uint8)


class _Apng:
    """An animated PNG of indices or of colours."""

    def __init__(self, file: BinaryIO, fps: float, count: int, palette: Palette | None) -> None:
        self.file, self.count, self.palette = file, count, palette
        self.delay = _Delays(fps, 1000)
        self.sequence = 0
        self.started = False

    def __call__(self, frame: Frame, ticks: int, **_: bool) -> None:
        height, width = frame.shape[:2]
        first = not self.started
        if first:
            self._start(width, height)
        milliseconds = self.delay(ticks)
        # A delay is a fraction of two numbers of 16 bits each.
        delay = (milliseconds, 1000) if milliseconds < 2**16 else (milliseconds // 10, 100)
        control = struct.pack(">IIIIHHBB", width, height, 0, 0, *delay, 0, 0)
        self.file.write(_chunk(b"fcTL", self._number() + control))
        data = zlib.compress(_filtered(frame), 6)
        # Readers that do not know APNG show the first frame as a still picture.
        part = _chunk(b"IDAT", data) if first else _chunk(b"fdAT", self._number() + data)
        self.file.write(part)

    def _start(self, width: int, height: int) -> None:
        colour_type = 2 if self.palette is None else 3
        self.file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
        self.file.write(_chunk(b"IHDR", header))
        self.file.write(_chunk(b"acTL", struct.pack(">II", self.count, 0)))
        if self.palette is not None:
            self.file.write(_chunk(b"PLTE", self.palette.tobytes()))
        self.started = True

    def _number(self) -> bytes:
        self.sequence += 1
        return struct.pack(">I", self.sequence - 1)


def _filtered(frame: Frame) -> bytes:
    """Rows as PNG stores them: the filter's number, then differences from the row above."""
    rows = frame.reshape(len(frame), -1)
    lines = np.full((len(rows), rows.shape[1] + 1), _PNG_UP, np.uint8)
    lines[:, 1:] = rows
    lines[1:, 1:] -= rows[:-1]
    return lines.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


@contextmanager
def _video(path: Path, fps: float, codec: str, palette: Palette | None) -> Iterator[Write]:
    """MP4 or WebM at a constant frame rate."""
    import imageio.v3 as iio

    with iio.imopen(path, "w", plugin="pyav") as file:
        stream: Any = file
        stream.init_video_stream(codec, fps=float(fps))

        def write(frame: Frame, ticks: int, **_: bool) -> None:
            colours = _even(frame if palette is None else palette[frame])
            for _tick in range(ticks):
                stream.write_frame(colours)

        yield write


def _even(frame: Frame) -> Frame:
    """Repeat the last row or column: video codecs share one colour among 2×2 pixels."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
