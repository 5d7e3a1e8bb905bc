r"""Stepping by hand: the accepted steps of a solve, one after the other, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import largest_magnitude
from diffsde.equations.graphs import ordinary, ordinary_mode
from diffsde.errors import InputError
from diffsde.noise.brownian_path import BrownianPath
from diffsde.noise.seeds import numbered
from diffsde.solvers.arguments import make_request
from diffsde.solvers.parts import Part
from diffsde.solvers.recorder import Recorder
from diffsde.solvers.stop_rules import Event
from diffsde.solvers.trajectory import Stats
from diffsde.system.host import on_host

__all__ = ["AcceptedStep", "Steps", "steps"]


class AcceptedStep:
    """A step that was accepted, as `steps` hands it out.

    Attributes:
        t: where the step ends.
        dt: its length in t; negative where t falls.
        x: (B, …), the state there. Assign another one, or change it in place, and the solve
            goes on from it.
        stats: what the solve has cost so far.
    """

    def __init__(self, recorder: Recorder, began: float) -> None:
        self._recorder = recorder
        self.t = recorder.exact_time(recorder.last.u)
        self.dt = self.t - began
        self.stats: Stats = replace(recorder.stats)
        self._x = self._given = recorder.last.x.reshape(recorder.shape)
        self._version = self._x._version

    @property
    def x(self) -> Tensor:
        """The state at the end of the step, (B, …)."""
        return self._x

    @x.setter
    def x(self, x: Tensor) -> None:
        like = self._given
        if not isinstance(x, Tensor) or x.shape != like.shape or x.dtype != like.dtype:
            found = f"{tuple(x.shape)}, {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"step.x = {found}: expected a state like the one before, {tuple(like.shape)}, "
                f"{like.dtype}"
            )
        self._x = ordinary(x).to(like.device)

    @property
    def nfe(self) -> int:
        """Evaluations of the score so far."""
        return self.stats.nfe

    @ordinary_mode()
    def denoised(self) -> Tensor:
        """The estimate E[x(0) | x(t)] of the clean images, (B, …); it costs one evaluation.

        Raises:
            InputError: the problem knows no clean images.
        """
        dynamics = self._recorder.state.equation.dynamics
        if dynamics.denoise is None:
            raise InputError("denoised: only a ReverseSDE or a ProbabilityFlow knows clean images")
        limit, dynamics.counted.limit = dynamics.counted.limit, None
        try:
            x = self._x.reshape(self._recorder.last.x.shape)
            return dynamics.denoise(x, on_host(self.t).to(x)).reshape(self._x.shape)
        finally:
            dynamics.counted.limit = limit

    def altered(self) -> Tensor | None:
        """The state to go on from, as the method takes it; None if it is the one given."""
        if self._x is self._given and self._x._version == self._version:
            return None
        if not math.isfinite(largest_magnitude(self._x)):
            raise InputError(f"step.x at t = {self.t:g} holds numbers that are not finite")
        return self._x.reshape(self._recorder.last.x.shape)

    def __repr__(self) -> str:
        return f"AcceptedStep(t={self.t:g}, dt={self.dt:g}, nfe={self.nfe})"


class Steps(Iterator[AcceptedStep]):
    """The accepted steps of a solve; see `steps`."""

    def __init__(self, part: Part) -> None:
        self._part, self._walk = part, part.steps()
        self._recorder = part.driver.recorder
        self._last: AcceptedStep | None = None
        self._time = self._recorder.exact_time(self._recorder.last.u)

    def __next__(self) -> AcceptedStep:
        altered = None if self._last is None else self._last.altered()
        with ordinary_mode(), torch.set_grad_enabled(bool(self._part.request.grad)):
            self._walk.send(altered)
        self._last = AcceptedStep(self._recorder, self._time)
        self._time = self._last.t
        return self._last


@ordinary_mode()
def steps(
    problem: Any,
    x: Tensor,
    method: str | None = None,
    *,
    steps: int | None = None,
    ts: Sequence[float] | Tensor | None = None,
    clock: str | Callable[[Tensor], Tensor] = "t",
    seed: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    adaptive: bool | None = None,
    progress: bool | str = False,
    options: Mapping[str, Any] | None = None,
    noise: BrownianPath | None = None,
    first: int = 0,
    event: Event | None = None,
    max_steps: int | None = None,
    max_nfe: int | None = None,
    max_seconds: float | None = None,
    grad: bool = False,
) -> Steps:
    """Solve by hand: an iterator over the accepted steps, in the memory of one.

        for step in diffsde.steps(rev, x1, "euler", steps=500, seed=0):
            print(step.t, step.dt, step.nfe)
            step.x = step.x.clamp(-3, 3)        # the solve goes on from there
            if step.t < 0.1:
                break

    The steps are those of `solve` with the same arguments, bit for bit. The solve goes on when the
    next step is asked for, so it can be left at any time and taken up again. Where samples have
    steps of their own, in adaptive solves, a step is one of the first sample's for a flow, and
    ends on one of the times asked for (50 by default) for an SDE; the whole batch is at that time.

    A state that is altered is a new start: a method of several steps (`dpmpp_2m`, `unipc`, the
    Adams methods) forgets the steps before, and an adaptive one keeps the lengths of its steps.

    Args:
        problem, x, method, steps, ts, clock, seed, rtol, atol, adaptive, progress, options: as
            `solve` takes them.
        noise, first, event, max_steps, max_nfe, max_seconds: likewise. An event ends the steps on
            its crossing.
        grad: keep the graph; it grows with the steps.

    Returns:
        An iterator of steps, each with `t`, `dt`, `x`, `nfe` and `stats`, and with `denoised()`,
        the clean images as they are seen from there.

    Raises:
        InputError: an argument does not fit; `UnknownSolverError` for a method's name.
        SolveError: from the iterator, as `solve` raises it.
    """
    if not isinstance(grad, bool):
        raise InputError(f"grad = {grad!r}: expected True or False; the adjoint solves as a whole")
    x, request = make_request(
        problem,
        x,
        method,
        steps=steps,
        ts=ts,
        clock=clock,
        seed=seed,
        rtol=rtol,
        atol=atol,
        adaptive=adaptive,
        progress=progress,
        options=options,
        noise=noise,
        grad=grad,
        event=event,
        max_steps=max_steps,
        max_nfe=max_nfe,
        max_seconds=max_seconds,
        by_hand=True,
    )
    with torch.set_grad_enabled(grad):
        return Steps(Part.of(request, x, numbered(first, len(x))))
