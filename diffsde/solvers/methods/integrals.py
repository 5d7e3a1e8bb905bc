r"""The integrals that exponential steps are made of, and the rule for those without a formula.

Over a step z in which the state decays as e^{−z}, a function counts

    gain(z)        =  ∫₀ᶻ e^{−(z−r)} dr            =  1 − e^{−z}              if it is constant,
    slope_gain(z)  =  ∫₀ᶻ e^{−(z−r)} (r / z) dr     =  1 − gain(z) / z         for its slope,

which is z φ₁(−z) and z φ₂(−z) in the usual notation (Hochbruck, Ostermann, Acta Numerica 19,
2010, section 2). Where the state grows instead, z is negative.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["gain", "gauss", "slope_gain"]


def gain(z: Tensor) -> Tensor:
    """What a constant counts over a step z."""
    return -torch.expm1(-z)


def slope_gain(z: Tensor) -> Tensor:
    """What a slope counts over a step z, in units of the step."""
    return 1 - gain(z) / z


def gauss(points: int) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's nodes and weights on [0, 1], float64."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(points))
    return 0.5 * (1 + nodes), 0.5 * weights
