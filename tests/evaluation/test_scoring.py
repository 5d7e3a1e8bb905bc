"""Scores of images: exact ones, those of before, and the right data's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde.data.images import ImageData, load_images
from diffsde.errors import InputError
from diffsde.evaluation import classifier, scoring
from diffsde.evaluation.real import real_images
from diffsde.evaluation.scoring import Evaluation, evaluate, reference_of
from tests.evaluation.made_up import coloured, pair

pytest.importorskip("torchmetrics")


def levels(x: Tensor) -> Tensor:
    """Every pixel as a feature, in levels of 8 bits."""
    return 255 * x.flatten(1)


def dots(n: int, seed: int) -> ImageData:
    """Two correlated pixels of two channels, about the mean 120."""
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    z[:, 1] += z[:, 0]
    return ImageData("dots", (120 + 6 * z).round().reshape(n, 2, 1, 2).to(torch.uint8), None)


def test_fid_by_a_function_is_exact() -> None:
    """Shifted by 3 levels: 4 · 3². Twice as wide about its mean: the trace of its covariance."""
    test = dots(2000, 1)
    x = test.images.float()
    mean = x.mean(0)
    trace = float(x.flatten(1).double().var(0).sum())
    data = (dots(500, 0), test)
    for images, exact in ((x, 0.0), (x + 3, 36.0), (mean + 2 * (x - mean), trace)):
        found = evaluate(images / 255, data, levels, bootstraps=1)
        # Features are float32 of size 100, and FID is a difference of sums near 200.
        assert found.fid == pytest.approx(exact, rel=1e-4, abs=1e-3)
        assert math.isnan(found.fid_error)
    assert (found.data, found.features, found.count) == ("dots", "levels", 2000)
    assert math.isnan(found.confident)
    assert found.classes == ()
    # There are 500 real training images, so there is no floor of 2,000.
    assert math.isnan(found.floor)
    assert math.isnan(found.ratio)


def test_a_floor_is_the_score_of_as_many_training_images() -> None:
    data = (dots(500, 0), dots(300, 1))
    found = evaluate(data[1].images[:200].float() / 255, data, levels, bootstraps=1)
    first = evaluate(data[0].images[:200].float() / 255, data, levels, bootstraps=1)
    assert found.floor == pytest.approx(first.fid, rel=1e-5)
    assert first.ratio == pytest.approx(1, rel=1e-5)
    assert (
        found.floor > 2 * evaluate(data[0].images.float() / 255, data, levels, bootstraps=1).floor
    )


def test_a_set_scored_against_itself() -> None:
    data = (dots(300, 0), dots(300, 1))
    found = evaluate(data[1].images.float() / 255, data, levels, bootstraps=1)
    assert found.fid == pytest.approx(0, abs=1e-3)
    assert (found.precision, found.recall) == (1, 1)


# Of the release before other data could be scored: digits 20,000 to 20,499 of the training set.
BEFORE = {
    "fid": 16.0110683, "fid_error": 3.7406888, "floor": 17.7526360, "kid": 1.1300195,
    "kid_error": 130.3242493, "precision": 0.888, "recall": 0.8611, "confident": 0.986,
    "ratio": 0.9018981, "class_0": 0.088, "class_7": 0.11, "class_9": 0.118,
}  # fmt: skip


def test_digits_are_scored_as_before() -> None:
    """And spoilt ones score worse."""
    real = load_images("mnist").images[20_000:20_500].float() / 255
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    good = evaluate(real, bootstraps=5, progress=False)
    (found,) = good._records()
    # Convolutions differ between processors by their order of summation; KID is a small
    # difference of large numbers.
    for name, value in BEFORE.items():
        close = {"abs": 2.0} if name.startswith("kid") else {"rel": 2e-3}
        assert found[name] == pytest.approx(value, **close), name
    assert (good.data, good.features) == ("mnist", "classifier")
    bad = evaluate(real + 0.3 * noise, bootstraps=5, progress=False)
    ones = evaluate(real[:1].expand(500, -1, -1, -1), bootstraps=5, progress=False)
    assert bad.fid == pytest.approx(1629.126, rel=2e-3)
    assert good.confident > 0.93 > bad.confident
    assert sum(good.classes) == pytest.approx(1)
    assert max(ones.classes) == 1
    assert ones.recall < 0.05 < good.recall


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Classifiers are trained in 12 updates, and kept in this folder."""
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path))
    monkeypatch.setattr(classifier, "_UPDATES", 1)
    monkeypatch.setattr(scoring, "_LATEST", type(scoring._LATEST)())
    return tmp_path


