r"""Adaptive steps: each sample has its own time and its own step.

A step is tried, its error is measured for each sample by itself (see `control`), and it is kept
where the error is within the tolerance and tried again, shorter, where it is not. No accepted
step exceeds the tolerance. The path of a sample depends on the tolerance, on its start and on its
noise, but not on its batch: samples that have arrived leave the batch.

A solve hands out states of the whole batch at one time, a `Frame`. Where each sample is on its
own, the times of frames are those of the nodes, on which every sample lands, and the ends of the
first sample's steps, where a method knows the states within its steps (dense output). A sample
that is ahead of the first one waits for it, so its last step is all that has to be kept.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from diffsde.equations.rows import only_rows
from diffsde.solvers.control import Control
from diffsde.solvers.state import SolveState, Step, Walk
from diffsde.system.host import on_host

__all__ = ["Attempts", "Trial", "put", "taken", "walk_own_steps"]


class Trial(Protocol):
    """Steps that were tried by some samples."""

    x: Tensor  # (n, D), the states at their ends
    error: Tensor  # (n,), float64, on the CPU: accepted if at most 1


T = TypeVar("T", bound=Trial)


class Attempts(Protocol[T]):
    """A method that can tell the error of its steps.

    Rows are indices into the batch, (n,), on the CPU.

    Attributes:
        dense: whether it knows the states within its last steps.
    """

    dense: bool

    def begin(self, u: Tensor, x: Tensor) -> None:
        """Begin at a time, (B,) of one value, with the states (B, D)."""

    def first_steps(self) -> Tensor:
        """The lengths of the first steps to try, (B,)."""

    def attempt(self, rows: Tensor, u0: Tensor, u1: Tensor, x: Tensor) -> T:
        """Try steps of some samples, from their times (n,) and states (n, D)."""

    def keep(self, rows: Tensor, trial: T, accepted: Tensor) -> None:
        """Learn which of the steps were accepted, (n,) bool."""

    def between(self, rows: Tensor, u: float) -> Tensor:
        """The states of some samples at a time within their last steps, (n, D)."""


@dataclass
class _Frame:
    """The states of the batch at one time, as they come in."""

    x: Tensor
    missing: Tensor  # (B,) bool

    def fill(self, rows: Tensor, values: Tensor) -> None:
        self.x = put(self.x, rows, values)
        self.missing[rows] = False


def put(whole: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """A copy of `whole` with some rows replaced, in rising order; autograd sees it."""
    if len(rows) == len(whole):
        return values
    return whole.index_copy(0, rows.to(whole.device), values)


def taken(whole: Tensor, which: Tensor) -> Tensor:
    """Some rows of a tensor, given by rising indices or by truth values."""
    # Truth values on a device would make the host wait for their number; these are the host's.
    rows = _rows(which) if which.dtype == torch.bool else which
    return whole if len(rows) == len(whole) else whole[rows.to(whole.device)]


def _rows(which: Tensor) -> Tensor:
    return which.nonzero()[:, 0]


def walk_own_steps(state: SolveState, x: Tensor, attempts: Attempts[Any], control: Control) -> Walk:
    """Step each sample by its own error, landing all of them on every node.

    Args:
        state: what the method was given.
        x: (B, D), the states to begin with.
        attempts: the method.
        control: of the steps.
    """
    samples = _Samples(state, x, attempts, control)
    while samples.going or samples.frames:
        ready = samples.ready()
        if ready is None:
            samples.advance()
            continue
        altered = yield ready
        if altered is not None and ready.u < state.nodes[-1]:
            samples.begin(ready.u, altered.to(x.dtype).reshape(x.shape))


class _Samples:
    """Where every sample is, and the frames that not all of them have reached."""

    def __init__(
        self, state: SolveState, x: Tensor, attempts: Attempts[Any], control: Control
    ) -> None:
        self.state, self.attempts, self.control = state, attempts, control
        self.steps = state.steps = torch.zeros(len(x), dtype=torch.long, device="cpu")
        self.begin(state.nodes[0], x)
        self.h = attempts.first_steps().clamp(control.smallest, control.largest)

    def begin(self, u: Tensor, x: Tensor) -> None:
        """Begin with all samples at one time."""
        self.x, self.u = x, u.double().cpu().expand(len(x)).clone()
        self.attempts.begin(self.u.clone(), x)
        self.before = torch.ones_like(self.u)  # the error of the last accepted step
        self.next = (self.state.nodes <= u).sum().expand(len(x)).clone()  # the node ahead
        self.frames: dict[float, _Frame] = {}

    @property
    def going(self) -> bool:
        """Whether any sample has still to step."""
        return bool((self.next < len(self.state.nodes)).any())

    def ready(self) -> Step | None:
        """The earliest frame, if all samples have reached it."""
        u = min(self.frames, default=None)
        if u is None or bool(self.frames[u].missing.any()):
            return None
        x = self.frames.pop(u).x.to(self.state.x.dtype).reshape(self.state.x.shape)
        return Step(on_host(u, torch.float64), x)

    def advance(self) -> None:
        """Try one step of every sample that has still to go and need not wait."""
        ahead = self.next < len(self.state.nodes)
        if self.attempts.dense and bool(ahead[0]):
            ahead &= self.u <= self.u[0]
        rows = _rows(ahead)
        tried, u0 = self.h[rows], self.u[rows]
        u1, lands = self.control.ends(u0, tried, self.state.nodes[self.next[rows]])
        with self._only(rows):
            trial = self.attempts.attempt(rows, u0, u1, taken(self.x, rows))
        accepted = trial.error <= 1
        self.control.refuse_hopeless(self.state, u1 - u0, accepted)
        self._count(rows, accepted)
        self._choose_next(rows, tried, u1 - u0, trial.error, accepted)
        self.attempts.keep(rows, trial, accepted)
        done = rows[accepted]
        self.u[done] = u1[accepted]
        self.x = put(self.x, done, taken(trial.x, accepted))
        self._note_frames(done, rows[accepted & lands])
        self._fill_frames()

    def _only(self, rows: Tensor) -> AbstractContextManager[None]:
        """Scores are asked about these rows of the batch, and not about all of it."""
        return only_rows(rows, len(self.x))

    def _count(self, rows: Tensor, accepted: Tensor) -> None:
        self.state.rejected += int((~accepted).sum())
        self.steps[rows] += accepted

    def _choose_next(
        self, rows: Tensor, tried: Tensor, h: Tensor, error: Tensor, accepted: Tensor
    ) -> None:
        wanted = self.control.next(h, error, self.before[rows], accepted)
        # Landing on a node may cut a step short; the next one need not be short too.
        self.h[rows] = torch.where(accepted & (h < tried), torch.maximum(wanted, tried), wanted)
        self.before[rows] = torch.where(accepted, error, self.before[rows])

    def _note_frames(self, done: Tensor, landed: Tensor) -> None:
        """Open the frames of the nodes on which samples landed, and of the first one's step."""
        self.next[landed] += 1
        opened = self.u[landed].tolist()
        if self.attempts.dense and bool((done == 0).any()):
            opened.append(float(self.u[0]))
        for u in opened:
            if u not in self.frames:
                missing = torch.ones(len(self.x), dtype=torch.bool, device="cpu")
                self.frames[u] = _Frame(torch.empty_like(self.x), missing)

    def _fill_frames(self) -> None:
        for u, frame in self.frames.items():
            here = _rows(frame.missing & (self.u == u))
            if len(here):
                frame.fill(here, taken(self.x, here))
            passed = _rows(frame.missing & (self.u > u))
            if len(passed):
                with self._only(passed):
                    frame.fill(passed, self.attempts.between(passed, u))
