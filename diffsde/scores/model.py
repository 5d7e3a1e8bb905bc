r"""A score model: a network with its forward process.

The score of a forward process at time t is s(x, t) = ∇ₓ log p_t(x); here every
score is called `(x, t)`, t a scalar or of shape (B,). Because x(t) given x(0) is
N(a x(0), s² I), a score is also a denoiser (Tweedie's formula):

    E[x(0) | x(t) = x]  =  ( x + s(t)² ∇ log p_t(x) ) / a(t).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import ordinary, with_graph
from diffsde.errors import InputError
from diffsde.scores.preconditioning import Coefficients, Preconditioning, make_preconditioning
from diffsde.system.one_line import class_of, one_line

__all__ = ["ScoreModel", "labels_for"]


class ScoreModel(nn.Module):
    """A network together with the forward process it was trained on: a score and a denoiser.

    Args:
        network: the body, called as (input, label) with a label of shape (B,). The
            preconditioning decides what it is called with, and what its output means. A body
            with an attribute `classes` > 0 is called as (input, label, class_label) when a
            class is given.
        sde: the forward process.
        shape: (C, H, W) of one image.
        preconditioning: a name from `PRECONDITIONINGS`, or one built with its arguments.
            "score", the default: the network is called as (x, t) and returns the score.

    Attributes:
        data: the name of the data set it was trained on, such as "mnist"; None if unknown.

    Coefficients are computed in x's dtype, the network in its own, so x may be float64.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: Sequence[int],
        preconditioning: str | Preconditioning = "score",
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise InputError(f"shape = {tuple(shape)}: expected (channels, height, width)")
        self.network, self.sde = network, sde
        self.shape: tuple[int, ...] = tuple(shape)
        self.preconditioning = make_preconditioning(preconditioning)
        self.data: str | None = None

    @property
    def classes(self) -> int:
        """How many classes the network knows; 0 if it takes no labels."""
        return getattr(self.network, "classes", 0)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.network.parameters())
        classes = f", {self.classes} classes" if self.classes else ""
        network = f"{class_of(self.network)} of {size:,} parameters{classes}"
        return f"ScoreModel({network}, {one_line(self.sde)}, shape={self.shape})"

    def coefficients(self, t: Tensor) -> Coefficients:
        """What depends on time alone, at times t of any shape: for the network, and its meaning."""
        return self.preconditioning.coefficients(self.sde, t)

    def prepare(self, times: Tensor) -> Sequence[Tensor | Coefficients]:
        """The coefficients at each of the times (n,), which `forward` takes in place of a time.

        A subclass that writes its own `forward` is given the times themselves, unless it also
        writes its own `prepare`.
        """
        if type(self).forward is not ScoreModel.forward:
            return times.unbind()
        columns = [column.unbind() for column in self.coefficients(times)]
        return [Coefficients(*row) for row in zip(*columns, strict=True)]

    def forward(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        """The score ∇ log p_t(x), of x's shape (B, C, H, W); t is a scalar or of shape (B,).

        The `coefficients` at t may be given in its place, where they are known beforehand.

        With a class, which is a whole number or (B,) of them, it returns the score of that class
        alone, ∇ log p_t(x | class). The class −1, or none, gives the unconditional score.
        """
        output, c = self._body(x, t, class_label)
        return expand(c.score_skip, x) * x + expand(c.score_out, x) * output

    def denoise(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape: the best guess at the clean image."""
        output, c = self._body(x, t, class_label)
        return expand(c.denoised_skip, x) * x + expand(c.denoised_out, x) * output

    def _body(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None
    ) -> tuple[Tensor, Coefficients]:
        """The network's output, of x's shape and dtype, and what it means."""
        if isinstance(t, Coefficients):
            c = t
        else:
            c = self.coefficients(torch.as_tensor(t, dtype=x.dtype, device=x.device))
        dtype = next((p.dtype for p in self.network.parameters()), x.dtype)
        told = () if class_label is None else (self._class_labels(class_label, x),)
        label = c.label.expand(len(x)).contiguous().to(dtype)
        scaled = (expand(c.input, x) * x).to(dtype)
        output = with_graph(self.network, "network", scaled, label, *told)
        return output.to(x.dtype), c

    def _class_labels(self, class_label: Tensor | int, x: Tensor) -> Tensor:
        if not self.classes:
            raise InputError(
                "this network takes no class labels: load one that does, such as "
                'load_pretrained("mnist"), or train with classes > 0'
            )
        labels = labels_for(class_label, x)
        if int(labels.min()) < -1 or int(labels.max()) >= self.classes:
            raise InputError(
                f"class labels from {int(labels.min())} to {int(labels.max())}: expected 0 to "
                f"{self.classes - 1}, or -1 for any class"
            )
        return labels


def labels_for(label: Tensor | int, x: Tensor) -> Tensor:
    """A label, or one for each sample of x (B, …), as whole numbers of shape (B,).

    Raises:
        InputError: it is another number of labels, or they are not whole.
    """
    labels = ordinary(torch.as_tensor(label, device=x.device))
    if labels.is_floating_point() or labels.shape not in ((), (len(x),)):
        raise InputError(
            f"label of shape {tuple(labels.shape)}, {labels.dtype}: expected a whole number, or "
            f"{len(x)} of them, one for each sample"
        )
    return labels.long().expand(len(x))
