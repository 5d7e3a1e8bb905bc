r"""The probability flow together with its divergence, as one ODE.

The likelihood of an image is an integral of ∇·v along its path. `DensityFlow` adds this
integral to the state, so that `solve` finds both. The divergence is the trace of ∂v/∂x. It is
exact with D products with the Jacobian, or estimated by Hutchinson's

    ∇·v  ≈  zᵀ (∂v/∂x) z,        E z zᵀ = I.

The entries of z are signs (Rademacher) or normal numbers. They are drawn once for each sample
and stay fixed during the solve, so the right-hand side is smooth and the estimate unbiased.

Source: Grathwohl et al., arXiv 1810.01367.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffsde.equations.graphs import leaf, ordinary, with_graph
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.equations.rows import own_rows
from diffsde.errors import InputError, name_list
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import numbered
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.numbers import real_number, whole_number

__all__ = ["DensityFlow", "check_flow", "checked_start", "random_probes", "unit_probes"]

_LARGEST_EXACT = 1024  # coordinates: a larger exact trace is more likely a mistake than a wish
_PROBES = ("rademacher", "gaussian")


class DensityFlow:
    """The flow and the integrals of its divergence, an ODE called as (t, y).

    A state y of shape (B, D + P) holds a point and P integrals. The integrals are divided by
    D, so that they have the size for which a tolerance of pixels is meant. The result has a
    graph where autograd records one.

    Args:
        flow: dx/dt.
        probes: (P, B, D).
        exact: the probes are the unit vectors, so their columns are summed into one.
        eps: where t starts.
    """

    sample_times = True  # t may be a time for each sample: so each has steps of its own

    def __init__(self, flow: ProbabilityFlow, probes: Tensor, *, exact: bool, eps: float) -> None:
        self.flow, self.probes, self.exact = flow, probes, exact
        self.sde = flow.sde  # clocks are made from its noise levels
        self.interval = (eps, flow.sde.T)
        self.dims = probes.shape[-1]

    @property
    def columns(self) -> int:
        """The number of integrals."""
        return 1 if self.exact else len(self.probes)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()  # someone differentiates the likelihood
        x = y[:, : self.dims]
        with torch.enable_grad():
            x = x if keep and x.requires_grad else leaf(x)
            v = with_graph(self.flow.drift, "flow", x, t)
        with torch.set_grad_enabled(keep):
            traces = [
                (torch.autograd.grad(v, x, z, retain_graph=True, create_graph=keep)[0] * z).sum(1)
                for z in own_rows(self.probes.transpose(0, 1)).unbind(1)
            ]
        divergence = torch.stack(traces, 1) / self.dims
        if self.exact:
            divergence = divergence.sum(1, keepdim=True)
        return torch.cat([v if keep else v.detach(), divergence], 1)

    def solve(self, x: Tensor, method: str, **settings: Any) -> Trajectory:
        """Solve from ε to T: points in the first D columns of a state, integrals in the others."""
        x = ordinary(x)
        y = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), self.columns)], 1)
        return solve(self, y, method, **settings)


def check_flow(flow: Any) -> None:
    """Raise an InputError for anything but a `ProbabilityFlow`."""
    if not isinstance(flow, ProbabilityFlow):
        raise InputError(
            f"flow = {type(flow).__name__}: expected a ProbabilityFlow; the paths of a "
            "ReverseSDE are not invertible and have no likelihood of their own"
        )


def checked_start(flow: ProbabilityFlow, eps: float | None) -> float:
    """The time at which samples are taken; the SDE's own ε if none is given.

    Raises:
        InputError: it is not between 0 and T.
    """
    if eps is None:
        return flow.sde.eps
    expected = f"a time above 0 and below {flow.sde.T:g}, where all is noise"
    start = real_number(eps, "eps", expected)
    if not 0 < start < flow.sde.T:
        raise InputError(f"eps = {eps}: expected {expected}")
    return start


def unit_probes(x: Tensor, dims: int) -> Tensor:
    """The D unit vectors for each sample, (D, B, D)."""
    _check_size(x, dims)
    if dims > _LARGEST_EXACT:
        raise InputError(
            f"exact=True with {dims} values a sample: at most {_LARGEST_EXACT} are allowed, "
            "because each takes a product with the Jacobian; use probes= instead"
        )
    return torch.eye(dims, device="cpu").to(x)[:, None].expand(dims, len(x), dims)


def random_probes(x: Tensor, dims: int, n: int, kind: str, seed: int, first: int) -> Tensor:
    """`n` random directions for each sample, (n, B, D)."""
    _check_size(x, dims)
    n = whole_number(n, "probes")
    if kind not in _PROBES:
        raise InputError(f"probe = {kind!r}: {name_list(str(kind), list(_PROBES))}")
    table, samples = NormalTable(seed, "probe"), numbered(first, len(x))
    normal = torch.stack([table.rows(samples, k, (dims,), x.dtype, x.device) for k in range(n)])
    return normal.sign() if kind == "rademacher" else normal


def _check_size(x: Tensor, dims: int) -> None:
    if x[0].numel() != dims:
        raise InputError(f"x has shape {tuple(x.shape)}: expected samples of {dims} values")
