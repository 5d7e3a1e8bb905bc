r"""Reverse problems: an SDE and a score make a way back from noise to data.

With the forward process dx = f(x, t) dt + g(t) dw and its score ∇ log p_t(x), every
member of the family

    dx  =  [ f(x, t) − ½ (1 + η²) g(t)² ∇ log p_t(x) ] dt  +  η g(t) dw̄,      t from T to ε,

has the marginals p_t of the forward process, whatever η ≥ 0 is. η = 1 is the reverse SDE
(Anderson, 1982), η = 0 the probability flow, which is an ODE. For the tutorial's SDE,
f = 0 and g = σᵗ:

    reverse SDE          dx = −σ²ᵗ ∇ log p_t(x) dt + σᵗ dw̄,
    probability flow     dx = −½ σ²ᵗ ∇ log p_t(x) dt.

The factor ½ gives the two the same marginals; without it the paths of the flow collapse. η may
be a function of time, η(t) ≥ 0: the marginals at a time depend on no η before or after it.

A score of flow matching comes from a velocity v(x, t), which is the drift of the flow itself, and
v = f − ½ g² ∇ log p_t turns the family into

    dx  =  [ (1 + η²) v(x, t) − η² f(x, t) ] dt  +  η g(t) dw̄.

So it is written wherever the score has a velocity. Then nothing is infinite in the flow at a time
at which f and g are, such as t = 1 of a `StraightSDE`, nor in the reverse SDE if η² f and η g have
limits there.

A `ReverseSDE` is what `torchsde.sdeint` takes: its time s = T − t increases. A
`ProbabilityFlow` is what `torchdiffeq.odeint` takes, in t, in either direction. Here, and
nowhere else, a score called (x, t) becomes an equation called (t, y).

Source: Song et al., arXiv 2011.13456, equations 6 and 13 and appendix D; for the family,
Zhang, Chen, arXiv 2204.13902, equation 4; with velocities, Ma et al., arXiv 2401.08740,
equations 4 and 5.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.counted import AtTime, Counted, at_times, prepared, says_of
from diffsde.equations.dynamics import Dynamics, Field, Semilinear
from diffsde.equations.eta import Eta, checked_eta, said_eta
from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.ranges import UNIT, Range, checked_range
from diffsde.errors import InputError, how_to_load
from diffsde.system.argument_order import check_order
from diffsde.system.host import on_host
from diffsde.system.numbers import real_number, sizes, whole_number
from diffsde.system.one_line import class_of, one_line

__all__ = ["PROBLEMS", "ProbabilityFlow", "ReverseProblem", "ReverseSDE", "Score"]

Score = Callable[[Tensor, "Tensor | float"], Tensor]

_NEAR = 1e-9  # how near to T, as a share of T, limits are taken where f and g are infinite at T


class ReverseProblem(nn.Module):
    """What the reverse SDE and the probability flow have in common.

    Args:
        sde: the forward process.
        score: ∇ log p_t, called (x, t) with x of shape (B, *shape) and t a scalar or (B,).
        shape: of one sample, such as (C, H, W).
        data_scale: the largest size of a number in the data, for scores that do not state it.
            A solve has blown up when its states grow to a hundred times this, the prior's std
            and mean, and their own start. Only data much larger than these need it.

    States may be flat, (B, D), or of the sample's shape, (B, *shape).
    """

    stochastic: bool
    eta: Eta

    def __init__(
        self, sde: SDE, score: Score, shape: Sequence[int], *, data_scale: float | None = None
    ) -> None:
        super().__init__()
        if data_scale is not None:
            expected = "how large a number of the data may be, > 0"
            real_number(data_scale, "data_scale", expected, 0.0, above=True)
        if not callable(score):
            raise InputError(
                f"score = {score!r}: expected something called as score(x, t){how_to_load(score)}"
            )
        check_order(score, "score")
        if not isinstance(sde, SDE):
            raise InputError(f"sde = {sde!r:.80}: expected a forward process, such as VESDE()")
        self.sde, self.score = sde, score
        self.shape = sizes(shape, "shape", "that of one sample, such as (1, 28, 28)")
        self.data_scale = data_scale
        self._endless = bool(getattr(sde, "endless", False))  # whether f and g are infinite at T
        if self._endless and self._velocity is None:
            raise InputError(
                f"{type(self).__name__} with {one_line(sde)} and {one_line(score)}: at t = "
                f"{sde.T:g} the noise level is infinite, and a score alone does not tell the "
                "drift there. Give the process T=0.999, or take a score with a velocity of this "
                "process, such as from_velocity(…, T=1)"
            )

    @property
    def interval(self) -> tuple[float, float]:
        """(T, ε): where t starts and ends."""
        return self.sde.T, self.sde.eps

    @property
    def data_range(self) -> Range:
        """The values of black and of white, as the score says; (0, 1) if it says nothing."""
        return checked_range(says_of(self.score, "data_range", UNIT))

    def score_at(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The score, of x's shape, for a flat or an image-shaped x."""
        return with_graph(self.score, "score", x.reshape(-1, *self.shape), t).reshape(x.shape)

    def scores_at(self, times: Tensor) -> list[AtTime]:
        """The score at each of the times (n,), as n functions of x."""
        return [partial(self._in_shape, score) for score in at_times(self.score, times)]

    def _in_shape(self, score: AtTime, x: Tensor) -> Tensor:
        return with_graph(score, "score", x.reshape(-1, *self.shape)).reshape(x.shape)

    @property
    def _velocity(self) -> Callable[..., Tensor] | None:
        """The velocity of the score, where it has one for this very process."""
        if says_of(self.score, "sde", None) is not self.sde:
            return None
        found: Callable[..., Tensor] | None = says_of(self.score, "velocity", None)
        return found

    def _velocity_at(self, velocity: Callable[..., Tensor], t: Any, x: Tensor) -> Tensor:
        return with_graph(velocity, "velocity", x.reshape(-1, *self.shape), t).reshape(x.shape)

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape (Tweedie's formula)."""
        t = exact_time(t, x)
        own = says_of(self.score, "denoise", None)
        if own is not None and self._velocity is not None:  # it divides by no scale
            return with_graph(own, "denoiser", x.reshape(-1, *self.shape), t).reshape(x.shape)
        variance = expand(self.sde.marginal_std(t), x) ** 2
        return (x + variance * self.score_at(x, t)) / expand(self.sde.marginal_scale(t), x)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The factor of dt, of x's shape, with t running down."""
        t = exact_time(t, x)
        velocity = self._velocity
        if velocity is None:
            return self._drift_by(partial(self.score_at, t=t), self._weight(t), t, x)
        return self._drift_with(partial(self._velocity_at, velocity, t), t, x)

    def drifts_at(self, times: Tensor) -> list[AtTime]:
        """The drift at each of the times (n,), as n functions of x."""
        if type(self).drift is not ReverseProblem.drift:  # a subclass has written its own
            return [partial(self.drift, t=t) for t in times.unbind()]
        velocity = self._velocity
        if velocity is None:
            weights = self._weight(times).unbind()
            parts = zip(self.scores_at(times), weights, times.unbind(), strict=True)
            return [partial(self._drift_by, *part) for part in parts]
        fields = [partial(self._velocity_at, velocity, t) for t in prepared(self.score, times)]
        pairs = zip(fields, times.unbind(), strict=True)
        return [partial(self._drift_with, field, t) for field, t in pairs]

    def _weight(self, t: Tensor | float) -> Tensor:
        """What the score counts in the drift, ½ (1 + η²) g², of t's shape."""
        return 0.5 * (1 + self.eta_at(t) ** 2) * self.sde.diffusion(t) ** 2

    def _drift_by(self, score: AtTime, weight: Tensor, t: Tensor | float, x: Tensor) -> Tensor:
        drift = with_graph(self.sde.drift, "drift", x, t, zero=True)
        return drift - expand(weight, x) * score(x)

    def _drift_with(self, velocity: AtTime, t: Tensor | float, x: Tensor) -> Tensor:
        v = velocity(x)
        if not self.stochastic:
            return v
        t = self._before_end(t)
        square = self._squared(t, x)
        return (1 + square) * v - square * with_graph(self.sde.drift, "drift", x, t, zero=True)

    def eta_at(self, t: Tensor | float) -> Tensor | float:
        """η at t: of t's shape, or a number where η is one."""
        return self.eta(on_host(t)) if callable(self.eta) else self.eta

    def _squared(self, t: Tensor | float, x: Tensor) -> Tensor | float:
        """η² at t, such that it broadcasts against x."""
        eta = self.eta_at(t)
        return expand(eta**2, x) if isinstance(eta, Tensor) else eta**2

    def _before_end(self, t: Tensor | float) -> Tensor | float:
        """t, or where f and g are infinite at T a time just before it, in float64."""
        if not self._endless:
            return t
        return on_host(t, torch.float64).clamp(max=(1 - _NEAR) * self.sde.T)

    def diffusion(self, t: Tensor | float) -> Tensor:
        """The factor of dw̄, of t's shape."""
        t = self._before_end(t)
        return self.eta_at(t) * self.sde.diffusion(t)

    def with_score(self, score: Score) -> ReverseProblem:
        """The same problem with another score."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)  # a copied module shares its table of parts
        twin._modules.pop("score", None)
        twin.__dict__.pop("score", None)
        twin.score = score
        return twin

    def to_dynamics(self) -> Dynamics:
        """The parts that a solver needs, with the evaluations of the score counted."""
        counted = Counted(self.score, "score")
        own = self.with_score(counted)
        return Dynamics(
            name=type(self).__name__,
            kind="sde" if self.stochastic else "ode",
            drift=Field(own.drift, own.drifts_at),
            counted=counted,
            interval=self.interval,
            origin=self.sde.T,
            falls=True,
            diffusion=own.diffusion if self.stochastic else None,
            shape=self.shape,
            data_range=self.data_range,
            sample_times=True,
            scale=self._scale(),
            process=self.sde,
            semilinear=Semilinear(self.sde, Field(own.score_at, own.scores_at), self.eta),
            denoise=own.denoise,
            module=self,
        )

    def _scale(self) -> float:
        """How large a number of a state may well be, by all that is known."""
        data = self.data_scale
        if data is None:
            data = float(says_of(self.score, "data_scale", 0.0))
        return max(self.sde.prior_std, self.sde.largest_mean, data)

    def __repr__(self) -> str:
        parts = f"{one_line(self.sde)}, {class_of(self.score)}, shape={self.shape}"
        eta = f", eta={said_eta(self.eta)}" if self.stochastic else ""
        return f"{type(self).__name__}({parts}{eta})"


class ReverseSDE(ReverseProblem):
    """The reverse-time SDE, as torchsde takes it: `f`, `g`, `g_prod` in s = T − t.

    Args:
        sde, score, shape, data_scale: see `ReverseProblem`.
        eta: η ≥ 0, the dial between the flow (0) and the reverse SDE (1); beyond 1 more
            noise is added and removed. Every η keeps the marginals. It may be a function of time,
            elementwise in a tensor, such as lambda t: (1 − t).sqrt(), the noise of SiT's samplers
            on straight lines (arXiv 2401.08740).

    Raises:
        InputError: η is negative or not finite somewhere in [ε, T], its noise is infinite at T, or
            the score belongs to a flow only.

        rev = ReverseSDE(sde, score, shape)
        torchsde.sdeint(rev, x1.flatten(1), rev.times(500), dt=..., method="euler")
    """

    stochastic = True
    noise_type = "diagonal"
    sde_type = "ito"  # g does not depend on x: Itô and Stratonovich agree

    def __init__(
        self,
        sde: SDE,
        score: Score,
        shape: Sequence[int],
        eta: Eta = 1.0,
        *,
        data_scale: float | None = None,
    ) -> None:
        super().__init__(sde, score, shape, data_scale=data_scale)
        if says_of(score, "flow_only", False):
            raise InputError(
                f"{one_line(score)} was trained on coupled images and noise, so its velocity "
                "makes a probability flow but is no score of a reverse SDE: take ProbabilityFlow, "
                'or sample(…, kind="ode")'
            )
        self.eta = checked_eta(eta, sde)
        if self._endless:
            self._check_end()

    def _check_end(self) -> None:
        """Check that the noise has a limit at T."""
        near = on_host([1 - 1e-6, 1 - _NEAR], torch.float64) * self.sde.T
        before, after = self.diffusion(near).tolist()
        if after > 3 * before:  # it grows without end: for g ~ (T − t)^−½ by a factor of 31
            raise InputError(
                f"eta = {said_eta(self.eta)} with {one_line(self.sde)}: the noise of this reverse "
                f"SDE is infinite at t = {self.sde.T:g}. Give the process T=0.999, or an η that "
                "falls to zero there, such as eta=lambda t: (1 - t).sqrt(), or take the "
                "ProbabilityFlow"
            )

    def times(self, steps: int) -> Tensor:
        """The grid of steps + 1 times s, from 0 to T − ε, (steps + 1,), float64, for torchsde.

        Near ε, where t = T − s, float32 would leave few digits of t.
        """
        nodes = whole_number(steps, "steps") + 1
        return torch.linspace(
            0, self.sde.T - self.sde.eps, nodes, dtype=torch.float64, device="cpu"
        )

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        """Drift in s, of y's shape."""
        return -self.drift(y, self._t(s, y))

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        """Diffusion in s, of y's shape: the diagonal of the matrix."""
        return expand(self.diffusion(self._t(s, y)), y).expand_as(y)

    def g_prod(self, s: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """g(s, y) v, of y's shape."""
        return expand(self.diffusion(self._t(s, y)), y) * v

    def _t(self, s: Tensor, y: Tensor) -> Tensor:
        """t = T − s, subtracted in float64 on the host, in y's dtype."""
        return (self.sde.T - torch.as_tensor(s, dtype=torch.float64, device="cpu")).to(y)


class ProbabilityFlow(ReverseProblem):
    """The probability-flow ODE, as torchdiffeq takes it: called (t, x), in either direction.

    torchdiffeq's adaptive solvers step past the last time and interpolate back. Below ε,
    where a score need not exist, the field is therefore that of ε.
    """

    stochastic = False
    eta = 0.0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """dx/dt, of x's shape: flat or image-shaped."""
        return self.drift(x, on_host(t, x.dtype).clamp(min=self.sde.eps))


# The problem that a solver of each kind takes.
PROBLEMS: dict[str, type[ReverseSDE] | type[ProbabilityFlow]] = {
    "sde": ReverseSDE,
    "ode": ProbabilityFlow,
}
