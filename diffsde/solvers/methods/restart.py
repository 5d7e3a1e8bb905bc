r"""Restart sampling: the flow, with steps forward into the noise and down again.

Heun's method in σ solves the flow (see `edm`). At the first node whose noise level σ₁ is at most
σ_min, the solve goes forward, as the process itself does, and down once more, K times:

    y  ←  y  +  √(σ_max² − σ₁²) z,        then N steps of Heun's from σ_max to σ₁.

The forward step contracts the errors made until then, and the flow adds few new ones. All of it
happens within the step that lands there, so the path holds the state after the last restart. The
k-th set of numbers z has an address of its own, at the time of that node.

Source: Xu et al., arXiv 2306.14878, algorithm 1; the defaults are those for CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.dynamics import Process
from diffsde.errors import InputError
from diffsde.solvers.equation import Equation
from diffsde.solvers.methods.edm import HeunEDM
from diffsde.solvers.methods.requirements import semilinear
from diffsde.solvers.option_values import positive, whole
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import SolveState
from diffsde.system.host import on_host

__all__: list[str] = []

_RESTARTS, _STEPS = 2, 3
_LOW, _RATIO = 0.06, 5.0
_RHO = 7.0  # of the levels in between, as in Karras's clock
_ROUNDING = 1e-9


class _Restart:
    """Heun's step, and the restarts where it lands at σ_min.

    Options: `restarts` (K, 2), `restart_steps` (N, 3), `sigma_min` (0.06, or the last level of
    the solve where that is higher) and `sigma_max` (five times `sigma_min`).
    """

    def __init__(self, state: SolveState) -> None:
        linear, options = semilinear(state, "restart"), state.options
        self.state, self._heun = state, HeunEDM(replace(state, options={}))
        self._count = options.get("restarts", _RESTARTS)
        steps = options.get("restart_steps", _STEPS)
        self._landing: tuple[float, float] | None = None
        low, high = _interval(linear.process, state.equation, options)
        clock = state.equation.clock
        levels = linear.process.noise_level(clock.time(state.nodes))
        below = (levels <= low * (1 + _ROUNDING)).nonzero().flatten().tolist()
        if not self._count or not below or below[0] == 0:
            return
        u0, u1 = state.nodes[below[0] - 1 : below[0] + 1]
        self._landing = float(u0), float(u1)
        self._numbers = state.numbers("churn", ((float(u1), k) for k in range(self._count)))
        shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device="cpu")
        first, last = (on_host(v).double() ** (1 / _RHO) for v in (high, levels[below[0]]))
        ladder = (first + shares * (last - first)) ** _RHO
        times = linear.process.time_of_noise_level(ladder)
        times[-1] = clock.time(u1)
        self._scores = linear.score.at(times.to(state.x))
        self._scales = linear.process.marginal_scale(times).to(state.x).unbind()
        self._stds = linear.process.marginal_std(times).to(state.x).unbind()
        self._steps = ladder.diff().to(state.x).unbind()
        self._added = (ladder[0] ** 2 - ladder[-1] ** 2).sqrt().to(state.x)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        x = self._heun.step(u0, u1, x)
        if (float(u0), float(u1)) != self._landing:
            return x
        y = x / self._scales[-1]
        for k in range(self._count):
            y = self._down(y + self._added * self._numbers(u1, k))
        return self._scales[-1] * y

    def _down(self, y: Tensor) -> Tensor:
        """Heun's steps from σ_max, for y = x / a."""
        for i, h in enumerate(self._steps):
            slope = self._slope(i, y)
            y = y + 0.5 * h * (slope + self._slope(i + 1, y + h * slope))
        return y

    def _slope(self, i: int, y: Tensor) -> Tensor:
        """dy/dσ at level i."""
        return -self._stds[i] * self._scores[i](self._scales[i] * y)


def _interval(
    process: Process, equation: Equation, options: Mapping[str, Any]
) -> tuple[float, float]:
    """σ_min and σ_max.

    Raises:
        InputError: the solve runs towards the noise, or does not pass them.
    """
    ends = on_host([equation.clock.start, equation.clock.end, process.T], torch.float64)
    start, end, top = process.noise_level(ends).tolist()
    if end >= start:
        raise InputError("restart runs from noise to data: give ts= in falling order")
    low = options.get("sigma_min", max(_LOW, end))
    high = options.get("sigma_max", min(_RATIO * low, top))
    if not (end <= low * (1 + _ROUNDING) and low < start and low < high <= top * (1 + _ROUNDING)):
        raise InputError(
            f"restart between the noise levels {low:g} and {high:g}, in a solve from {start:.4g} "
            f"to {end:.4g}: expected options sigma_min from {end:.4g} to {start:.4g}, and "
            f"sigma_max above it, at most {top:.4g}"
        )
    return low, high


register_own(
    "restart",
    "ode",
    2,
    _Restart,
    evaluations=None,
    source="Xu et al., arXiv 2306.14878",
    advice="heun_edm, which goes into the noise again and down, K times: 2 evaluations a step, and "
    "2 K N more; options restarts (K, 2), restart_steps (N, 3), sigma_min, sigma_max.",
    multistep=True,
    options={
        "restarts": whole(0),
        "restart_steps": whole(),
        "sigma_min": positive,
        "sigma_max": positive,
    },
    noisy=lambda options: options.get("restarts", _RESTARTS) > 0,
)
