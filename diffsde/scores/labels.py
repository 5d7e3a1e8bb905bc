r"""Class labels: one for all samples of a batch, or one for each."""

from __future__ import annotations

import torch
from torch import Tensor

from diffsde.equations.graphs import ordinary
from diffsde.equations.rows import own_rows
from diffsde.errors import InputError

__all__ = ["Label", "check_label", "labels_for"]

Label = int | Tensor
"""A class, or (B,) classes."""


def check_label(label: Label, classes: int | None = None) -> None:
    """Refuse what can be no label, before anything is computed.

    Args:
        label: a class, or (B,) classes.
        classes: how many there are; None if that is not known.

    Raises:
        InputError: the score takes no labels, or there is no such class.
    """
    if classes == 0:
        raise InputError(
            f"label = {label!r:.40}: this score takes no class labels; load a model that does, "
            'such as load_pretrained("mnist"), or train one with classes > 0'
        )
    found = torch.as_tensor(label).flatten().tolist()
    whole = found and all(isinstance(k, int) and not isinstance(k, bool) for k in found)
    if not whole or (classes is not None and not 0 <= min(found) <= max(found) < classes):
        expected = "a whole number" if classes is None else f"0 to {classes - 1}, the classes"
        raise InputError(f"label = {label!r:.40}: expected {expected}, or one for each sample")


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
