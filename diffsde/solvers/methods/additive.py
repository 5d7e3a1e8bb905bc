r"""Stochastic Runge–Kutta methods for additive noise.

Source: Rackauckas, Nie, arXiv 1804.04344.
"""

from __future__ import annotations

from torch import Tensor

from diffsde.solvers.methods.requirements import additive
from diffsde.solvers.registry import Solver, register
from diffsde.solvers.state import SolveState

__all__: list[str] = []


class _SOSRA:
    """Stability-optimised stochastic Runge–Kutta method for additive noise.

    Three stages, strong order 1.5, with the coefficients of arXiv 1804.04344 (SOSRA).
    """

    alpha = (0.2889874966892885, 0.6859880440839937, 0.025024459226717772)
    c0 = (0.0, 0.6923962376159507, 1.0)
    c1 = (0.0, 0.041248171110700504, 1.0)
    beta1 = (-16.792534242221663, 17.514995785380226, 0.27753845684143835)
    beta2 = (0.4237535769069274, 0.6010381474428539, -1.0247917243497813)
    a0 = ((), (0.6923962376159507,), (-3.1609142252828395, 4.1609142252828395))
    b0 = ((), (1.3371632704399763,), (1.442371048468624, 1.8632741501139225))

    def __init__(self, state: SolveState) -> None:
        self.state = additive(state, "sosra")

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, h = self.state.equation, u1 - u0
        w, integral = self.state.increment_and_integral(u0, u1)
        v = integral / h
        places = [u0 + c * h for c in self.c1]
        pulls = [equation.g_prod(place, x, v) for place in places]
        slopes: list[Tensor] = []
        for c, a_row, b_row in zip(self.c0, self.a0, self.b0, strict=True):
            stage = x
            for a, b, slope, pull in zip(a_row, b_row, slopes, pulls, strict=False):
                stage = stage + a * h * slope + b * pull
            slopes.append(equation.f(u0 + c * h if c else u0, stage))
        end = x
        for a, b1, b2, slope, place in zip(
            self.alpha, self.beta1, self.beta2, slopes, places, strict=True
        ):
            end = end + a * h * slope + equation.g_prod(place, x, b1 * w + b2 * v)
        return end


register(
    Solver(
        name="sosra",
        kind="sde",
        family="diffsde",
        order=1.5,
        adaptive=False,
        evaluations=3,
        source="Rackauckas, Nie, arXiv 1804.04344",
        advice="Stable strong order 1.5; adaptive=True for a tolerance.",
        one_step=_SOSRA,
    )
)
