r"""Chunks: a large batch solved part after part, to bound memory.

The noise of a sample does not depend on its part, so the samples are those of one solve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from diffsde.equations.rows import only_part
from diffsde.errors import DiffSDEError, InputError, SolveError
from diffsde.solvers.captured import CapturedChunks
from diffsde.solvers.parts import solve_part
from diffsde.solvers.request import Request
from diffsde.solvers.trajectory import Stats, Trajectory

__all__ = ["joined", "solve_in_chunks"]


def solve_in_chunks(
    request: Request, x: Tensor, first: int, size: int, *, capture: bool
) -> Trajectory:
    """Solve `size` samples at a time.

    Args:
        request: what to solve.
        x: (B, …), the states at the start.
        first: index of the first sample.
        size: samples in a part.
        capture: whether to replay what the device is told; see `captured`.
    """
    own_steps = request.adaptive and request.solver.kind == "ode"
    if own_steps and request.steps is None and request.ts is None and request.save == "all":
        raise InputError(
            f"chunk with {request.solver.name}: every part would have times of its own. "
            "Give steps=, ts=, or save= with a number of times"
        )
    if request.rules.event is not None:
        raise InputError("chunk with event: every part would end at a time of its own")
    parts: list[Trajectory] = []
    solve: Callable[[int, int], Trajectory] = partial(_solved, request, x, first)
    if capture:
        solve = CapturedChunks(request, x, first, size).part
    for start in range(0, len(x), size):
        try:
            end = min(start + size, len(x))
            part = solve(start, end)
            if not parts:
                ys = part.ys.new_empty((len(part), *x.shape))
            if len(part) != len(ys):
                raise InputError("chunk with callback: the parts were stopped at different times")
        except (DiffSDEError, KeyboardInterrupt) as error:
            if not parts:
                raise
            raise _with_finished(error, parts, ys[:, :start], first) from error
        # Only the joined states stay in memory.
        ys[:, start : start + size] = part.ys
        part.ys = ys[:, start : start + size]
        parts.append(part)
    return joined(parts, ys)


def _solved(request: Request, x: Tensor, first: int, start: int, end: int) -> Trajectory:
    with only_part(start, end, len(x)):
        return solve_part(request, x[start:end], range(first + start, first + end))


def _with_finished(
    error: DiffSDEError | KeyboardInterrupt, parts: list[Trajectory], ys: Tensor, first: int
) -> BaseException:
    """The error again, with the samples that were finished before it."""
    words = (
        f"{error}. Samples {first} to {first + ys.shape[1] - 1} were finished before: they are "
        "in this error's trajectory, and the path of the chunk that failed is in its cause's"
    )
    finished = joined(parts, ys)
    if isinstance(error, SolveError):
        return type(error)(words, finished)
    again = type(error)(words)
    again.trajectory = finished  # type: ignore[union-attr]
    return again


def joined(parts: Sequence[Trajectory], ys: Tensor | None = None) -> Trajectory:
    """The path of all samples, from those of the first ones, the next ones, and so on.

    Args:
        parts: at least one, with the same times.
        ys: their states (T, B, …) if they have been joined already.
    """
    stats = Stats(
        max(p.stats.nfe for p in parts),
        max(p.stats.steps for p in parts),
        sum(p.stats.rejected for p in parts),
        sum(p.stats.seconds for p in parts),
    )
    estimates = [p.denoised for p in parts if p.denoised is not None]
    evaluations = [p.evaluations for p in parts if p.evaluations is not None]
    dense = all(p._dense is not None for p in parts)
    return replace(
        parts[0],
        ys=torch.cat([p.ys for p in parts], dim=1) if ys is None else ys,
        stats=stats,
        denoised=torch.cat(estimates, dim=1) if estimates else None,
        evaluations=torch.stack(evaluations).amax(0),
        _dense=(lambda _, t: torch.cat(list(_states(parts, t)))) if dense else None,
        _resume=None,
    )


def _states(parts: Sequence[Trajectory], t: float) -> Iterator[Tensor]:
    """The states of each part at t, for which its solver may ask the score again."""
    ends = list(accumulate(part.ys.shape[1] for part in parts))
    for part, start, end in zip(parts, [0, *ends], ends, strict=False):
        with only_part(start, end, ends[-1]):
            yield part(t)
