r"""Velocities as scores: flow matching, rectified flow and stochastic interpolants.

A process x(t) = a(t) x(0) + s(t) z has paths whose direction is a′ x(0) + s′ z, and a velocity is
the mean of this direction,

    v(x, t)  =  E[ a′ x(0) + s′ z  |  x(t) = x ].

Together with x = a E[x(0) | x] + s E[z | x] these are two linear equations, so with W = a s′ − a′ s

    E[x(0) | x]    =  (s′ x − s v) / W,
    E[z | x]       =  (a v − a′ x) / W,
    ∇ log p_t(x)   =  −E[z | x] / s.

On the straight line a = 1 − t, s = t, W is 1: the denoiser is x − t v and the score is
−(x + (1 − t) v) / t. Nothing is divided by a, so all of it is finite where a is zero. The velocity
itself is the drift of the probability flow.

Sources: Lipman et al., arXiv 2210.02747; Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797,
section 2; Ma et al., arXiv 2401.08740, equation 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.ranges import UNIT, Range, checked_range
from diffsde.equations.schedule import InterpolantSDE
from diffsde.equations.straight import StraightSDE
from diffsde.errors import InputError
from diffsde.scores.denoisers import check_model
from diffsde.scores.drawing import Drawing
from diffsde.scores.model import checked_shape
from diffsde.system.argument_order import takes_time_first
from diffsde.system.host import on_host
from diffsde.system.one_line import class_of, one_line
from diffsde.system.parameters import dtype_of

__all__ = ["VelocityScore", "from_velocity"]

Velocity = Callable[[Tensor, Tensor], Tensor]


class VelocityScore(Drawing):
    """The score of a velocity, called (x, t).

    Args:
        function: E[a′ x(0) + s′ z | x(t) = x], called (x, t) or (t, x), x of shape (B, *shape)
            and t of shape (B,). A module is called in the dtype of its parameters.
        sde: the process, with its a and s.
        shape: of one sample; None if it is not known.
        data_range: the values of black and of white.

    Raises:
        InputError: it cannot be called, or in which order cannot be told.
    """

    def __init__(
        self,
        function: Velocity,
        sde: SDE,
        shape: Sequence[int] | None = None,
        data_range: Range = UNIT,
    ) -> None:
        super().__init__()
        check_model("velocity", function, "(x, t)")
        self.function, self.sde = function, sde
        self.shape = None if shape is None else checked_shape(shape)
        self.data_range = checked_range(data_range)
        _check_end(sde)
        dtype = dtype_of(function, torch.get_default_dtype())
        self.time_first = takes_time_first(function, "velocity", self.shape, dtype)

    def __repr__(self) -> str:
        shape = "" if self.shape is None else f", shape={self.shape}"
        return f"VelocityScore({class_of(self.function)}, {one_line(self.sde)}{shape})"

    def velocity(self, x: Tensor, t: Tensor | float) -> Tensor:
        """E[a′ x(0) + s′ z | x(t) = x], of x's shape (B, …): the drift of the flow."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x)).contiguous()
        dtype = dtype_of(self.function, x.dtype)
        return with_graph(self._called, "velocity", x.to(dtype), t.to(dtype)).to(x.dtype)

    def _called(self, x: Tensor, t: Tensor) -> Tensor:
        found = self.function(t, x) if self.time_first else self.function(x, t)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            returned = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the velocity returned {returned} for x of shape {tuple(x.shape)} and t of shape "
                f"{tuple(t.shape)}: expected a tensor of x's shape"
            )
        return found

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p_t(x), of x's shape (B, …)."""
        a, s, fall, rise = self._parts(x, t)
        return (fall * x - a * self.velocity(x, t)) / (s * (a * rise - fall * s))

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape."""
        a, s, fall, rise = self._parts(x, t)
        return (rise * x - s * self.velocity(x, t)) / (a * rise - fall * s)

    def _parts(self, x: Tensor, t: Tensor | float) -> list[Tensor]:
        """a, s, a′ and s′, each of a shape that broadcasts against x."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        sde = self.sde
        parts = (sde.marginal_scale, sde.marginal_std)
        slopes = (sde.marginal_scale_slope, sde.marginal_std_slope)
        return [expand(part(t), x) for part in (*parts, *slopes)]


def _check_end(sde: SDE) -> None:
    """Check that W is not zero and not infinite at T, where a may be zero."""
    t = on_host(sde.T, torch.float64)
    scale, std = sde.marginal_scale(t), sde.marginal_std(t)
    width = float(scale * sde.marginal_std_slope(t) - sde.marginal_scale_slope(t) * std)
    if sde.endless and not 1e-9 < width < 1e9:
        raise InputError(
            f"T = {sde.T:g}: there a s′ − a′ s is {width:g}, so the velocity does not tell x(0) "
            "and z apart; end earlier, such as T=0.999"
        )


def from_velocity(
    velocity: Velocity,
    *,
    scale: Callable[[Tensor], Tensor] | None = None,
    std: Callable[[Tensor], Tensor] | None = None,
    shape: Sequence[int] | None = None,
    T: float = 0.999,
    eps: float = 1e-3,
    data_range: Range = UNIT,
) -> VelocityScore:
    """The score of a flow-matching model, with its process.

        score = from_velocity(network, shape=(3, 32, 32))
        sol = score.sample(16, method="heun2", clock="t", steps=50)

    **The convention.** Time runs from the data at t = 0 to noise at t = 1, on straight lines
    x(t) = (1 − t) x(0) + t z, and the network returns the mean of their direction,
    E[z − x(0) | x(t)]. A network whose data are at t = 1 and whose noise is at t = 0 is

        from_velocity(lambda x, t: -network(x, 1 - t))

    and one that returns x(0) − z, but has the data at t = 0, is `lambda x, t: -network(x, t)`.
    Other conventions of time, such as 1000 t, are adapted in the same place.

    Args:
        velocity: called (x, t), with x of shape (B, *shape) and t of shape (B,); a module or a
            function. One that takes (t, x) is recognised by the names of its parameters, or by
            a trial on two or three states where these tell nothing, which needs `shape`.
        scale, std: a(t) and s(t) of another interpolant x(t) = a x(0) + s z, elementwise
            functions of a tensor, both or none. The network then returns E[a′ x(0) + s′ z | x].
        shape: of one sample, such as (3, 32, 32) or (2,). `sample`, `flow` and `reverse` need it.
        T, eps: where solves start and end. T = 1 is for the flow in clock="t"; see `StraightSDE`.
        data_range: the values of black and of white, such as (−1, 1).

    Raises:
        InputError: an argument does not fit, or the order of arguments cannot be told.
    """
    if (scale is None) != (std is None):
        raise InputError(
            "scale and std belong together, a(t) and s(t) of x(t) = a x(0) + s z: give both, or "
            "neither for straight lines"
        )
    sde: SDE = StraightSDE(T, eps)
    if scale is not None and std is not None:
        sde = InterpolantSDE(scale, std, T, eps)
    return VelocityScore(velocity, sde, shape, data_range)
