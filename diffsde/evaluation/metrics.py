r"""Metrics: how far two sets of features lie apart.

- FID (arXiv 1706.08500, eq. 6): the Fréchet distance between two Gaussians fitted to the
  features of generated and of real images, ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁C₂)^½);
- KID (arXiv 1801.01401): an unbiased squared maximum mean discrepancy;
- precision and recall (arXiv 1904.06991): the share of generated images that lie among the
  real ones, and of real images among the generated ones;
- the nearest neighbour of an image among others, by its pixels.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.noise.seeds import generator
from diffsde.system.host import on_host
from diffsde.system.packages import optional_package

__all__ = [
    "covered",
    "fid",
    "fid_error",
    "kid",
    "load_torchmetrics",
    "nearest_neighbours",
    "precision_recall",
    "radii",
]

_CHUNK = 500  # points compared with all others at a time
# Each process has all features; torchmetrics would put those of all processes together.
_ALONE = {"sync_on_compute": False}


def load_torchmetrics() -> Any:
    """The images' part of torchmetrics.

    Raises:
        InputError: torchmetrics, the extra `metrics`, is not installed.
    """
    for part in ("fid", "kid"):
        optional_package(f"torchmetrics.image.{part}", "metrics")
    return optional_package("torchmetrics.image", "metrics")


class _Features(nn.Module):
    """The network that torchmetrics expects; its input already consists of features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(generated: Tensor, real: Tensor) -> float:
    """Fréchet distance between two sets of features, (N, F) and (M, F)."""
    metric = load_torchmetrics().fid.FrechetInceptionDistance(_Features(real.shape[1]), **_ALONE)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return float(metric.compute())


def fid_error(generated: Tensor, real: Tensor, bootstraps: int, seed: int) -> float:
    """Bootstrap standard error of the FID, over resamplings of the generated images."""
    n, numbers = len(generated), generator(seed, "bootstrap")
    picks = [torch.randint(n, (n,), generator=numbers, device="cpu") for _ in range(bootstraps)]
    scores = on_host([fid(generated[pick], real) for pick in picks])
    return float(scores.std()) if bootstraps > 1 else float("nan")


def kid(generated: Tensor, real: Tensor, seed: int = 0) -> tuple[float, float]:
    """Kernel distance between two sets of features: mean and std over subsets of at most 1,000."""
    image = load_torchmetrics()
    size = min(1000, len(generated) // 2, len(real) // 2)
    with warnings.catch_warnings():
        # torchmetrics warns that it keeps all features in memory; here they are in memory anyway.
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")
        metric = image.kid.KernelInceptionDistance(
            _Features(real.shape[1]), subsets=50, subset_size=size, **_ALONE
        )
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
    precision = covered(generated, real, radii(real))
    return precision, covered(real, generated, radii(generated))


def radii(centres: Tensor, k: int = 3) -> Tensor:
    """Distance from each point to its k-th nearest neighbour, (N,)."""
    # The nearest neighbour is the point itself.
    near = [torch.cdist(c, centres).topk(k + 1, largest=False) for c in centres.split(_CHUNK)]
    return torch.cat([n.values[:, -1] for n in near])


def covered(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """The share of points (N, F) within `radius` (M,) of any of the centres (M, F)."""
    inside = [(torch.cdist(chunk, centres) <= radius).any(1) for chunk in points.split(_CHUNK)]
    return torch.cat(inside).float().mean().item()


def nearest_neighbours(images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Find the reference nearest to each image, by Euclidean distance in pixels.

    Args:
        images: (N, C, H, W).
        references: (M, C, H, W), on the same scale. The distances are computed where they are.

    Returns:
        The distances and the indices of the references, each (N,).
    """
    flat = references.flatten(1).float()
    rows = images.flatten(1).to(flat)
    index = torch.cat([torch.cdist(chunk, flat).argmin(1) for chunk in rows.split(_CHUNK)])
    # cdist computes distances from a matrix product, which turns the zero of a copy into 0.01.
    return (rows - flat[index]).norm(dim=1), index
