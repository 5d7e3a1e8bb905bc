r"""Rows: which samples of a batch are being evaluated, for scores that have something for each.

Where a batch is solved part after part, a score is asked about some of its samples at a time, and
where every sample has steps of its own, about those that have still to go. A score that holds one
label or one observation for each sample of the batch takes those of these samples by `own_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["only_part", "only_rows", "own_rows"]

_ROWS: ContextVar[tuple[Tensor, int] | None] = ContextVar("rows", default=None)


@contextmanager
def only_rows(rows: Tensor, size: int) -> Iterator[None]:
    """Within this context, some rows of a batch are evaluated.

    Where that batch is itself a part of one, they are rows of the whole.

    Args:
        rows: (n,) their indices, rising.
        size: B, of the batch.
    """
    whole = _ROWS.get()
    if whole is not None and len(whole[0]) == size:
        rows, size = whole[0][rows], whole[1]
    before = _ROWS.set((rows, size) if len(rows) < size else None)
    try:
        yield
    finally:
        _ROWS.reset(before)


def only_part(start: int, end: int, size: int) -> AbstractContextManager[None]:
    """Within this context, the samples from `start` to `end` − 1 of `size` are evaluated."""
    return only_rows(torch.arange(start, end, device="cpu"), size)


def own_rows(values: Tensor) -> Tensor:
    """Those of (B, …) values, one for each sample, that belong to the samples being evaluated.

    What has another length than the batch, such as (1, …) for all samples, stays as it is.
    """
    rows = _ROWS.get()
    if rows is None or not values.dim() or len(values) != rows[1]:
        return values
    return values[rows[0].to(values.device)]
