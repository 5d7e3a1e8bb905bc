r"""Bridges: what the numbers of a tree count in a Brownian path and in its integral.

A cell is an interval of length 1, over which the path is W(ρ) with W(0) = 0. Its own numbers z₁,
z₂ give the increment z₁ and the space-time area H = z₂ / √12, and given these the path is on
average

    W(ρ)  =  ρ W(1) + 6 ρ (1 − ρ) H,        ∫₀ρ W  =  ½ ρ² W(1) + (3ρ² − 2ρ³) H.

A part of length h is halved by two numbers more. x moves its middle by √h/4 and takes half as much
from the area of both halves; y gives them areas of ±√(h/48). Neither changes the increment or the
area of the whole part, so they count nothing outside it. The path at a time is therefore a sum
over the parts around that time, from the cell down, and what each number counts in it is known
from the place of the time in the part. In the shortest parts, which are not halved, the path is
a bridge through that time.

Source: Foster, Lyons, Oberhauser, arXiv 2002.04025 (the bridge of W and H).
"""

from __future__ import annotations

import math

import numpy
from numpy.typing import NDArray

__all__ = ["bridge_weights"]

Floats = NDArray[numpy.float64]


def bridge_weights(rho: Floats, depth: int) -> Floats:
    """What each number counts in W(ρ) and in ∫₀ρ W.

    Args:
        rho: (n,) times from 0 to 1, within their cells.
        depth: how often a cell is halved.

    Returns:
        (n, 2, 2 (1 + m)): for W and for its integral, first the two numbers of the cell, then
        those of the m parts around ρ that are not on one of its ends for every ρ; m ≤ depth + 1.
    """
    places = rho[:, None] * 2.0 ** numpy.arange(depth + 1)
    places -= numpy.floor(places)
    inside = int((places > 0).any(0).sum())  # what is on an end stays on one in shorter parts
    halved = min(inside, depth)
    lengths = numpy.exp2(-numpy.arange(halved, dtype=numpy.float64))
    weights = [_of_cell(rho[:, None]), _of_halving(places[:, :halved], lengths)]
    if inside > depth:
        weights.append(_of_bridge(places[:, depth:], 2.0**-depth))
    return numpy.concatenate(weights, 2).reshape(len(rho), 2, -1)


def _of_cell(r: Floats) -> Floats:
    """What the two numbers of the cell count at r, (n, 1): (n, 2, 1, 2)."""
    root = math.sqrt(12)
    return _stacked(
        (r, 6 * r * (1 - r) / root),
        (0.5 * r**2, r**2 * (3 - 2 * r) / root),
    )


def _of_halving(r: Floats, h: Floats) -> Floats:
    """What x and y count at r, (n, m), in parts of length h, (m,): (n, 2, m, 2)."""
    right = r >= 0.5
    q = 2 * r - right  # the place in its half
    lean, tilt = numpy.sqrt(h / 16), numpy.sqrt(h / 48)
    curve = q * (1 - q)
    side = numpy.where(right, -1, 1)
    of_w = lean * (numpy.where(right, 1 - q, q) - 3 * curve), tilt * side * 6 * curve
    rise = q**2 * (3 - 2 * q)
    of_integral = (
        lean * numpy.where(right, 1 - q, -q) * curve,
        tilt * numpy.where(right, 1 - rise, rise),
    )
    return _stacked(of_w, tuple(0.5 * h * one for one in of_integral))


def _of_bridge(r: Floats, h: float) -> Floats:
    """What x and y count at r, (n, 1), in a part of length h that is not halved: (n, 2, 1, 2)."""
    h1, h2 = h * r, h * (1 - r)
    d = numpy.sqrt(h1**3 + h2**3)
    a = h1**3.5 * h2**0.5 / (2 * h * d)
    b = h1**0.5 * h2**3.5 / (2 * h * d)
    c = math.sqrt(3) * (h1 * h2) ** 1.5 / (6 * d)
    return _stacked((2 * (a + b) / h, 0 * r), (h1 * (a + b) / h - a, c))


def _stacked(of_w: tuple[Floats, ...], of_integral: tuple[Floats, ...]) -> Floats:
    return numpy.stack([numpy.stack(of_w, -1), numpy.stack(of_integral, -1)], 1)
