r"""Scoring: are these images like the data?

Images are compared by their features (see `features`), with the distances of `metrics`: FID, KID,
precision and recall. Features differ, and so do the scores made of them: compare a score only with
others of the same features, the same data and the same number of images. So every FID is given with
its floor, which is the score of as many real training images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.evaluation.features import Extractor, Features, features_of, pick_extractor
from diffsde.evaluation.metrics import covered, fid, fid_error, kid, load_torchmetrics, radii
from diffsde.evaluation.real import Data, RealImages, real_images
from diffsde.system.tables import Table

__all__ = ["SHOWN", "Evaluation", "Reference", "check_enough", "evaluate", "reference_of"]

_CONFIDENT = 0.95
_FEWEST = 100  # images for a score
_NAN = float("nan")

# The columns of tables, with the numbers of an `Evaluation` that they show.
SHOWN = {
    "FID": "fid",
    "±": "fid_error",
    "floor": "floor",
    "ratio": "ratio",
    "precision": "precision",
    "recall": "recall",
    "confident": "confident",
}


@dataclass(frozen=True, repr=False)
class Evaluation(Table):
    """The scores of a set of images.

    Attributes:
        count: number of images scored.
        fid, fid_error: FID against the test images, and its bootstrap standard error.
        floor: FID of the same number of real training images (the first ones); NaN if there are
            fewer.
        kid, kid_error: KID, mean and std over subsets.
        precision, recall: in [0, 1].
        confident: share of images of which the classifier is more than 95 % sure; NaN if the
            features are not a classifier's.
        classes: share of each class; empty if the features are not a classifier's.
        data: the name of the data set.
        features: "classifier", "inception", or the name of a function.
    """

    count: int
    fid: float
    fid_error: float
    floor: float
    kid: float
    kid_error: float
    precision: float
    recall: float
    confident: float
    classes: tuple[float, ...]
    data: str
    features: str

    @property
    def ratio(self) -> float:
        """FID over its floor."""
        return self.fid / self.floor

    def _records(self) -> list[dict[str, Any]]:
        numbers = asdict(self)
        shares = {f"class_{number}": share for number, share in enumerate(numbers.pop("classes"))}
        return [{**numbers, "ratio": self.ratio, **shares}]

    def _lines(self) -> Sequence[Sequence[str]]:
        return [tuple(SHOWN), [f"{getattr(self, name):.3g}" for name in SHOWN.values()]]


def evaluate(
    images: Tensor,
    data: Data = "mnist",
    features: Features = None,
    *,
    bootstraps: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Score images against a data set's test images.

        evaluate(sol.images())                                           # digits
        evaluate(sol.images(), (train, test), lambda x: encoder(x))      # your data and features

    Args:
        images: (N, C, H, W), like those of the data; values are clamped to [0, 1]. N ≥ 100; take
            10,000 for a score worth quoting, since FID falls as N grows.
        data: a data set as `load_images` takes it, such as "mnist"; an `ImageData`; or a pair of
            them, the training images and the test images. Of data without test images, the last
            stand for them, as many as `train` usually holds out.
        features: what images are compared by. "classifier", the default: a small classifier of
            the data, which ships with the package for MNIST and Fashion-MNIST, and is trained on
            other labelled data at the first call (see `classifier_of`). "inception": the network
            of FID as it is usually quoted, if its weights are there. A function from images (B,
            C, H, W), float32 in [0, 1], to features (B, F). Or a classifier of the data that you
            trained (`train_classifier`, `load_classifier`).
        bootstraps: number of resamplings for the standard error; with 1 there is none, which
            saves most of the time where features are many, as Inception's 2,048 are.
        seed: seed of the resampling.
        progress: show progress bars of what takes long.

    Raises:
        InputError: there are too few images, or they have another shape or are not finite; the
            data have no labels to train a classifier on; or Inception's weights are not there.
        DataError: the data set is missing or damaged.
    """
    check_enough(len(images), "images")
    reference = reference_of(data, features, progress=progress)
    return reference.evaluate(images, bootstraps=bootstraps, seed=seed)


