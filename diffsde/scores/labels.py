r"""Class labels: one for all samples of a batch, or one for each."""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.equations.graphs import ordinary
from diffsde.equations.rows import own_rows
from diffsde.errors import InputError

__all__ = ["Label", "labels_for"]

Label = int | Tensor
"""A class, or (B,) classes."""


def labels_for(label: Label, x: Tensor) -> Tensor:
    """A label, or one for each sample, as whole numbers of shape (n,) for x (n, …).

    Of labels (B,) for a batch of which x is a part, those of the part.

    Raises:
        InputError: it is another number of labels, or they are not whole.
    """
    if isinstance(label, int):
        return torch.full((len(x),), label, device=x.device)  # made there, not moved
    labels = own_rows(ordinary(torch.as_tensor(label, device=x.device)))
    if labels.is_floating_point() or labels.shape not in ((), (len(x),)):
        raise InputError(
            f"label of shape {tuple(labels.shape)}, {labels.dtype}: expected a whole number, or "
            f"{len(x)} of them, one for each sample"
        )
    return labels.long().expand(len(x))
