r"""Metrics: are these images like the data?

Images are compared by the 64 features of a small classifier of MNIST digits that ships with
this package. The scores are the usual ones, computed from these features:

- FID (arXiv 1706.08500, eq. 6): the Fréchet distance between two Gaussians fitted to the
  features of generated and of real images, ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁C₂)^½);
- KID (arXiv 1801.01401): an unbiased squared maximum mean discrepancy;
- precision and recall (arXiv 1904.06991): the share of generated images that lie among the
  real ones, and of real images among the generated ones.

The features are not Inception's: compare a score only with others from this module and the same
number of images. Every FID is given with its floor, the score of real training images.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.data.images import load_images
from diffsde.errors import CheckpointError, InputError
from diffsde.noise.seeds import generator
from diffsde.system.bars import load_tqdm
from diffsde.system.tables import Table
from diffsde.system.tensorfile import read_tensors, write_tensors

__all__ = [
    "SHOWN",
    "Classifier",
    "Evaluation",
    "evaluate",
    "fid",
    "kid",
    "load_classifier",
    "nearest_neighbours",
    "precision_recall",
    "train_classifier",
]

FEATURES = 64
_CONFIDENT = 0.95
_BATCH = 100  # images in one pass of the classifier: more do not fit in the cache
_CHUNK = 500  # points compared with all others at a time


class Classifier(nn.Module):
    """A small classifier of 28 × 28 grey images into ten classes."""

    def __init__(self) -> None:
        super().__init__()

        def level(c_in: int, c_out: int, stride: int) -> nn.Sequential:
            conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

        self.body = nn.Sequential(
            level(1, 32, 1), level(32, 32, 2), level(32, 64, 1), level(64, 64, 2), nn.Flatten()
        )
        self.feature = nn.Linear(64 * 49, FEATURES)
        self.out = nn.Linear(FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """The 64 numbers before the last layer, (B, 64) ≥ 0, of images (B, 1, 28, 28) in [0, 1]."""
        features: Tensor = self.feature(self.body(2 * x - 1)).relu()
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10)."""
        logits: Tensor = self.out(self.features(x))
        return logits