def check_enough(count: int, what: str) -> None:
    """Refuse a number of images that is too small for a score."""
    if count < _FEWEST:
        raise InputError(f"{count} {what} are too few for a score: expected {_FEWEST} or more")


class Reference:
    """What images are scored against: real images and their features.

    Args:
        real: the images.
        extractor: what turns images into features.
        progress: show progress bars of what takes long.
    """

    def __init__(self, real: RealImages, extractor: Extractor, progress: bool = False) -> None:
        check_enough(len(real.test.images), f"test images of {real.name}")
        self.real, self.extractor, self.progress = real, extractor, progress
        self._floors: dict[int, float] = {}

    def evaluate(self, images: Tensor, *, bootstraps: int, seed: int) -> Evaluation:
        """Score images, as `evaluate` does."""
        features, real = self._features(images), self._test
        kernel, kernel_error = kid(features, real, seed)
        confident, classes = self._classified(features)
        return Evaluation(
            count=len(images),
            fid=fid(features, real),
            fid_error=fid_error(features, real, bootstraps, seed),
            floor=self._floor(len(images)),
            kid=kernel,
            kid_error=kernel_error,
            precision=covered(features, real, self._test_radii),
            recall=covered(real, features, radii(features)),
            confident=confident,
            classes=classes,
            data=self.real.name,
            features=self.extractor.name,
        )

    def evaluate_real(self, n: int, *, bootstraps: int) -> Evaluation:
        """Score the first n training images, or all of them if there are fewer."""
        return self.evaluate(self._train(n), bootstraps=bootstraps, seed=0)

    def _train(self, n: int) -> Tensor:
        return self.real.train.images[:n].float() / 255

    def _features(self, images: Tensor) -> Tensor:
        return features_of(images, self.extractor, self.real.train.shape, self.progress)

    @cached_property
    def _test(self) -> Tensor:
        return self._features(self.real.test.images.float() / 255)

    @cached_property
    def _test_radii(self) -> Tensor:
        return radii(self._test)

    def _floor(self, n: int) -> float:
        """FID of the first n training images, which no sampler can be expected to beat."""
        if n > len(self.real.train.images):
            return _NAN
        if n not in self._floors:
            self._floors[n] = fid(self._features(self._train(n)), self._test)
        return self._floors[n]

    def _classified(self, features: Tensor) -> tuple[float, tuple[float, ...]]:
        """The share of images whose class is sure, and the share of each class."""
        if self.extractor.classify is None:
            return _NAN, ()
        with torch.no_grad():
            chances = self.extractor.classify(features)
        counts = torch.bincount(chances.argmax(1), minlength=chances.shape[1])
        sure = (chances.amax(1) > _CONFIDENT).float().mean().item()
        return sure, tuple(counts.div(len(features)).tolist())


# The latest references, so that calls in a row do not compute the features of real images again.
_LATEST: OrderedDict[tuple[str, str, str], Reference] = OrderedDict()
_MOST = 2  # of them: each holds a data set


def reference_of(
    data: Data,
    features: Features = None,
    *,
    progress: bool = False,
    device: torch.device | None = None,
) -> Reference:
    """What to score images of this data against, by these features: see `evaluate`.

    The features of a name are computed on that device, by default on the CPU.

    Those of a function are computed at each call, since nothing tells two functions apart, or one
    from what it was before.
    """
    load_torchmetrics()
    real = real_images(data)
    extractor = pick_extractor(features, real, progress, device)
    if extractor.key is None:
        return Reference(real, extractor, progress)
    asked = (real.digest, extractor.key, str(device))
    found = _LATEST.pop(asked, None) or Reference(real, extractor, progress)
    found.progress = progress
    _LATEST[asked] = found
    while len(_LATEST) > _MOST:
        _LATEST.popitem(last=False)
    return found
