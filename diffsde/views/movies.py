r"""Files of moving pictures, written frame by frame.

A writer takes a frame and how many ticks it stays, a tick being 1 / fps seconds, and
forgets the frame: memory does not grow with the length. A frame is (H, W) indices into one
palette of the whole film, or (H, W, 3) colours.

GIF and animated PNG are written here, around Pillow's LZW and Python's zlib, because
Pillow's own writers keep every frame until the end and give each its palette. Sources: the
GIF89a specification, and https://www.w3.org/TR/png-3/ for APNG. MP4 and WebM go through
imageio and PyAV, the extra `video`.
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
from PIL import Image

from diffsde.errors import InputError, name_list
from diffsde.system.files import written_whole

__all__ = ["SUFFIXES", "Frame", "Write", "check_movie", "open_movie"]

Frame = NDArray[np.uint8]
Palette = NDArray[np.uint8]


class Write(Protocol):
    """Append a frame that stays for a number of ticks; `exact` if it will be looked at.

    Formats that are exact always do not ask.
    """

    def __call__(self, frame: Frame, ticks: int, *, exact: bool) -> None: ...


_CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
SUFFIXES = (".gif", ".png", ".apng", *_CODECS)

_GIF_FPS = 50.0  # players slow down what asks for more
_LONGEST = 65535  # a delay is 16 bits wide
_LZW_BITS = 8
_MOST_COLOURS = 255  # and one index for no colour
_LAG = 2  # shades by which a pixel of a GIF may differ from its state before it is drawn anew
_PNG_UP = 2  # the filter that subtracts the row above: magnified rows repeat, so they vanish


def check_movie(path: Path, fps: float) -> None:
    """Refuse what `open_movie` cannot write.

    Raises:
        InputError: an unknown suffix, a speed that the format cannot play, or no PyAV.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: no animation format. {name_list(path.suffix.lower(), SUFFIXES)}")
    if not 0 < fps < 1000:
        raise InputError(f"fps = {fps}: expected frames per second between 0 and 1000")
    if path.suffix.lower() == ".gif" and fps > _GIF_FPS:
        raise InputError(
            f"fps = {fps}: GIF players show at most 50 frames a second. Lower fps, skip frames "
            "with speed=, or write .png, .mp4 or .webm"
        )
    if path.suffix.lower() in _CODECS:
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"{path}: writing {path.suffix} needs PyAV: pip install 'diffsde[video]'; "
                ".gif and .png need nothing more"
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
    """Give a function that appends frames to `path`, which appears once all are written.

    Args:
        path: its suffix, one of `SUFFIXES`, chooses the format.
        fps: ticks per second.
        count: how many frames will be written.
        palette: (N, 3) colours, N < 256, that frames of indices index; None for frames of
            colours.
        shades: how many of the palette's first colours are a scale, on which neighbours look
            alike.
        samples: gives some frames of colours, for a GIF to choose its one palette from.
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

    A frame holds only the pixels that changed, the others are transparent. On the scale of
    shades a change of up to `_LAG` shades waits, unless the frame is to be exact: noise
    that moves a little at every step makes up most of a file, and nobody sees it.
    """

    def __init__(self, file: BinaryIO, fps: float, palette: Palette, shades: int) -> None:
        self.file, self.fps, self.palette, self.shades = file, fps, palette, shades
        self.ticks = self.written = 0  # so far, in ticks and in hundredths of a second
        self.shown: Frame | None = None

    def __call__(self, frame: Frame, ticks: int, *, exact: bool) -> None:
        height, width = frame.shape
        clear = len(self.palette)  # the index that stands for no colour
        delay = self._delay(ticks)
        pixels = self._changes(frame, exact)
        # "1 << 2": the next frame is drawn over this one; "| 1": with transparent pixels.
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1 << 2 | 1, delay, clear, 0)
        corner = struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, _LZW_BITS)
        # "gif" is Pillow's LZW encoder: mode, bits a pixel, not interlaced.
        data = Image.fromarray(pixels).tobytes("gif", "L", _LZW_BITS, 0)
        self.file.write(control + corner + data + b"\0")

    def _changes(self, frame: Frame, exact: bool) -> Frame:
        """The frame where it differs from what is shown, and the clear index elsewhere."""
        if self.shown is None:
            self._start(*frame.shape)
            self.shown = frame.copy()
            return frame
        difference = frame - self.shown  # of bytes, so it wraps around: −1 is 255
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
        self.file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # play for ever

    def _delay(self, ticks: int) -> int:
        """Hundredths of a second, rounded so that errors do not add up."""
        self.ticks += ticks
        delay = round(100 * self.ticks / self.fps) - self.written
        self.written += delay
        return min(delay, _LONGEST)


def _quantised(file: BinaryIO, fps: float, samples: list[Frame]) -> Write:
    """A GIF writer for frames of colours: one palette, chosen from some of them."""
    sheet = np.concatenate([s.reshape(-1, 3) for s in samples])[None]
    chosen = Image.fromarray(sheet).quantize(_MOST_COLOURS).getpalette() or [0, 0, 0]
    palette = np.array(chosen, np.uint8).reshape(-1, 3)[:_MOST_COLOURS]
    nearest = _nearest(palette)
    gif = _Gif(file, fps, palette, shades=0)

    def write(frame: Frame, ticks: int, *, exact: bool) -> None:
        red, green, blue = np.moveaxis(frame >> 3, -1, 0).astype(np.uint16)
        gif(nearest[(red << 10) | (green << 5) | blue], ticks, exact=exact)

    return write


def _nearest(palette: Palette) -> Frame:
    """The palette's nearest colour to every colour of five bits a channel: (32768,)."""
    levels = np.arange(32, dtype=np.float32) * 8 + 4
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    colours = palette.astype(np.float32)
    # ‖c − p‖² without ‖c‖², which is the same for every p.
    return np.asarray(((colours**2).sum(1) - 2 * cube @ colours.T).argmin(1), dtype=np.uint8)


class _Apng:
    """An animated PNG of indices or of colours."""

    def __init__(self, file: BinaryIO, fps: float, count: int, palette: Palette | None) -> None:
        self.file, self.fps, self.count, self.palette = file, fps, count, palette
        self.sequence = 0
        self.started = False

    def __call__(self, frame: Frame, ticks: int, **_: bool) -> None:
        height, width = frame.shape[:2]
        first = not self.started
        if first:
            self._start(width, height)
        milliseconds = min(round(1000 * ticks / self.fps), _LONGEST)
        control = struct.pack(">IIIIHHBB", width, height, 0, 0, milliseconds, 1000, 0, 0)
        self.file.write(_chunk(b"fcTL", self._number() + control))
        data = zlib.compress(_filtered(frame), 6)
        # The first frame is the still picture that other PNG readers show.
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
    """Rows as PNG stores them: a filter's number, then differences from the row above."""
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
    """MP4 or WebM, at a constant number of frames a second."""
    import imageio.v3 as iio

    with iio.imopen(path, "w", plugin="pyav") as file:
        stream: Any = file
        stream.init_video_stream(codec, fps=fps)

        def write(frame: Frame, ticks: int, **_: bool) -> None:
            colours = _even(frame if palette is None else palette[frame])
            for _tick in range(ticks):
                stream.write_frame(colours)

        yield write


def _even(frame: Frame) -> Frame:
    """Video codecs share a colour among 2×2 pixels: repeat the last row or column."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
