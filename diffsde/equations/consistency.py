r"""Whether the drift, the diffusion and the marginal of a forward SDE belong to one process.

Between ε and T, the derivatives of the marginal x(t) = a x(0) + s z are compared with f and
g. With the noise level σ = s / a,

    f(x, t) = (a′/a) x,        dσ²/dt = g² / a².
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.system.host import on_host

if TYPE_CHECKING:
    from diffsde.equations.forward import SDE

__all__ = ["check_consistency"]

_TIMES, _STEP, _TOLERANCE = 33, 3e-6, 1e-3
_HIGH = 1e3  # the noise level up to which a process is checked whose noise level has no end


def check_consistency(sde: SDE) -> None:
    """Compare the derivatives of the marginal with the drift and the diffusion.

    Raises:
        InputError: they differ; the error names the function, the time and both numbers.
    """
    last = float(sde.time_of_noise_level(on_host(_HIGH).double())) if sde.endless else sde.T
    even = torch.linspace(sde.eps, last, _TIMES, dtype=torch.float64, device="cpu")
    low = torch.logspace(math.log10(sde.eps), math.log10(last), _TIMES, device="cpu").double()
    t = torch.cat([even, low]) * (1 - 2 * _STEP)  # so that t + h stays within T
    before, after = t * (1 - _STEP), t * (1 + _STEP)  # for the finite differences
    log_scale = [sde.marginal_scale(moment).log() for moment in (before, after)]
    variance = [sde.noise_level(moment).square() for moment in (before, after)]
    growth = (sde.diffusion(t) / sde.marginal_scale(t)).square()
    ones = torch.ones(len(t), 1, dtype=torch.float64, device="cpu")
    pairs = {
        "drift(x, t) / x, a′/a": (sde.drift(ones, t)[:, 0], log_scale),
        "diffusion(t)² / a(t)², dσ²/dt": (growth, variance),
    }
    for name, (found, (first, second)) in pairs.items():
        _compare(name, t, found, (second - first) / (after - before))


def _compare(name: str, t: Tensor, found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().clamp(min=1e-6 * float(expected.abs().max()) + 1e-12)
    error = (found - expected).abs() / scale
    worst = int(error.nan_to_num(nan=math.inf).argmax())
    if not float(error[worst]) < _TOLERANCE:
        raise InputError(
            f"at t = {float(t[worst]):.4g}, {name}: {float(found[worst]):.6g} and "
            f"{float(expected[worst]):.6g}, expected two equal numbers: marginal_prob does not "
            "belong to this drift and this diffusion"
        )
