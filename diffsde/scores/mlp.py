r"""A small network for points, signals and anything else without neighbours to convolve.

Samples are flattened. The last layer and every residual branch start at zero: untrained, the
network returns zero.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.scores.score_unet import FourierFeatures

__all__ = ["MLP"]

_FREQUENCY = 1.0  # of the label's features: a label ¼ ln σ changes by about one over all noise


class _Residual(nn.Module):
    """Two layers around a shift and scale by the noise level, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.film = nn.Linear(width, 2 * width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.film, self.second):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding).chunk(2, 1)
        inner = self.first(self.norm(h) * (1 + scale) + shift)
        added: Tensor = h + self.second(nn.functional.silu(inner))
        return added


class MLP(nn.Module):
    """A residual network of dense layers, for samples of any shape.

    Args:
        features: numbers in one sample: D of a point, C·L of a signal.
        width: of its layers.
        depth: residual blocks.
        classes: number of classes; 0 for a network that takes no class labels.
    """

    def __init__(
        self, *, features: int = 2, width: int = 128, depth: int = 3, classes: int = 0
    ) -> None:
        super().__init__()
        if min(features, width, depth) < 1 or width % 2 or classes < 0:
            raise InputError(
                f"features = {features}, width = {width}, depth = {depth}, classes = {classes}: "
                "expected positive numbers, width even, and classes 0 or more"
            )
        self.features, self.width, self.depth, self.classes = features, width, depth, classes
        self.embed = nn.Sequential(
            FourierFeatures(width, _FREQUENCY), nn.Linear(width, width), nn.SiLU()
        )
        if classes:
            # Zero at first, so that an untrained class label has the same effect as none.
            self.embed_class = nn.Embedding(classes, width, _weight=torch.zeros(classes, width))
        self.first = nn.Linear(features, width)
        self.middle = nn.ModuleList(_Residual(width) for _ in range(depth))
        self.last = nn.Linear(width, features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @staticmethod
    def arguments(shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments that samples of this shape need."""
        return {"features": math.prod(shape)}

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """F(x, label), of x's shape (B, …), for labels of shape (B,).

        A class label is (B,) whole numbers, −1 for a sample without a class label.
        """
        if x[0].numel() != self.features:
            raise InputError(
                f"samples of shape {tuple(x.shape[1:])} for an MLP of {self.features} features: "
                "expected as many numbers in each"
            )
        embedding = self.embed(label)
        if class_label is not None:
            of_class = self.embed_class(class_label.clamp(min=0))
            embedding = embedding + of_class * (class_label >= 0)[:, None]
        h = self.first(x.flatten(1))
        for block in self.middle:
            h = block(h, embedding)
        output: Tensor = self.last(nn.functional.silu(h))
        return output.reshape(x.shape)

    def config(self) -> dict[str, Any]:
        """The arguments from which this network can be rebuilt."""
        return {
            "features": self.features,
            "width": self.width,
            "depth": self.depth,
            "classes": self.classes,
        }
