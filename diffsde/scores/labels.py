r"""Class labels: one for all samples of a batch, or one for each, which may be drawn at random.

To draw a class first and then a sample of it is to draw a sample of all: p(x) = Σ p(k) p(x | k).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from diffsde.equations.graphs import ordinary
from diffsde.equations.rows import own_rows
from diffsde.errors import InputError
from diffsde.noise.normal import NormalTable
from diffsde.system.host import on_host

__all__ = ["RANDOM", "Label", "check_label", "chosen_label", "labels_for", "random_classes"]

Label = int | Tensor
"""A class, or (B,) classes."""

RANDOM: Literal["random"] = "random"
"""In place of a label: a random class for each sample."""


def chosen_label(
    label: Label | str | None, classes: int, seed: int, samples: Sequence[int]
) -> Label | None:
    """The label that is asked for: itself, or for "random" a class for each sample.

    Args:
        label: a class, (n,) classes, "random", or None for none.
        classes: how many there are.
        seed: of random classes.
        samples: the indices of the n samples.

    Raises:
        InputError: it is another word, or random classes of a score that takes none.
    """
    if not isinstance(label, str):
        return label
    if label != RANDOM or not classes:
        raise _no_label(label, classes)
    return random_classes(classes, seed, samples)


def random_classes(among: int | Tensor, seed: int, samples: Sequence[int]) -> Tensor:
    """A random class for each sample, (n,); that of sample i depends on (seed, i) alone.

    Args:
        among: how many classes there are, which are then equally frequent; or labels (N,), among
            which a class is as frequent as in the draws.
        seed: of the draws.
        samples: the indices of the n samples.
    """
    count = among if isinstance(among, int) else len(among)
    drawn = NormalTable(seed, "class").rows(samples, 0, (1,), torch.float64)
    places = (torch.special.ndtr(drawn[:, 0]) * count).long()
    return places if isinstance(among, int) else among[places]


def check_label(label: Label, classes: int | None = None) -> None:
    """Refuse what can be no label, before anything is computed.

    Args:
        label: a class, or (B,) classes.
        classes: how many there are; None if that is not known.

    Raises:
        InputError: the score takes no labels, or there is no such class.
    """
    if classes == 0 or isinstance(label, str):
        raise _no_label(label, classes)
    try:
        found = torch.as_tensor(label).flatten().tolist()
    except (RuntimeError, TypeError, ValueError) as error:  # what torch makes no numbers of
        raise _no_label(label, classes) from error
    whole = found and all(isinstance(k, int) and not isinstance(k, bool) for k in found)
    if not whole or (classes is not None and not 0 <= min(found) <= max(found) < classes):
        raise _no_label(label, classes)


def _no_label(label: Label | str, classes: int | None) -> InputError:
    if classes == 0:
        return InputError(
            f"label = {label!r:.40}: this score takes no class labels; load a model that does, "
            'such as load_pretrained("mnist"), or train one with classes > 0'
        )
    expected = "a whole number" if classes is None else f"0 to {classes - 1}, the classes"
    return InputError(
        f"label = {label!r:.40}: expected {expected}, one for each sample, or, where samples are "
        "drawn, 'random'"
    )


def labels_for(label: Label, x: Tensor) -> Tensor:
    """A label, or one for each sample, as whole numbers of shape (n,) for x (n, …).

    Of labels (B,) for a batch of which x is a part, those of the part.

    Raises:
        InputError: it is another number of labels, or they are not whole.
    """
    if isinstance(label, int):
        return torch.full((len(x),), label, device=x.device)  # made there, not moved
    labels = own_rows(ordinary(on_host(label).to(x.device)))
    if labels.is_floating_point() or labels.shape not in ((), (len(x),)):
        raise InputError(
            f"label of shape {tuple(labels.shape)}, {labels.dtype}: expected a whole number, or "
            f"{len(x)} of them, one for each sample"
        )
    return labels.long().expand(len(x))
