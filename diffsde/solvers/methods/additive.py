r"""Stochastic Runge–Kutta methods for additive noise, each a tableau.

Over a step of length h, with the Brownian increment W and v = (1/h) ∫ W ds, stage i is

    X_i  =  x₀  +  h Σ_j a_ij f(t₀ + c_j h, X_j)  +  Σ_j g(t₀ + d_j h) ( q_ij W + b_ij v ),

and the step ends at

    x₁   =  x₀  +  h Σ_i α_i f(t₀ + c_i h, X_i)  +  Σ_j g(t₀ + d_j h) ( β_j W + γ_j v ).

g is cheap, since it depends on time alone; each stage costs one evaluation of the drift.

Sources: Rößler, SIAM J. Numer. Anal. 48 (2010), 922–952 (SRA3); Rackauckas, Nie, arXiv
1804.04344 (SOSRA, SOSRA2); Foster, dos Reis, Strange, arXiv 2210.17543, equations 5.8 and 6.1
(SEA, ShARK), whose noise is written here for a g that depends on time: ∫ g dW is exact for a
linear one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffsde.solvers.coefficients import beside
from diffsde.solvers.methods.requirements import additive
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import FixedStep, SolveState

__all__: list[str] = []

Row = tuple[float, ...]


@dataclass(frozen=True)
class _Tableau:
    """The numbers of a method, in the symbols of the module."""

    c: Row
    a: tuple[Row, ...]
    d: Row
    b: tuple[Row, ...]
    q: tuple[Row, ...]
    alpha: Row
    beta: Row
    gamma: Row


class _Additive:
    """The step of a tableau."""

    def __init__(self, state: SolveState, tableau: _Tableau, name: str) -> None:
        self.state, self.tableau = additive(state, name), tableau

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, tab, length = self.state.equation, self.tableau, u1 - u0
        w, integral = self.state.increment_and_integral(u0, u1)
        h = beside(length, x)
        v = integral / h
        places = [u0 + d * length for d in tab.d]

        def with_noise(state: Tensor, of_w: Row, of_v: Row) -> Tensor:
            for place, p, q in zip(places, of_w, of_v, strict=False):
                if p or q:
                    state = state + equation.g_prod(place, x, p * w + q * v)
            return state

        slopes: list[Tensor] = []
        for c, a_row, q_row, b_row in zip(tab.c, tab.a, tab.q, tab.b, strict=True):
            stage = with_noise(x, q_row, b_row)
            for a, slope in zip(a_row, slopes, strict=True):
                stage = stage + a * h * slope
            # The first stage of ShARK is at u₀, but not at x.
            drift = equation.f if stage is x else equation.drift
            slopes.append(drift(u0 + c * length if c else u0, stage))
        end = with_noise(x, tab.beta, tab.gamma)
        for alpha, slope in zip(tab.alpha, slopes, strict=True):
            end = end + alpha * h * slope
        return end


def _of_integral(*rows: Row) -> dict[str, tuple[Row, ...]]:
    """Stages whose noise is a multiple of v alone, as Rößler's are."""
    return {"b": rows, "q": tuple((0.0,) * len(row) for row in rows)}


_SRA3 = _Tableau(
    c=(0.0, 1.0, 0.5),
    a=((), (1.0,), (0.25, 0.25)),
    d=(1.0, 0.0),
    **_of_integral((), (), (1.0, 0.5)),
    alpha=(1 / 6, 1 / 6, 2 / 3),
    beta=(1.0, 0.0),
    gamma=(-1.0, 1.0),
)
_SOSRA = _Tableau(
    c=(0.0, 0.6923962376159507, 1.0),
    a=((), (0.6923962376159507,), (-3.1609142252828395, 4.1609142252828395)),
    d=(0.0, 0.041248171110700504, 1.0),
    **_of_integral((), (1.3371632704399763,), (1.442371048468624, 1.8632741501139225)),
    alpha=(0.2889874966892885, 0.6859880440839937, 0.025024459226717772),
    beta=(-16.792534242221663, 17.514995785380226, 0.27753845684143835),
    gamma=(0.4237535769069274, 0.6010381474428539, -1.0247917243497813),
)
_SOSRA2 = _Tableau(
    c=(0.0, 1.0, 1.0),
    a=((), (1.0,), (0.9511849235504364, 0.04881507644956362)),
    d=(0.0, 1.0),
    **_of_integral((), (0.7686101171003622,), (0.43886792994934987, 0.7490415909204886)),
    alpha=(0.4999999999999998, -0.9683897375354181, 1.4683897375354185),
    beta=(0.0, 1.0),
    gamma=(1.0, -1.0),
)
_SHARK = _Tableau(
    c=(0.0, 5 / 6),
    a=((), (5 / 6,)),
    d=(0.0, 1.0),
    b=((1.0,), (1.0,)),
    q=((-0.5,), (1 / 3,)),
    alpha=(0.4, 0.6),
    beta=(0.0, 1.0),
    gamma=(1.0, -1.0),
)
_SEA = _Tableau(
    c=(0.5,),
    a=((),),
    d=(0.0, 1.0),
    **_of_integral((1.0,)),
    alpha=(1.0,),
    beta=(0.0, 1.0),
    gamma=(1.0, -1.0),
)


def _step(tableau: _Tableau, name: str) -> FixedStep:
    return lambda state: _Additive(state, tableau, name)


def _row(
    name: str, order: float, weak_order: float, tableau: _Tableau, source: str, advice: str
) -> None:
    register_own(
        name, "sde", order, _step(tableau, name),
        evaluations=len(tableau.alpha), source=source, advice=advice, weak_order=weak_order,
    )  # fmt: skip


_ROESSLER = "Rößler, SIAM J. Numer. Anal. 48 (2010)"
_RACKAUCKAS = "Rackauckas, Nie, arXiv 1804.04344"
_FOSTER = "Foster, dos Reis, Strange, arXiv 2210.17543"

_row(
    "sosra",
    1.5,
    2,
    _SOSRA,
    _RACKAUCKAS,
    "Stable strong order 1.5; srk costs less where it is stable.",
)
_row("sosra2", 1.5, 2, _SOSRA2, _RACKAUCKAS, "As sosra, made stable for other stiff problems.")
_row("sra3", 1.5, 2, _SRA3, _ROESSLER, "Strong order 1.5, of order 3 where there is no noise.")
_row("shark", 1.5, 2, _SHARK, _FOSTER, "Strong order 1.5 for two evaluations a step.")
_row(
    "sea", 1.0, 1, _SEA, _FOSTER,
    "One evaluation, at the mean of the noise: a better Euler step for paths, not for laws.",
)  # fmt: skip
