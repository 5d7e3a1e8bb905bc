r"""Adams–Bashforth methods for the noise: iPNDM and DEIS.

With y = x / a and the noise ε = −s ∇ log p_t(x), the flow is dy/dσ = ε. A step extends the
polynomial through the last values of ε and integrates it:

    y₁  =  y₀  +  Σ_j w_j ε_j,        newest first.

- `ipndm` takes the weights of even steps, (σ₁ − σ₀) times (3, −1)/2, (23, −16, 5)/12 or
  (55, −59, 37, −9)/24, however the steps lie. They are not exact where steps shrink, as they do
  in Karras's clock; so the method is of order 2, and it is hard to beat at few steps.
- `deis` takes the polynomial in t, and integrates it over σ(t) by Gauss's rule.

The first steps know fewer values, and the last one takes no more than `last_order`.

Source: Zhang, Chen, arXiv 2204.13902, section 3.3 and appendix (tAB-DEIS, iPNDM).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock
from diffsde.equations.dynamics import Process
from diffsde.solvers.methods.integrals import gauss
from diffsde.solvers.methods.requirements import semilinear
from diffsde.solvers.option_values import whole
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import FixedStep, SolveState
from diffsde.system.host import on_host

__all__: list[str] = []

_EVEN = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
_MOST = 4  # values of ε
_POINTS, _SHARES = gauss(16)

# The weights of so many values for each step, (n, values), given t and σ at its nodes, newest
# first, (n, values), and at its end, (n,).
_Rule = Callable[[Process, Tensor, Tensor], Tensor]


class _Adams:
    """The step of either method."""

    def __init__(self, state: SolveState, rule: _Rule, name: str) -> None:
        self.state, linear = state, semilinear(state, name)
        most = state.options.get("max_order", _MOST)
        last = min(most, state.options.get("last_order", most))
        self._past: deque[Tensor] = deque(maxlen=most)
        self._rows = _table(rule, linear.process, state.equation.clock, state, most, last)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        std, keep, *weights = self._rows[float(u0)]
        self._past.appendleft(-std * self.state.equation.score(u0, x))
        end = keep * x
        for weight, noise in zip(weights, self._past, strict=False):
            end = end.addcmul_(weight, noise)
        return end


def _table(
    rule: _Rule, process: Process, clock: Clock, state: SolveState, most: int, last: int
) -> dict[float, list[Tensor]]:
    """For the step from each node: s(t₀), a(t₁) / a(t₀), and a(t₁) times the weights."""
    t = clock.time(state.nodes)
    scale, steps = process.marginal_scale(t), len(t) - 1
    columns = torch.zeros(steps, 2 + most, dtype=torch.float64, device="cpu")
    columns[:, 0] = process.marginal_std(t[:-1])
    columns[:, 1] = scale[1:] / scale[:-1]
    orders = torch.arange(1, steps + 1, device="cpu").clamp(max=most)  # step i has i + 1 values
    orders[-1] = orders[-1].clamp(max=last)
    for values in orders.unique().tolist():
        which = (orders == values).nonzero()[:, 0]
        nodes = t[which[:, None] - torch.arange(values, device="cpu")]
        weights = rule(process, nodes, t[which + 1])
        columns[which, 2 : 2 + values] = scale[which + 1, None] * weights
    rows = columns.to(state.x).unbind()
    return {u: list(row.unbind()) for u, row in zip(state.nodes.tolist(), rows, strict=False)}


def _even_weights(process: Process, nodes: Tensor, end: Tensor) -> Tensor:
    change = process.noise_level(end) - process.noise_level(nodes[:, 0])
    return change[:, None] * on_host(_EVEN[nodes.shape[1]], torch.float64)


def _polynomial_weights(process: Process, nodes: Tensor, end: Tensor) -> Tensor:
    """∫ L_j(t) dσ over the step, for Lagrange's polynomials L_j of the nodes."""
    length = (end - nodes[:, 0])[:, None]
    places = nodes[:, :1] + length * _POINTS
    rates = length * _SHARES * process.noise_level_slope(places.flatten()).view_as(places)
    return torch.stack(
        [(rates * _lagrange(nodes, j, places)).sum(1) for j in range(nodes.shape[1])], 1
    )


def _lagrange(nodes: Tensor, j: int, places: Tensor) -> Tensor:
    """L_j, which is 1 at node j and 0 at the others, at places (n, m)."""
    value = torch.ones_like(places)
    for k in range(nodes.shape[1]):
        if k != j:
            value = value * (places - nodes[:, k, None]) / (nodes[:, j] - nodes[:, k])[:, None]
    return value


def _step(name: str, rule: _Rule) -> FixedStep:
    return lambda state: _Adams(state, rule, name)


def _row(name: str, rule: _Rule, advice: str) -> None:
    register_own(
        name, "ode", 2, _step(name, rule),
        evaluations=1, source="Zhang, Chen, arXiv 2204.13902", advice=advice,
        multistep=True, options=dict.fromkeys(("max_order", "last_order"), whole(1, _MOST)),
    )  # fmt: skip


_row(
    "ipndm", _even_weights,
    "For 4 to 8 evaluations, clock='karras', option last_order=1; option max_order (4).",
)  # fmt: skip
_row("deis", _polynomial_weights, "Of order 4 but for its first steps; option max_order (4).")