def test_colours_are_scored_by_a_classifier_of_their_own(quick: Path) -> None:
    data = pair()
    found = evaluate(data[1].images.float() / 255, data, bootstraps=2, progress=False)
    assert found.data == "coloured"
    assert found.fid == pytest.approx(0, abs=1e-2)
    assert len(found.classes) == 3
    labels = data[1].labels
    assert labels is not None
    shares = (torch.bincount(labels) / len(labels)).tolist()
    assert found.classes == pytest.approx(shares, abs=0.03)
    red = data[1].images[labels == 0].float() / 255
    red = torch.cat([red, red])[:100]
    assert evaluate(red, data, bootstraps=1, progress=False).classes[0] > 0.95
    assert [p.parent.name for p in quick.rglob("*.safetensors")] == ["classifiers"]


def test_features_of_real_images_are_kept_for_the_latest_two_sets_alone(quick: Path) -> None:
    sets = [tuple(coloured(n, seed + n, size=(8, 8)) for n in (300, 120)) for seed in range(3)]
    first, *_, last = (reference_of(real_images(data)) for data in sets)
    assert len(scoring._LATEST) == 2
    assert reference_of(sets[2]) is last  # found by the images, not by the tuple
    assert reference_of(sets[0]) is not first
    other = (sets[2][0], coloured(120, 9, size=(8, 8)))
    assert reference_of(other) is not last


def test_features_of_a_function_are_computed_each_time() -> None:
    data, scale = (dots(300, 0), dots(300, 1)), 1.0

    def scaled(x: Tensor) -> Tensor:
        return scale * levels(x)

    images = data[0].images.float() / 255
    one = evaluate(images, data, scaled, bootstraps=1)
    scale = 2.0
    assert evaluate(images, data, scaled, bootstraps=1).fid == pytest.approx(4 * one.fid, rel=1e-3)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(50, 1, 28, 28), "50 images are too few"),
        (torch.rand(200, 3, 32, 32), r"shape \(200, 3, 32, 32\): expected \(N, 1, 28, 28\)"),
        (torch.full((200, 1, 28, 28), torch.nan), "not finite"),
    ],
)
def test_images_that_cannot_be_scored(images: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(images, progress=False)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (lambda x: x, r"returned shape \(100, 2, 1, 2\) for 100 images; expected \(100, F\)"),
        (lambda x: x.flatten(1)[:50], r"returned shape \(50, 4\)"),
        (lambda x: x.flatten(1).long(), "returned torch.int64; expected floating-point"),
        (lambda x: None, "returned NoneType"),
        (lambda x: x.flatten(1) / 0, "not finite"),
        ("incepton", "did you mean 'inception'"),
        (None, "dots has no labels to train a classifier on; choose inception, or give a function"),
        ("classifier", "dots has no labels"),
        ("inception", "2 channels, expected 1 or 3"),
    ],
)
def test_features_that_do_not_fit(features: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(torch.rand(200, 2, 1, 2), (dots(300, 0), dots(300, 1)), features)


def test_tables_hold_what_the_scores_are_of() -> None:
    found = Evaluation(100, 1.0, 0.1, 0.5, 0, 0, 1, 1, math.nan, (), "dots", "levels")
    (row,) = found._records()
    assert (row["data"], row["features"], row["ratio"]) == ("dots", "levels", 2)
    assert "nan" in str(found)
