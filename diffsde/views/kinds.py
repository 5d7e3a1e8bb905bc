r"""What states are: images, points in the plane, or signals.

A sample of shape (C, H, W) with one or three channels is an image, one of shape (2,) a point in
the plane, and one of shape (C, L) a signal of C channels at L positions. Points of any other
number of coordinates, (D,), are looked at as signals of one channel. States may be flat, (B, N);
the trajectory then says the shape of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory

__all__ = [
    "IMAGES",
    "PLANE",
    "SIGNALS",
    "as_images",
    "as_signals",
    "common_kind",
    "is_plane",
    "kind_of",
    "kind_of_shape",
    "sample_shape",
]

IMAGES, PLANE, SIGNALS = "images", "points in the plane", "signals"

_CHANNELS = (1, 3)
_OTHERS = (
    "plot_signals shows signals (B, C, L) and points (B, D), plot_plane points (B, 2), and "
    "plot_paths any states"
)


def sample_shape(sol: Trajectory) -> tuple[int, ...]:
    """The shape of one sample: the trajectory's where states are flat, or else their own."""
    own = tuple(sol.ys.shape[2:])
    flat = len(own) == 1 and len(sol.shape) > 0 and math.prod(sol.shape) == own[0]
    return tuple(sol.shape) if flat else own


def kind_of(sol: Trajectory) -> str | None:
    """What its states are; None if they are none of these or there are none at all."""
    return kind_of_shape(sample_shape(sol)) if sol.ys.numel() else None


def kind_of_shape(shape: Sequence[int]) -> str | None:
    """What samples of this shape are; None if they are none of these."""
    if len(shape) == 3:
        return IMAGES if shape[0] in _CHANNELS else None
    if len(shape) not in (1, 2):
        return None
    return PLANE if tuple(shape) == (2,) else SIGNALS


def is_plane(sol: Trajectory) -> bool:
    """Whether its states are points in the plane, (B, 2)."""
    return sol.ys.dim() == 3 and sample_shape(sol) == (2,)


def common_kind(sols: Sequence[Trajectory]) -> str:
    """What the states of all of them are.

    Raises:
        InputError: they are different things, or nothing that can be shown.
    """
    kinds = {kind_of(sol) for sol in sols}
    shapes = " and ".join(dict.fromkeys(str(tuple(sol.ys.shape[1:])) for sol in sols))
    if None in kinds:
        raise InputError(
            f"states of shape {shapes}: expected images (B, C, H, W) with C = 1 or 3, signals "
            "(B, C, L), points (B, D), or flat states of a problem that was given such a shape=. "
            "For latents, give decode=; plot_paths shows any states"
        )
    if len(kinds) > 1:
        raise InputError(
            f"states of shapes {shapes}: expected only images, only points in the plane (B, 2), "
            "or only signals; show them one after the other"
        )
    return str(kinds.pop())


def as_images(states: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """States (B, …) as images (B, C, H, W), not clamped; flat ones are given `shape`.

    Raises:
        InputError: the states are not images with one or three channels, or there are none.
    """
    if states.dim() == 2 and len(shape) == 3:
        states = states.reshape(-1, *shape)
    if states.dim() != 4 or states.shape[1] not in _CHANNELS:
        raise InputError(
            f"states of shape {tuple(states.shape)} are not images: expected (B, C, H, W) "
            "with C = 1 or 3, or flat states of a problem that was given shape=(C, H, W). "
            f"{_OTHERS}"
        )
    if not states.numel():
        raise InputError(f"states of shape {tuple(states.shape)}: expected at least one image")
    return _array(states)


def as_signals(states: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """States (B, …) as signals (B, C, L); flat ones are given `shape`, points have one channel.

    Raises:
        InputError: the states are neither signals nor points.
    """
    if states.dim() == 2 and len(shape) != 3:
        channels = shape[0] if len(shape) == 2 else 1
        states = states.reshape(len(states), channels, -1)
    if states.dim() != 3:
        raise InputError(
            f"states of shape {tuple(states.shape)} are not signals: expected (B, C, L) or "
            "points (B, D). plot_images shows images, and plot_paths any states"
        )
    return _array(states)


def _array(states: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = states.detach().float().cpu().numpy()
    return array
