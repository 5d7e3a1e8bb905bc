r"""Dense output: the polynomial through what is known of a step.

Known are states and slopes at some fractions θ of a step of length h. The polynomial of the
lowest degree that has them all (Hermite–Birkhoff) is a sum of these data with weights that
depend on θ alone.

    cubic     x₀, h f₀, x₁, h f₁                              error O(h⁴)
    quartic   and the state at ½                               error O(h⁵)
    sextic    the cubic's data, h f at 0.15, 0.5 and 0.7       error O(h⁷)

The slope at 0.5 is evaluated at the state there, and the other two on the quintic that this
makes of the quartic. A slope counts times h, so its error is of an order more than the state's
where it was evaluated. The places are uneven, because slopes that stand evenly around the middle
leave one polynomial undetermined.

Source: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, section II.6
("bootstrapping").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CUBIC", "QUARTIC", "QUINTIC", "SEXTIC", "Hermite"]

Datum = tuple[float, int]
"""The fraction θ, and 0 for the state there or 1 for its slope times h."""


class Hermite:
    """The polynomial through some data of a step.

    Args:
        data: what is known, in the order in which `at` is given it.
    """

    def __init__(self, data: Sequence[Datum]) -> None:
        self.data = tuple(data)
        powers = torch.arange(len(data), dtype=torch.float64, device="cpu")
        rows = [
            powers * theta ** (powers - 1).clamp(min=0) if slope else theta**powers
            for theta, slope in data
        ]
        self._inverse = torch.linalg.inv(torch.stack(rows))
        self._powers = powers

    def at(self, theta: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The states at fractions theta, (n, 1), of n steps with these data, (n, D) each."""
        weights = (theta**self._powers @ self._inverse).to(values[0])  # (n, data)
        return sum(w[:, None] * v for w, v in zip(weights.unbind(1), values, strict=True))


CUBIC = Hermite([(0, 0), (0, 1), (1, 0), (1, 1)])
QUARTIC = Hermite([*CUBIC.data, (0.5, 0)])
QUINTIC = Hermite([*QUARTIC.data, (0.5, 1)])
SEXTIC = Hermite([*CUBIC.data, (0.5, 1), (0.15, 1), (0.7, 1)])
