r"""A score model: a network with its forward process.

The score of a forward process at time t is s(x, t) = ∇ₓ log p_t(x); here every
score is called `(x, t)`, t a scalar or of shape (B,). Because x(t) given x(0) is
N(a x(0), s² I), a score is also a denoiser (Tweedie's formula):

    E[x(0) | x(t) = x]  =  ( x + s(t)² ∇ log p_t(x) ) / a(t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffsde.equations.counted import says_of
from diffsde.equations.forward import SDE, expand
from diffsde.equations.graphs import with_graph
from diffsde.equations.ranges import UNIT, Range, checked_range
from diffsde.errors import InputError, how_to_load
from diffsde.scores.drawing import Drawing
from diffsde.scores.labels import labels_for
from diffsde.scores.preconditioning import (
    PRECONDITIONINGS,
    Coefficients,
    Preconditioning,
    make_preconditioning,
)
from diffsde.system.host import on_host
from diffsde.system.numbers import whole_number
from diffsde.system.one_line import class_of, one_line
from diffsde.system.parameters import dtype_of
from diffsde.system.wrapped import unwrapped

__all__ = ["ScoreModel", "checked_shape"]

_MOST_AXES = 3


class ScoreModel(Drawing):
    """A network together with the forward process it was trained on: a score and a denoiser.

    Args:
        network: the body, called as (input, label) with a label of shape (B,). The
            preconditioning decides what it is called with, and what its output means. A body
            with an attribute `classes` > 0 is called as (input, label, class_label) when a
            class is given. One with an attribute `axes` takes samples of that many axes only; one
            with an attribute `pixel_levels`, such as `LevelUNet`, knows that values are levels.
        sde: the forward process.
        shape: of one sample: (C, H, W) of an image, (C, L) of a signal, (D,) of a point.
        preconditioning: a name from `PRECONDITIONINGS`, or one built with its arguments.
            "score", the default: the network is called as (x, t) and returns the score.
        data_range: the values of black and of white, in which its images are; (−1, 1) for the
            models of many libraries.

    Attributes:
        data: the name of the data set it was trained on, such as "mnist"; None if unknown.
        held_out: how many samples of that set, its last, it did not learn from; None if unknown.
        decoder: for a model of latents, called with a batch of them and returns images, whose
            values of black and white are its `data_range`; None for a model of images. Views
            take it as decode=.

    Coefficients are computed in x's dtype, the network in its own, so x may be float64.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: Sequence[int],
        preconditioning: str | Preconditioning = "score",
        data_range: Range = UNIT,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise InputError(
                f"network = {network!r:.80}: expected a torch.nn.Module{how_to_load(network)}"
            )
        self.network, self.sde = network, sde
        self.shape: tuple[int, ...] = checked_shape(shape)
        _check_axes(network, self.shape)
        self.data_range = checked_range(data_range)
        self.preconditioning = make_preconditioning(preconditioning)
        _check_scale(network, self.preconditioning, self.data_range)
        self.data: str | None = None
        self.held_out: int | None = None
        self.decoder: nn.Module | None = None

    @property
    def classes(self) -> int:  # type: ignore[override]
        """How many classes the network knows; 0 if it takes no labels."""
        return int(says_of(self.network, "classes", 0))

    @property
    def pixel_levels(self) -> int:
        """How many levels the network knows values to have, k / (levels − 1); 0 for any value."""
        return int(says_of(self.network, "pixel_levels", 0))

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.network.parameters())
        classes = f", {self.classes} classes" if self.classes else ""
        network = f"{class_of(unwrapped(self.network))} of {size:,} parameters{classes}"
        scale = "" if self.data_range == UNIT else f", data_range={self.data_range}"
        return f"ScoreModel({network}, {one_line(self.sde)}, shape={self.shape}{scale})"

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
        """The score ∇ log p_t(x), of x's shape (B, *shape); t is a scalar or of shape (B,).

        The `coefficients` at t may be given in its place, where they are known beforehand.

        With a class, which is a whole number or (B,) of them, it returns the score of that class
        alone, ∇ log p_t(x | class). The class −1, or none, gives the unconditional score.
        """
        output, c = self._body(x, t, class_label)
        return expand(c.score_skip, x) * x + expand(c.score_out, x) * output

    def denoise(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape: the best guess at the clean sample."""
        output, c = self._body(x, t, class_label)
        return expand(c.denoised_skip, x) * x + expand(c.denoised_out, x) * output

    @property
    def flow_only(self) -> bool:  # type: ignore[override]
        """Whether the network gives a probability flow but no reverse SDE."""
        return self.preconditioning.flow_only

    @property
    def velocity(self) -> Callable[..., Tensor] | None:
        """The drift of the flow, called (x, t, class_label=None), where the network predicts it.

        It is E[z − x(0) | x(t) = x], of x's shape; see `FlowPrediction`.
        """
        return self._velocity if self.preconditioning.predicts_velocity(self.sde) else None

    def _velocity(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        return self._body(x, t, class_label)[0]

    def _body(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None
    ) -> tuple[Tensor, Coefficients]:
        """The network's output, of x's shape and dtype, and what it means."""
        if isinstance(t, Coefficients):
            c = t
        else:
            c = self.coefficients(torch.as_tensor(t, dtype=x.dtype, device=x.device))
        dtype = dtype_of(self.network, x.dtype)
        told = () if class_label is None else (self._class_labels(class_label, x),)
        told_in = torch.promote_types(dtype, says_of(self.network, "label_dtype", dtype))
        label = c.label.expand(len(x)).contiguous().to(told_in)
        scaled = (expand(c.input, x) * x).to(dtype)
        output = with_graph(self.network, "network", scaled, label, *told)
        return output.to(x.dtype), c

    def _class_labels(self, class_label: Tensor | int, x: Tensor) -> Tensor:
        labels = labels_for(class_label, x)
        # Labels on another device are checked by those who hold them for a whole solve, once: here
        # the host would wait at every evaluation. The table of classes there has bounds, too.
        if not isinstance(class_label, Tensor) or class_label.device.type == "cpu":
            self.check_labels(class_label)
        return labels

    def check_labels(self, class_label: Tensor | int) -> None:
        """Check that the network knows these classes.

        Raises:
            InputError: it knows no classes, or a label is none of them.
        """
        if not self.classes:
            raise InputError(
                "this network takes no class labels: load one that does, such as "
                'load_pretrained("mnist"), or train with classes > 0'
            )
        labels = on_host(class_label).flatten().tolist() or [-1]
        if min(labels) < -1 or max(labels) >= self.classes:
            raise InputError(
                f"class labels from {min(labels)} to {max(labels)}: expected 0 to "
                f"{self.classes - 1}, or -1 for any class"
            )


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one sample: (D,), (C, L) or (C, H, W).

    Raises:
        InputError: it is none.
    """
    if not 1 <= len(shape) <= _MOST_AXES:
        raise InputError(
            f"shape = {tuple(shape)}: expected that of one sample, (channels, height, width) of an "
            "image, (channels, length) of a signal or (dimensions,) of a point"
        )
    return tuple(whole_number(n, "shape") for n in shape)


def _check_axes(network: nn.Module, shape: tuple[int, ...]) -> None:
    axes = says_of(network, "axes", None)
    if axes not in (None, len(shape)):
        raise InputError(
            f"shape = {shape} with {class_of(unwrapped(network))}: expected {axes} axes, as its "
            "layers take; for points and signals choose another network"
        )


def _check_scale(network: nn.Module, preconditioning: Preconditioning, data_range: Range) -> None:
    """Check that a network that undoes the preconditioning knows it, and has its data's range."""
    scale, given = says_of(network, "sigma_data", None), preconditioning.sigma_data
    undoes = says_of(network, "waves", ()) or says_of(network, "pixel_levels", 0)
    name = class_of(unwrapped(network))
    if undoes and scale not in (None, given):
        raise InputError(
            f"sigma_data = {given:g} of the preconditioning, but {name} has {scale:g}, by which it "
            "finds the pixels that it is given: give both the same"
        )
    if says_of(network, "pixel_levels", 0):
        expected = PRECONDITIONINGS[says_of(network, "preconditioning", "")]
        if type(preconditioning) is not expected or data_range != UNIT:
            raise InputError(
                f"{name} with {type(preconditioning).__name__} and data_range = {data_range}: "
                f"expected {expected.__name__} and {UNIT}, because it returns a mean of levels"
            )
