"""What every data set in memory has, and the one of real numbers: points, signals, latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.system.digest import digest
from diffsde.system.host import on_host
from diffsde.system.parameters import finest_dtype

__all__ = ["ArrayData", "Contents", "Samples", "as_labels"]

_MEASURED = 4096  # samples from which a scale is measured: its error is below that of a sample


class Contents(NamedTuple):
    """What a reader found.

    Attributes:
        name: of the data set.
        samples: images, uint8 (N, C, H, W); or real numbers, float32 (N, …).
        labels: int64 (N,), or None.
        class_names: the names of labels 0, 1, …, where they are known.
    """

    name: str
    samples: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()


class Samples:
    """Base of `ImageData` and `ArrayData`: what training asks of a data set.

    Attributes:
        name: of the data set.
        labels: int64, shape (N,), or None if the samples have no labels.
        data_range: the values of black and of white.
    """

    name: str
    labels: Tensor | None
    data_range: tuple[float, float]

    @property
    def samples(self) -> Tensor:
        """All samples as they are kept, (N, …)."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W), (C, L) or (D,)."""
        return tuple(self.samples.shape[1:])

    def mean(self) -> Tensor:
        """The mean sample, float32, of shape `shape`."""
        raise NotImplementedError

    def batch(self, index: Tensor) -> Tensor:
        """The samples with these indices, float32, shape (len(index), *shape)."""
        raise NotImplementedError

    def rms(self) -> float:
        """The root mean square of all numbers, measured on at most 4,096 samples."""
        return float(self._some().square().mean().sqrt())

    def spread(self) -> float:
        """The standard deviation of the coordinate that varies most, measured likewise."""
        return float(self._some().std(0, correction=0).max())

    def digest(self) -> str:
        """16 hexadecimal digits of all samples and of their labels, if there are any."""
        return digest([self.samples] if self.labels is None else [self.samples, self.labels])

    def _some(self) -> Tensor:
        """Samples at equal distances, float64, on the host."""
        step = math.ceil(len(self) / _MEASURED)
        return self.batch(torch.arange(0, len(self), step, device="cpu")).cpu().double()

    def known_labels(self) -> Tensor:
        """Return the labels.

        Raises:
            InputError: there are none.
        """
        if self.labels is None:
            raise InputError(f"{self.name} has no labels: choose data with labels, such as mnist")
        return self.labels

    def check_classes(self, classes: int) -> None:
        """Check that every label is one of that many classes.

        Raises:
            InputError: a label is not, or there are no labels.
        """
        found = int(self.known_labels().max()) + 1
        if found > classes:
            raise InputError(
                f"{self.name} has {found} classes, but the network knows {classes}: set "
                f"classes to {found}, or choose other data"
            )

    def _check(self, fits: bool, expected: str) -> None:
        if not fits or not self.samples.numel():
            raise InputError(
                f"{self.name}: {self.samples.dtype} of shape {tuple(self.samples.shape)}: "
                f"expected {expected}"
            )
        self._check_labels()

    def _check_labels(self) -> None:
        labels = self.labels
        if labels is None:
            return
        whole = not (labels.is_floating_point() or labels.is_complex())
        if not whole or labels.shape != (len(self),) or int(labels.min()) < 0:
            raise InputError(
                f"{self.name}: labels {labels.dtype} of shape {tuple(labels.shape)}: expected "
                f"({len(self)},) whole numbers from 0, one for each sample"
            )


@dataclass(frozen=True)
class ArrayData(Samples):
    """Samples of real numbers in memory: points, signals, or latents.

    Attributes:
        name: of the data set.
        values: float32, shape (N, D) for points, (N, C, L) for signals, or (N, C, H, W). Other
            floats are converted.
        labels: int64, shape (N,), or None.
        data_range: the values of black and of white, if these are images.

    Raises:
        InputError: `values` or `labels` have another form, or a value is not finite.
    """

    name: str
    values: Tensor
    labels: Tensor | None = None
    data_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        self._check(
            self.values.is_floating_point() and 2 <= self.values.ndim <= 4,
            "floats of shape (samples, dimensions), (samples, channels, length) or "
            "(samples, channels, height, width)",
        )
        object.__setattr__(self, "values", self.values.float())
        bad = (~self.values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
        if bad:
            raise InputError(
                f"{self.name}: {len(bad)} of {len(self)} samples are not finite, the first at "
                f"index {bad[0]}: remove or repair them"
            )

    @property
    def samples(self) -> Tensor:
        """The values."""
        return self.values

    def mean(self) -> Tensor:
        """The mean sample, float32."""
        return self.values.mean(0, dtype=finest_dtype(self.values.device)).float()

    def batch(self, index: Tensor) -> Tensor:
        """The samples with these indices."""
        return self.values[index]


def as_labels(labels: Sequence[int]) -> Tensor:
    """Labels as a data set keeps them: int64 (N,)."""
    return on_host(labels, torch.int64)