def train_classifier(
    path: str | os.PathLike[str], *, epochs: int = 4, seed: int = 0, progress: bool = True
) -> float:
    """Train the classifier on MNIST, write it to `path`, and return its test accuracy."""
    train, test = load_images("mnist"), load_images("mnist", train=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    updates = epochs * (len(train.images) // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, updates)
    for _ in range(epochs):
        order = torch.randperm(len(train.images), generator=generator).split(100)
        for index in load_tqdm()(order, disable=not progress):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(train.batch(index))
            nn.functional.cross_entropy(logits.float(), train.known_labels()[index]).backward()
            optimizer.step()
            schedule.step()
    guess = _classified(model.eval(), test.images.float() / 255)[1].argmax(1)
    accuracy = (guess == test.known_labels()).float().mean().item()
    write_tensors(path, model.state_dict(), {"classifier": "mnist", "test_accuracy": accuracy})
    return accuracy


@cache
def load_classifier() -> Classifier:
    """The classifier that ships with the package, in evaluation mode."""
    path = Path(str(resources.files("diffsde.evaluation"))) / "mnist-classifier.safetensors"
    tensors, _ = read_tensors(path)
    model = Classifier()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not this classifier's weights ({error})") from error
    return model.eval().requires_grad_(False)


def _classified(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 64) and class probabilities (N, 10) of images (N, 1, 28, 28) in [0, 1]."""
    if images.shape[1:] != (1, 28, 28):
        raise InputError(
            f"images of shape {tuple(images.shape)}: the classifier takes MNIST digits, "
            "expected (N, 1, 28, 28) in [0, 1]"
        )
    if not torch.isfinite(images).all():
        raise InputError("images with values that are not finite cannot be scored")
    features, classes = [], []
    with torch.no_grad():
        for chunk in images.float().clamp(0, 1).split(_BATCH):
            seen = classifier.features(chunk)
            features.append(seen)
            classes.append(classifier.out(seen).softmax(1))
    return torch.cat(features), torch.cat(classes)


# -- scores of features -------------------------------------------------------------


class _Features(nn.Module):
    """The network that torchmetrics expects; its input already consists of features."""

    num_features = FEATURES

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(generated: Tensor, real: Tensor) -> float:
    """Fréchet distance between two sets of features, (N, 64) and (M, 64)."""
    metric = _torchmetrics().fid.FrechetInceptionDistance(_Features())
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return float(metric.compute())


def kid(generated: Tensor, real: Tensor, seed: int = 0) -> tuple[float, float]:
    """Kernel distance between two sets of features: mean and std over subsets of at most 1,000."""
    image = _torchmetrics()
    size = min(1000, len(generated) // 2, len(real) // 2)
    with warnings.catch_warnings():
        # torchmetrics warns that it keeps all features in memory; here they are few.
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")
        metric = image.kid.KernelInceptionDistance(_Features(), subsets=50, subset_size=size)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mean, std = metric.compute()
    return float(mean), float(std)


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Precision and recall of two sets of features.

    A point counts if it lies in a ball around any point of the other set; each ball reaches to
    that point's third nearest neighbour within its own set.
    """
    precision = _covered(generated, real, _radii(real))
    return precision, _covered(real, generated, _radii(generated))


def _radii(centres: Tensor, k: int = 3) -> Tensor:
    """Distance from each point to its k-th nearest neighbour, (N,)."""
    # The nearest neighbour is the point itself.
    near = [torch.cdist(c, centres).topk(k + 1, largest=False) for c in centres.split(_CHUNK)]
    return torch.cat([n.values[:, -1] for n in near])


def _covered(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    inside = [(torch.cdist(chunk, centres) <= radius).any(1) for chunk in points.split(_CHUNK)]
    return torch.cat(inside).float().mean().item()


def _torchmetrics() -> Any:
    try:
        from torchmetrics import image
        from torchmetrics.image import fid, kid  # noqa: F401
    except ImportError as error:
        raise InputError("torchmetrics is not installed: pip install 'diffsde[metrics]'") from error
    return image


def nearest_neighbours(images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Find the reference nearest to each image, by Euclidean distance in pixels.

    Args:
        images: (N, C, H, W).
        references: (M, C, H, W), on the same scale.

    Returns:
        The distances and the indices of the references, each (N,).
    """
    flat = references.flatten(1).float()
    index = torch.cat(
        [torch.cdist(c.flatten(1).float(), flat).argmin(1) for c in images.split(_CHUNK)]
    )
    # cdist computes distances from a matrix product, which turns the zero of a copy into 0.01.
    return (images.flatten(1).float() - flat[index]).norm(dim=1), index


# -- evaluation ---------------------------------------------------------------------


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
        fid, fid_error: FID against the 10,000 test images, and its bootstrap standard error.
        floor: FID of the same number of real training images (the first ones).
        kid, kid_error: KID, mean and std over subsets.
        precision, recall: in [0, 1].
        confident: share of images of which the classifier is more than 95 % sure.
        classes: share of each digit, (10,).
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

    @property
    def ratio(self) -> float:
        """FID over its floor."""
        return self.fid / self.floor

    def _records(self) -> list[dict[str, Any]]:
        numbers = asdict(self)
        shares = {f"class_{digit}": share for digit, share in enumerate(numbers.pop("classes"))}
        return [{**numbers, "ratio": self.ratio, **shares}]

    def _lines(self) -> Sequence[Sequence[str]]:
        return [tuple(SHOWN), [f"{getattr(self, name):.3g}" for name in SHOWN.values()]]


def evaluate(images: Tensor, *, bootstraps: int = 50, seed: int = 0) -> Evaluation:
    """Score images of digits against MNIST's test images.

    Args:
        images: (N, 1, 28, 28); values are clamped to [0, 1]. N ≥ 100; take 10,000 for a score
            worth quoting, since FID falls as N grows.
        bootstraps: number of resamplings for the standard error.
        seed: seed of the resampling.

    Raises:
        InputError: there are too few images, or they have another shape or are not finite.
    """
    if len(images) < 100:
        raise InputError(f"{len(images)} images are too few for a score: expected 100 or more")
    features, classes = _classified(load_classifier(), images)
    real = _test_features()
    kernel, kernel_error = kid(features, real, seed)
    precision = _covered(features, real, _test_radii())
    return Evaluation(
        count=len(images),
        fid=fid(features, real),
        fid_error=_fid_error(features, real, bootstraps, seed),
        floor=_floor(len(images)),
        kid=kernel,
        kid_error=kernel_error,
        precision=precision,
        recall=_covered(real, features, _radii(features)),
        confident=(classes.amax(1) > _CONFIDENT).float().mean().item(),
        classes=tuple(torch.bincount(classes.argmax(1), minlength=10).div(len(images)).tolist()),
    )


def _fid_error(features: Tensor, real: Tensor, bootstraps: int, seed: int) -> float:
    """Bootstrap standard error of the FID, over resamplings of the generated images."""
    n, numbers = len(features), generator(seed, "bootstrap")
    picks = [torch.randint(n, (n,), generator=numbers) for _ in range(bootstraps)]
    scores = torch.tensor([fid(features[pick], real) for pick in picks], dtype=torch.float64)
    return float(scores.std()) if bootstraps > 1 else float("nan")


@cache
def _test_features() -> Tensor:
    """Features of the 10,000 test images."""
    return _classified(load_classifier(), load_images("mnist", train=False).images.float() / 255)[0]


@cache
def _test_radii() -> Tensor:
    return _radii(_test_features())


@cache
def _floor(n: int) -> float:
    """FID of the first n training images: what perfect samples would score."""
    images = load_images("mnist").images[:n].float() / 255
    return fid(_classified(load_classifier(), images)[0], _test_features())
