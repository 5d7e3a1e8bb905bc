r"""Time counted in steps: every step goes from a whole number to the next.

With v = (u − u₀) / h on a step of length h, the equation dx = f du + g dw is

    dx  =  h f dv  +  √h g dw(v),

of the same kind. A library that adds its times up misses no whole number by rounding. And where
each sample has a step of its own, all of them take the step from 0 to 1: the library counts in
numbers of the host, which go with tensors of any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchsde import BaseBrownian

from diffsde.equations.contract import ContractSDE
from diffsde.noise.brownian import BoundBrownian
from diffsde.solvers.coefficients import beside
from diffsde.solvers.equation import Equation

__all__ = ["Counting", "InSteps", "NoiseInSteps"]


@dataclass(frozen=True)
class Counting:
    """Time counted in steps: v = 0, 1, …, n at the nodes.

    Attributes:
        nodes: (n + 1,), or (n + 1, B, 1) where each sample has its own; float64, on the host.
        h: their distance, () or (B, 1).
    """

    nodes: Tensor
    h: Tensor

    def place(self, v: Tensor) -> Tensor:
        """The solver's time u at v."""
        return self.nodes[0] + v.detach().to("cpu", torch.float64) * self.h

    def length(self, x: Tensor) -> Tensor:
        """h, as a factor of states (B, …)."""
        return beside(self.h, x)

    def root(self, x: Tensor) -> Tensor:
        """√h, as a factor of states (B, …)."""
        return beside(self.h.sqrt(), x)


class InSteps:
    """An equation in time counted in steps."""

    def __init__(self, equation: Equation, counting: Counting) -> None:
        self.equation, self.counting = equation, counting

    @property
    def own(self) -> ContractSDE | None:
        """A user's SDE; None for all other problems."""
        return self.equation.own

    def f(self, v: Tensor, x: Tensor) -> Tensor:
        """The drift, (B, D)."""
        return self.counting.length(x) * self.equation.f(self.counting.place(v), x)

    def g_prod(self, v: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """The diffusion times z, (B, D)."""
        return self.counting.root(x) * self.equation.g_prod(self.counting.place(v), x, z)

    def g(self, v: Tensor, x: Tensor) -> Tensor:
        """The diffusion where it depends on time alone, () or (B, 1)."""
        return self.counting.root(x) * self.equation.g(self.counting.place(v), x)

    def diffusion(self, v: Tensor, x: Tensor) -> Tensor:
        """g of a user's SDE: (B, D) for diagonal noise, else (B, D, m)."""
        g = self.equation.diffusion(self.counting.place(v), x)
        return self.counting.root(g) * g

    def f_and_g(self, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and g of a user's SDE, in one evaluation."""
        f, g = self.equation.f_and_g(self.counting.place(v), x)
        return self.counting.length(f) * f, self.counting.root(g) * g

    def f_and_g_prod(self, v: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and g z of a user's SDE, in one evaluation."""
        f, product = self.equation.f_and_g_prod(self.counting.place(v), x, z)
        return self.counting.length(f) * f, self.counting.root(product) * product


class NoiseInSteps(BaseBrownian):
    """The noise of a solve, in time counted in steps: the intervals in any order."""

    levy_area_approximation = "foster"
    shape = torch.Size()
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, noise: BoundBrownian, counting: Counting) -> None:
        self.noise, self.counting = noise, counting
        self.shape, self.dtype, self.device = noise.shape, noise.dtype, noise.device

    def __call__(
        self, va: Tensor, vb: Tensor, return_U: bool = False, return_A: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        k = round(float(va))
        ends = self.counting.nodes[k], self.counting.nodes[k + 1]
        w, u = self.noise.over(*ends, return_U)
        root = self.counting.root(w)
        found = [w / root]
        found += [] if u is None else [u / root**3]
        if return_A:
            area = self.noise.levy_area(*ends)
            found.append(area / self.counting.length(area))
        return tuple(found) if len(found) > 1 else found[0]

    def __repr__(self) -> str:
        return f"NoiseInSteps({self.noise!r})"
