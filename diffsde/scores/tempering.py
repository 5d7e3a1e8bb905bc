r"""Temperature: a score of samples that are more, or less, typical of the data.

Data at temperature τ have the density p(x)^{1/τ}, up to a factor. Its score without noise is
that of the data over τ, and under much noise it is that of the data. In between, for Gaussian data
of spread c,

    s_τ(x, t)  =  λ(t) s(x, t),        λ  =  (a² c² + s²) / (τ a² c² + s²),

which for any other data is an approximation. It changes the score alone, so every solver takes it
and the flow and the reverse SDE agree. Scaling the noise of a reverse SDE instead does nothing to
a flow, and asks the network about states with less noise than it is told.

Sources: Xu et al., arXiv 2510.01184, who multiply the score by the same λ, for flows and for SDEs
(their k is 1 / τ, their σ is c); for c = 1, Ingraham et al., Nature 623 (2023), 1070–1078, whose
reverse SDE has the same λ, and may have Langevin steps beside it, which are left out here.
"""

from __future__ import annotations

import math

from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.reverse import Score
from diffsde.scores.guided import Guided, Moment, moment_of, moments_at
from diffsde.system.numbers import real_number
from diffsde.system.one_line import class_of

__all__ = ["checked_temperature", "tempered"]

_TINY = math.ulp(0.0)


def checked_temperature(temperature: float) -> float:
    """The temperature as a float.

    Raises:
        InputError: it is not a finite number above zero.
    """
    return real_number(temperature, "temperature", "a finite number > 0", _TINY)


def tempered(sde: SDE, score: Score, temperature: float, spread: float) -> Score:
    """The score of the data at another temperature.

        ReverseSDE(sde, tempered(sde, score, 0.8, spread=0.3), shape)

    Args:
        sde: the forward process.
        score: of the data.
        temperature: τ > 0; 1 is the score itself, and less makes samples more typical and alike.
            For Gaussian data the std is √τ times as large.
        spread: c, the std of a number in the data around its clusters. It decides at which noise
            level the temperature sets in.

    Raises:
        InputError: the temperature or the spread is not a finite number > 0.
    """
    temperature = checked_temperature(temperature)
    return _Tempered(sde, score, temperature, real_number(spread, "spread", "> 0", _TINY))


class _Tempered(Guided):
    def __init__(self, sde: SDE, score: Score, temperature: float, spread: float) -> None:
        super().__init__()
        self.sde, self.score = sde, score
        self.temperature, self.spread = temperature, spread

    def __repr__(self) -> str:
        numbers = f"temperature={self.temperature:g}, spread={self.spread:g}"
        return f"tempered({class_of(self.score)}, {numbers})"

    def prepare(self, times: Tensor) -> list[Moment]:
        """What `forward` takes in place of each of the times (n,)."""
        return moments_at(self.score, times)

    def forward(self, x: Tensor, t: Tensor | float | Moment) -> Tensor:
        """λ(t) s(x, t), of x's shape."""
        t, known = moment_of(t)
        data = (self.sde.marginal_scale(t) * self.spread) ** 2
        noise = self.sde.marginal_std(t) ** 2
        factor = ((data + noise) / (self.temperature * data + noise)).to(x)
        return expand(factor, x) * with_graph(self.score, "score", x, known)
