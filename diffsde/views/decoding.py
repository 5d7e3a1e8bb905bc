r"""Decoded trajectories: a path in the latent space of an autoencoder, as a path of images.

A decoded trajectory is one of images in [0, 1] that every view takes as it is. Images are far
larger than latents, so they are decoded a few at a time and go to a temporary file, from which a
view reads the frames that it shows; memory does not grow with the path. What the noise looks like
in images, nobody knows: s(t) belongs to the latents, so it is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from diffsde.equations.ranges import UNIT, checked_range, to_unit
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.numbers import whole_number
from diffsde.views.display import title_of, trajectories

__all__ = ["Decode", "decoded", "decoded_all", "image_shape"]

Decode = Callable[[Tensor], Tensor]
"""From latents (n, *shape) to images (n, C, H, W), in its `data_range`, or in [0, 1]."""


def decoded(
    sol: Trajectory, decode: Decode, *, frames: Sequence[int] | None = None, chunk: int = 16
) -> Trajectory:
    """A trajectory of latents as one of images, frame by frame.

        images = decoded(sol, model.decoder)
        animate(images, "film.gif")           # the same as animate(sol, …, decode=model.decoder)

    Args:
        sol: the path of latents; its denoised estimates are decoded, too.
        decode: called with latents (n, *shape), returns images (n, C, H, W), C = 1 or 3. Their
            black and white are its attribute `data_range`, or 0 and 1 if it has none. A pipeline
            brings its own, `model.decoder`.
        frames: the saved states to decode, by number; all if left out.
        chunk: how many images are decoded at once.

    Returns:
        The images, float16 in [0, 1] in a temporary file that goes with the trajectory. They keep
        their times and what they cost.

    Raises:
        InputError: decode cannot be called, or what it returns is not images; or there is no room
            for them on the disk.
    """
    if not callable(decode):
        raise InputError(f"decode = {decode!r:.80}: expected a function from latents to images")
    chunk = whole_number(chunk, "chunk")
    kept = list(range(len(sol))) if frames is None else [range(len(sol))[k] for k in frames]
    ys = _on_disk(sol, sol.ys, kept, decode, chunk)
    guesses = None if sol.denoised is None else _on_disk(sol, sol.denoised, kept, decode, chunk)
    return replace(
        sol,
        ts=sol.ts[kept],
        ys=ys,
        denoised=guesses,
        evaluations=None if sol.evaluations is None else sol.evaluations[kept],
        shape=tuple(ys.shape[2:]),
        data_range=UNIT,
        diffusion=None,
        std=None,
        method=title_of(sol),
        kind=None,
        _dense=None,
        _resume=None,
    )


def decoded_all(sol: Trajectory | Sequence[Trajectory], decode: Decode | None) -> list[Trajectory]:
    """One trajectory or several as a list, decoded if there is something to decode them with."""
    sols = trajectories(sol)
    return sols if decode is None else [decoded(one, decode) for one in sols]


def _on_disk(
    sol: Trajectory, states: Tensor, kept: list[int], decode: Decode, chunk: int
) -> Tensor:
    """The images of the frames that are kept, (T, B, C, H, W), mapped from a temporary file."""
    with ExitStack() as stack:
        file = stack.enter_context(TemporaryFile())
        shape: tuple[int, ...] = ()
        for k in kept:
            for images in _images(states[k].reshape(-1, *sol.shape), decode, chunk):
                shape = images.shape[1:]
                _write(file, images)
        # Copy on write: the numbers on the disk cannot be changed through the tensor.
        array = np.memmap(file, np.float16, "c", shape=(len(kept), states.shape[1], *shape))
    return torch.from_numpy(array)


def _write(file: IO[bytes], images: Tensor) -> None:
    try:
        file.write(images.numpy().tobytes())
        file.flush()
    except OSError as error:
        raise InputError(
            f"no room for decoded images in {gettempdir()} ({os.strerror(error.errno or 0)}): "
            "solve with fewer states, save=50, or let the environment variable TMPDIR name a "
            "folder with more room"
        ) from error


@torch.no_grad()
def _images(latents: Tensor, decode: Decode, chunk: int) -> Iterator[Tensor]:
    """The images of one frame, a chunk at a time, float16 in [0, 1]."""
    data_range = checked_range(getattr(decode, "data_range", UNIT))
    for part in latents.detach().split(chunk):
        images = decode(_where(decode, part))
        if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise InputError(
                f"decode returned {_size(images)} for latents {tuple(part.shape)}: expected images "
                "(n, C, H, W) with C = 1 or 3"
            )
        unit = to_unit(images.float(), data_range).clamp(0, 1)
        yield unit.nan_to_num().to("cpu", torch.float16)


def image_shape(shape: Sequence[int], decode: Decode | None) -> tuple[int, ...]:
    """(C, H, W) of what is decoded from states of this shape; the shape itself without `decode`."""
    if decode is None:
        return tuple(shape)
    with torch.no_grad():
        return tuple(decode(_where(decode, torch.zeros(1, *shape))).shape[1:])


def _where(decode: Decode, latents: Tensor) -> Tensor:
    """The latents where the decoder is, in its dtype, if it is a module."""
    weights = decode.parameters() if isinstance(decode, nn.Module) else iter(())
    weight = next(weights, None)
    return latents if weight is None else latents.to(weight)


def _size(images: Any) -> str:
    return str(tuple(images.shape)) if isinstance(images, Tensor) else type(images).__name__
