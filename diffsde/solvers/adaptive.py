r"""Adaptive steps for SDEs: no accepted step exceeds the tolerance.

Each sample has its own time and its own step, so its path depends on its noise and on the
tolerance, but not on its batch. A step is taken once whole and once in two halves. If their
difference, in the norm

    ‖ e ‖  =  rms over coordinates of  e / (atol + rtol max(|x₀|, |x₁|)),

exceeds 1, the step is rejected and tried again with a shorter length, along the same Brownian
path, so that a rejection does not favour some noise. Otherwise the two halves are kept.

Source: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, section II.4;
for the path, Gaines, Lyons, SIAM J. Appl. Math. 57 (1997).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diffsde.equations.counted import BlowUp
from diffsde.errors import InputError
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import SolveState, Step

__all__ = ["ADAPTIVE_OPTIONS", "walk_adaptive"]

ADAPTIVE_OPTIONS = frozenset({"first_step", "min_step", "max_step"})

_SAFETY, _SHRINK, _GROW = 0.8, 0.2, 3.0
_FIRST = 0.01  # share of the whole interval: a careful first step
_SMALLEST = 1e-5  # share of the whole interval


def walk_adaptive(solver: Solver, state: SolveState) -> Iterator[Step]:
    """Step each sample by its own error, landing all of them on every node."""
    if solver.one_step is None or solver.multistep:
        raise InputError(f"{solver.name} has no adaptive form: its step needs the ones before it")
    control = _Control.of(state, solver)
    x = state.x.double()
    h = torch.full((len(x), 1), control.first, dtype=torch.float64)
    for start, end in pairwise(state.nodes.tolist()):
        x, h = _stretch(solver, state, control, x, h, (start, end))
        yield Step(torch.tensor(end, dtype=torch.float64), x.to(state.x.dtype))


@dataclass(frozen=True)
class _Control:
    """How steps are chosen; lengths in the solver's time."""

    first: float
    smallest: float
    largest: float
    exponent: float

    @classmethod
    def of(cls, state: SolveState, solver: Solver) -> _Control:
        whole, options = state.equation.duration, state.options
        # A step is halved, and no half may be shorter than what the path resolves.
        finest = 2 * (0.0 if state.path is None else state.path.resolution)
        smallest = options.get("min_step", max(_SMALLEST * whole, finest))
        if smallest < finest:
            raise InputError(
                f"options['min_step'] = {smallest:g}: expected at least {finest:.3g}, twice the "
                "resolution of the Brownian path; or give noise=BrownianPath(seed, resolution=…)"
            )
        return cls(
            options.get("first_step", _FIRST * whole),
            smallest,
            options.get("max_step", whole),
            1 / (solver.order + 0.5),  # the local error of strong order p is of order p + ½
        )

    def next(self, h: Tensor, error: Tensor) -> Tensor:
        factor = _SAFETY * error.clamp(min=1e-10) ** -self.exponent
        return (h * factor.clamp(_SHRINK, _GROW)).clamp(max=self.largest)


def _stretch(
    solver: Solver,
    state: SolveState,
    control: _Control,
    x: Tensor,
    h: Tensor,
    ends: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Take every sample from one node to the next."""
    x, h, u = x.clone(), h.clone(), torch.full_like(h, ends[0])
    part = state
    while True:
        going = (u[:, 0] < ends[1]).nonzero()[:, 0]
        if not len(going):
            return x, h
        part = _part(state, part, going)
        tried = h[going].clamp(min=control.smallest)
        u0, x0 = u[going], x[going]
        # A remainder of less than a smallest step is taken along.
        near = u0 + tried > ends[1] - control.smallest
        u1 = torch.where(near, torch.full_like(u0, ends[1]), u0 + tried)
        x1, error = _attempt(solver, part, u0, u1, x0)
        accepted = error <= 1
        _refuse_hopeless(state, control, u1 - u0, accepted)
        # Landing on a node may cut a step short; the next one need not be short too.
        wanted = control.next(torch.where(near & accepted, tried, u1 - u0), error)
        u[going] = torch.where(accepted, u1, u0)
        x[going] = torch.where(accepted, x1, x0)
        h[going] = wanted
        state.rejected += int((~accepted).sum())
        if state.steps is not None:
            state.steps[going] += accepted[:, 0].cpu()


def _part(state: SolveState, last: SolveState, going: Tensor) -> SolveState:
    """The state of those samples that are not there yet, with their own noise."""
    samples = [state.samples[i] for i in going.tolist()]
    if last.noise is not None and list(last.noise.samples) == samples:
        return last
    if state.path is None:
        raise InputError("adaptive steps need a BrownianPath")
    size, commutes = (len(samples), state.channels), state.equation.commutes
    noise = state.path.bind(size, samples, torch.float64, state.x.device, commutes=commutes)
    return replace(state, noise=noise, samples=samples)


def _attempt(
    solver: Solver, state: SolveState, u0: Tensor, u1: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """The state after two halves of the step, and the error against the whole one."""
    method = solver.one_step(state)  # type: ignore[misc]
    middle = 0.5 * (u0 + u1)
    with state.equation.one_start(u0):  # the whole step and its first half begin at x
        whole = method.step(u0, u1, x)
        first_half = method.step(u0, middle, x)
    halves = method.step(middle, u1, first_half)
    scale = state.atol + state.rtol * torch.maximum(x.abs(), halves.abs())
    error = ((halves - whole) / scale).square().mean(1, keepdim=True).sqrt()
    return halves, torch.nan_to_num(error, nan=torch.inf)


def _refuse_hopeless(state: SolveState, control: _Control, h: Tensor, accepted: Tensor) -> None:
    if bool((~accepted & (h <= control.smallest * 1.0001)).any()):
        raise BlowUp(
            f"the error exceeds the tolerance at the smallest step ({control.smallest:.3g}): "
            f"loosen rtol and atol (now {state.rtol:g}, {state.atol:g}), lower "
            "options['min_step'], or use another clock"
        )
