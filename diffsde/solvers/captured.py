r"""Captured chunks: what a device is told for one chunk is told again for those that follow.

All chunks of one size take the same steps at the same times, so a device is told the same for each,
but for the states to begin with, the samples that they are, and what a score has for each of them.
The first chunk is solved like any other, by which everything that is made once is made, and the
host's copies are noted. The second is captured as it is told, and replayed; those after it are
replayed alone. Whether their numbers are good is known at their end: a chunk that is not is solved
again, step by step, to say where it went wrong.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from diffsde.equations.rows import only_rows
from diffsde.errors import InputError
from diffsde.noise.sample_run import SampleRun
from diffsde.solvers.parts import Part, solve_part
from diffsde.solvers.request import Request
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.captures import CAPTURES, HostCopies

__all__ = ["CapturedChunks", "check_capture"]


def check_capture(request: Request, x: Tensor, chunk: int | None) -> None:
    """Whether a solve can be captured.

    Raises:
        InputError: it cannot.
    """
    reason = _reason_against(request, x.device, chunk)
    if reason is not None:
        raise InputError(f"capture=True: {reason}")


def _reason_against(request: Request, device: torch.device, chunk: int | None) -> str | None:
    name = request.solver.name
    if chunk is None:
        return "a chunk is captured, and replayed for those after it. Give chunk= as well"
    if device.type not in CAPTURES:
        kinds = ", ".join(sorted(CAPTURES))
        return f"x is on {device.type}, expected {kinds}. Leave capture out, or move x there"
    if request.adaptive or request.solver.one_step is None:
        return f"{name} chooses its steps as it goes. Take fixed steps, or leave capture out"
    if request.solver.iterates:
        return f"{name} asks at each step whether it has converged. Take another method"
    if request.rules.look:
        return "callback, event and max_seconds look at each step. Leave them out, or capture"
    if request.grad:
        return "no gradient goes through what is replayed. Leave grad out, or capture"
    return None


class CapturedChunks:
    """The chunks of a solve, in their order.

    Args:
        request: what to solve.
        x: (N, …), the states at the start of all chunks.
        first: index of the first sample.
        size: samples in a chunk.
    """

    def __init__(self, request: Request, x: Tensor, first: int, size: int) -> None:
        self._request, self._all, self._first = request, x, first
        # What differs from chunk to chunk; it stays in its place on the device.
        self._x = x[:size].clone()
        self._samples = SampleRun(first, len(self._x), x.device)
        self._rows = SampleRun(0, len(self._x), x.device)
        self._copies, self._capture = HostCopies(), CAPTURES[x.device.type]()
        self._solved: Trajectory | None = None  # the first chunk
        self._result: _Result | None = None  # what the last replay has left

    def part(self, start: int, end: int) -> Trajectory:
        """The trajectory of the samples from `start` to `end` − 1; its states until the next call.

        Raises:
            InputError: the solve cannot be captured.
            SolveError: it stopped before its end.
        """
        self._samples.move(self._first + start)
        self._rows.move(start)
        if end - start < len(self._x):  # the last
            return self._step_by_step(start, end)
        self._x.copy_(self._all[start:end])
        if self._solved is None:
            with self._copies.noted():
                self._solved = self._step_by_step(start, end)
            return self._solved
        return self._replayed(start, end, self._solved)

    def _step_by_step(self, start: int, end: int) -> Trajectory:
        samples = range(self._first + start, self._first + end)
        with self._own_rows(end - start):
            return solve_part(self._request, self._all[start:end], samples)

    def _own_rows(self, count: int) -> AbstractContextManager[None]:
        """The rows of a chunk, which are on the device, so that none are copied there."""
        return only_rows(self._rows.there[:count], len(self._all))

    def _replayed(self, start: int, end: int, like: Trajectory) -> Trajectory:
        began = time.perf_counter()
        result = self._result = self._result or self._captured()
        self._capture.replay()
        if not bool(result.good):  # the only time that the host waits
            return self._step_by_step(start, end)
        stats = replace(like.stats, seconds=time.perf_counter() - began)
        # The next replay writes where this one did; whoever joins the chunks copies their states.
        estimates = None if result.estimates is None else result.estimates.clone()
        return replace(
            like, ys=result.ys, denoised=estimates, stats=stats, _dense=None, _resume=None
        )

    def _captured(self) -> _Result:
        try:
            rows = self._own_rows(len(self._x))
            with self._copies.repeated(), self._capture.taken(), rows:
                return _Result(Part.of(self._request, self._x, self._samples))
        except Exception as error:
            raise InputError(
                f"capture=True: this solve cannot be captured ({type(error).__name__}: {error}). "
                "Leave capture out"
            ) from error


class _Result:
    """A solve from its first step to its last, which looks at no number.

    Attributes:
        ys: (T, B, …) the states that are saved.
        estimates: (T, B, …) clean images as they are seen from there; None if not asked for.
        good: () bool, whether all numbers are finite and within bounds.
    """

    def __init__(self, part: Part) -> None:
        self._part = part  # whose tensors are captured, so they must stay
        recorder, checks = part.driver.recorder, part.state.checks
        for step in part.stepping(part.state):
            checks.state(step.x)
            recorder.count_step()
            recorder.take(step)
        part.add_clean_images()
        self.ys, self.estimates = recorder.states(), recorder.estimates()
        self.good = checks.verdict()
