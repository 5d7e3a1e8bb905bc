"""Distances of features: known values on known features."""

from __future__ import annotations

import math

import pytest
import torch

from diffsde.data.images import load_images
from diffsde.evaluation import metrics
from diffsde.evaluation.metrics import (
    fid,
    fid_error,
    kid,
    nearest_neighbours,
    precision_recall,
)

pytest.importorskip("torchmetrics")


def cloud(n: int, mean: float = 0.0, std: float = 1.0, seed: int = 0) -> torch.Tensor:
    return mean + std * torch.randn(n, 64, generator=torch.Generator().manual_seed(seed))


def test_fid_of_two_gaussians_is_known() -> None:
    """‖m₁ − m₂‖² + Σ (σ₁ − σ₂)², here with exact moments."""
    x = cloud(4000)
    x = (x - x.mean(0)) / x.std(0)
    assert fid(x, x) == pytest.approx(0, abs=1e-3)
    assert fid(x + 0.5, x) == pytest.approx(64 * 0.25, rel=1e-3)
    assert fid(2 * x, x) == pytest.approx(64, rel=0.05)


def test_kid_tells_one_law_from_another() -> None:
    same, error = kid(cloud(1000), cloud(1000, seed=1))
    other, _ = kid(cloud(1000), cloud(1000, mean=0.2, seed=1))
    assert abs(same) < 4 * error
    assert other > 4 * error


def test_precision_and_recall_tell_missing_from_wrong() -> None:
    real = torch.cat([cloud(300), cloud(300, mean=20.0, seed=1)])
    half = cloud(300, seed=2)
    precision, recall = precision_recall(half, real)
    assert precision > 0.6
    assert 0.3 < recall < 0.6
    wrong = torch.cat([half, cloud(300, mean=-20.0, seed=3)])
    precision, recall = precision_recall(wrong, real)
    assert 0.2 < precision < 0.5


def test_each_ball_has_the_radius_of_its_own_set() -> None:
    """By hand, on a line: six points in steps of 1, and six in steps of 7.5."""
    narrow, wide = (
        torch.nn.functional.pad(step * torch.arange(6.0)[:, None], (0, 63)) for step in (1, 7.5)
    )
    # The narrow balls reach to 5 + 3 and cover two wide points; the first wide one reaches to 22.5.
    assert precision_recall(narrow, wide) == pytest.approx((1, 2 / 6))
    assert precision_recall(wide, narrow) == pytest.approx((2 / 6, 1))


def test_the_bootstrap_resamples_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a score that is a mean of n numbers, the bootstrap error is std / √n."""
    features, resamplings = cloud(300, std=3.0)[:, :1], 2000
    monkeypatch.setattr(metrics, "fid", lambda generated, real: float(generated.mean()))
    found = fid_error(features, features, resamplings, seed=0)
    exact = float(features.std(correction=0)) / math.sqrt(300)
    assert found == pytest.approx(exact, rel=4 / math.sqrt(2 * resamplings))
    assert math.isnan(fid_error(features, features, 1, seed=0))


def test_copies_are_found() -> None:
    train = load_images("mnist").images[:2000]
    images = train[[5, 77]].float()
    images[1] += 3
    distance, index = nearest_neighbours(images, train)
    assert index.tolist() == [5, 77]
    assert distance.tolist() == pytest.approx([0, 3 * 28], abs=0.5)
