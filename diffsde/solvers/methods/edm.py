r"""EDM's stochastic Heun method.

Source: Karras et al., arXiv 2206.00364, algorithm 2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock
from diffsde.equations.dynamics import Process
from diffsde.solvers.methods.requirements import semilinear
from diffsde.solvers.option_values import zero_or_more
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import SolveState
from diffsde.system.host import on_host

__all__ = ["HeunEDM"]


class _Ends(NamedTuple):
    """Both ends of a step of EDM's: a(t) and s(t), the first at the raised noise level."""

    scale0: Tensor
    std0: Tensor
    scale1: Tensor
    std1: Tensor
    h: Tensor  # the step in σ
    scale: Tensor  # a(t) where the step begins, before its noise is raised
    raised: Tensor  # t at the raised noise level
    added: Tensor  # std of the noise that raises it


def _ends(
    process: Process, clock: Clock, churn: tuple[float, float, float, float], u0: Tensor, u1: Tensor
) -> _Ends:
    """The step from u₀ to u₁; churn is γ, S_min, S_max and S_noise."""
    gamma, low, high, noise = churn
    t, t1 = clock.time(u0), clock.time(u1)
    sigma, sigma1 = process.noise_level(t), process.noise_level(t1)
    t0, raised = t, sigma
    if gamma:
        top = process.noise_level(on_host(process.T, sigma.dtype))
        raised = torch.minimum((1 + gamma) * sigma, top)
        raised = torch.where((low <= sigma) & (sigma <= high), raised, sigma)
        t0 = process.time_of_noise_level(raised)
    return _Ends(
        *(process.marginal_scale(t0), process.marginal_std(t0)),
        *(process.marginal_scale(t1), process.marginal_std(t1)),
        h=sigma1 - raised,
        scale=process.marginal_scale(t),
        raised=t0,
        added=noise * (raised**2 - sigma**2).sqrt(),
    )


class HeunEDM:
    """EDM's stochastic Heun step: raise the noise a little (churn), then Heun in σ.

    With y = x / a the flow is dy/dσ = (y − D) / σ = −s ∇ log p (arXiv 2206.00364, equation 3).

    Options, in EDM's symbols: `S_churn` (0: none), `S_min`, `S_max` (the noise levels
    between which it acts), `S_noise`.
    """

    def __init__(self, state: SolveState) -> None:
        self.state, linear = state, semilinear(state, "heun_edm")
        self._score = linear.score
        options = {"S_churn": 0.0, "S_min": 0.0, "S_max": math.inf, "S_noise": 1.0, **state.options}
        self.low, self.high = options["S_min"], options["S_max"]
        self.gamma = min(options["S_churn"] / (state.planned or 1), math.sqrt(2) - 1)
        churn = (self.gamma, self.low, self.high, options["S_noise"])
        self._table = state.table(partial(_ends, linear.process, state.equation.clock, churn))
        self._churned = self._places_of_churn(linear.process, state)
        self._numbers = state.numbers("churn", ((u, 0) for u in sorted(self._churned)))

    def _places_of_churn(self, process: Process, state: SolveState) -> set[float]:
        """The nodes at which noise is added."""
        if not self.gamma:
            return set()
        sigma = process.noise_level(state.equation.clock.time(state.nodes))
        return set(state.nodes[(self.low <= sigma) & (sigma <= self.high)].tolist())

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, ends = self.state.equation, _Ends(*self._table(u0, u1))
        y, score = x / ends.scale, partial(equation.score, u0)
        if float(u0) in self._churned:
            y, score = (
                y + ends.added * self._numbers(u0),
                partial(self._score, t=ends.raised),
            )
        slope = -ends.std0 * score(ends.scale0 * y)
        slope1 = -ends.std1 * equation.score(u1, ends.scale1 * (y + ends.h * slope))
        return ends.scale1 * (y + 0.5 * ends.h * (slope + slope1))


register_own(
    "heun_edm",
    "ode",
    2,
    HeunEDM,
    evaluations=2,
    source="Karras et al., arXiv 2206.00364, algorithm 2",
    advice="clock='karras'; options S_churn, S_min, S_max, S_noise add EDM's noise.",
    multistep=True,
    options=dict.fromkeys(("S_churn", "S_min", "S_max", "S_noise"), zero_or_more),
    noisy=lambda options: bool(options.get("S_churn")),
)
