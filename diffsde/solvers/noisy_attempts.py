r"""Adaptive steps for SDEs: the attempts.

A step is taken once whole and once in two halves, along the same Brownian path; the difference is
the error, and the two halves are kept. A rejected step is tried again, shorter, on the same path,
so that a rejection does not favour some noise.

An error estimate embedded in the stages would save the whole step, a fifth of the cost of srk. The
one of SOSRA, the difference from Euler's step, was measured with a PI controller: at equal costs
the error is about the same or larger, because the estimate is of a lower order than the error and
asks for too many steps at tight tolerances. The extrapolation halves + (halves − whole) / 3, kept
instead of the halves, was two to three times as near on an exact mixture, but no nearer with the
shipped network.

Sources: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, section II.4; for the
path, Gaines, Lyons, SIAM J. Appl. Math. 57 (1997); for the embedded estimate, Rackauckas, Nie,
arXiv 1804.04344.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.adaptive import walk_own_steps
from diffsde.solvers.control import Control, error_norm, rms
from diffsde.solvers.option_values import Check, positive, zero_or_more
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import SolveState, Walk
from diffsde.system.parameters import finest_dtype

__all__ = ["NOISY_OPTIONS", "walk_noisy"]

NOISY_OPTIONS: dict[str, Check] = {
    "first_step": positive,
    "min_step": zero_or_more,
    "max_step": positive,
}

_FIRST = 0.01  # share of the whole interval: a careful first step
_SMALLEST = 1e-5  # share of the whole interval


def walk_noisy(solver: Solver, state: SolveState) -> Walk:
    """The steps of an SDE's method, each as long as its error allows."""
    if solver.one_step is None or solver.multistep:
        raise InputError(f"{solver.name} has no adaptive form: its step needs the ones before it")
    whole, options = state.equation.duration, state.options
    # A step is halved, and no half may be shorter than what the path resolves.
    finest = 2 * (0.0 if state.path is None else state.path.resolution)
    smallest = options.get("min_step", max(_SMALLEST * whole, finest))
    if smallest < finest:
        raise InputError(
            f"options['min_step'] = {smallest:g}: expected at least {finest:.3g}, twice the "
            "resolution of the Brownian path; or give noise=BrownianPath(seed, resolution=…)"
        )
    control = Control(
        order=solver.order + 0.5,  # of the local error of a method of strong order p
        smallest=smallest,
        largest=options.get("max_step", whole),
        safety=0.8,
        shrink=0.2,
        grow=3.0,
        beta=0.0,
    )
    x = state.x.to(finest_dtype(state.x.device))  # so that the halves and the whole compare
    attempts = _NoisyAttempts(solver, replace(state, x=x))
    return walk_own_steps(state, x, attempts, control)


@dataclass(frozen=True)
class _NoisyTrial:
    """Steps that were tried: their ends and their errors."""

    x: Tensor
    error: Tensor


class _NoisyAttempts:
    """Steps of an SDE's method, tried by some samples; see `adaptive.Attempts`."""

    dense = False  # between the ends of its steps a path is known to nobody but the method

    def __init__(self, solver: Solver, state: SolveState) -> None:
        self.solver, self.state = solver, state
        self.part: SolveState | None = None

    def begin(self, u: Tensor, x: Tensor) -> None: ...

    def first_steps(self) -> Tensor:
        first = self.state.options.get("first_step", _FIRST * self.state.equation.duration)
        return torch.full((len(self.state.x),), first, dtype=torch.float64, device="cpu")

    def attempt(self, rows: Tensor, u0: Tensor, u1: Tensor, x: Tensor) -> _NoisyTrial:
        state = self._of(rows)
        method = self.solver.one_step(state)  # type: ignore[misc]
        u0, u1 = u0[:, None], u1[:, None]
        middle = 0.5 * (u0 + u1)
        state.bound_noise.visit(u0, middle, u1)
        with self.state.equation.one_start(u0):  # the whole step and its first half begin at x
            whole = method.step(u0, u1, x)
            first_half = method.step(u0, middle, x)
        halves = method.step(middle, u1, first_half)
        return _NoisyTrial(halves, error_norm(rms, self.state, halves - whole, x, halves))

    def keep(self, rows: Tensor, trial: _NoisyTrial, accepted: Tensor) -> None: ...

    def between(self, rows: Tensor, u: float) -> Tensor:
        raise NotImplementedError  # it is not dense

    def _of(self, rows: Tensor) -> SolveState:
        """The state of some samples, with their own noise."""
        state, samples = self.state, [self.state.samples[i] for i in rows.tolist()]
        if self.part is not None and self.part.samples == samples:
            return self.part
        if state.path is None:
            raise InputError("adaptive steps need a BrownianPath")
        size, commutes = (len(samples), state.channels), state.equation.commutes
        x = state.x
        noise = state.path.bind(size, samples, x.dtype, x.device, commutes=commutes)
        self.part = replace(state, noise=noise, samples=samples)
        return self.part
