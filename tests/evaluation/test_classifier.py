"""Classifiers: of any size of image, right about their data, and never taken for another's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffsde.data.images import ImageData, load_images
from diffsde.errors import CheckpointError, InputError
from diffsde.evaluation import classifier
from diffsde.evaluation.classifier import (
    Classifier,
    classifier_of,
    load_classifier,
    train_classifier,
)
from diffsde.evaluation.features import pick_extractor
from diffsde.evaluation.real import real_images
from diffsde.system.tensorfile import read_tensors, write_tensors
from tests.evaluation.made_up import coloured, pair


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 5, 200), (2, 1, 1), (4, 33, 9)]
)
def test_images_of_any_size(shape: tuple[int, int, int]) -> None:
    made = Classifier(shape, 7, "any").eval()
    features = made.features(torch.rand(2, *shape))
    assert features.shape == (2, 64)
    assert features.min() >= 0
    assert made.probabilities(features).sum(1).tolist() == pytest.approx([1, 1])
    assert sum(p.numel() for p in made.parameters()) < 450_000


def test_the_shipped_ones_are_right_about_their_data() -> None:
    test = load_images("mnist", train=False)
    with torch.no_grad():
        guess = classifier_of("mnist")(test.images[:1000].float() / 255).argmax(1)
    assert (guess == test.known_labels()[:1000]).float().mean() > 0.98
    folder = Path(classifier.__file__).parent
    for name in ("mnist", "fashion-mnist"):
        made = load_classifier(folder / f"{name}-classifier.safetensors")
        assert (made.data, made.shape, made.classes) == (name, (1, 28, 28), 10)
        assert {p.dtype for p in made.parameters()} == {torch.float32}
        assert not made.training


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path))
    monkeypatch.setattr(classifier, "_UPDATES", 1)
    return tmp_path


def test_training(quick: Path) -> None:
    data = pair()
    accuracy = train_classifier(data, quick / "file", epochs=4, progress=False)
    assert accuracy is not None
    assert accuracy > 0.9  # a third by chance
    random = torch.rand(1)
    one, two = (load_classifier(quick / "file") for _ in range(2))
    x = data[1].images.float() / 255
    assert torch.equal(one(x), two(x))
    found = (one(x).argmax(1) == data[1].labels).float().mean()
    assert found == pytest.approx(accuracy)  # of the weights as the file has them
    assert random != torch.rand(1)
    unlabelled = (data[0], replace(data[1], labels=None))
    assert train_classifier(unlabelled, quick / "file", epochs=1, progress=False) is None


def test_it_is_trained_once_for_each_set_of_images_and_labels(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []
    fit = classifier._fit
    monkeypatch.setattr(classifier, "_fit", lambda *args: fits.append(args[1].name) or fit(*args))
    train, test = pair(200, 100)
    for _ in range(2):
        classifier_of((train, test), progress=False)
    assert len(fits) == 1
    assert train.labels is not None
    classifier_of((replace(train, labels=train.labels.flip(0)), test), progress=False)
    assert len(fits) == 2
    # Data that are called mnist but are not: the shipped classifier is for other images.
    classifier_of((replace(train, name="mnist"), test), progress=False)
    assert fits == ["coloured", "coloured"]  # its images and labels are known by another name
    classifier_of((replace(coloured(150, 5), name="mnist"), test), progress=False)
    assert fits[-1] == "mnist"
    assert len(list((quick / "classifiers").iterdir())) == 3


def test_a_classifier_of_other_data_is_refused() -> None:
    real = real_images(pair(200, 100))
    for made in (Classifier((3, 32, 32), 3, "mnist"), Classifier((1, 28, 28), 3, "coloured")):
        with pytest.raises(InputError, match="expected one of coloured, for images of shape"):
            pick_extractor(made, real)
    own = Classifier((3, 32, 32), 3, "coloured")
    assert pick_extractor(own, real).key is None  # nobody knows what it was trained on


def test_data_to_train_on() -> None:
    none = ImageData("none", torch.zeros(20, 1, 4, 4).byte(), None)
    with pytest.raises(InputError, match="none has no labels"):
        train_classifier((none, none), "file")
    one = replace(none, name="one", labels=torch.zeros(20).long())
    with pytest.raises(InputError, match="one has one class only"):
        train_classifier((one, one), "file")


@pytest.mark.parametrize(
    "change",
    [{"shape": [1, 28]}, {"shape": None}, {"classes": 11}, {"classes": -1}, {"classes": 10**9},
     {"classifier": None, "shape": [1, 10**5, 1]}, {"shape": [1, 2.0, 3]}],
    ids=str,
)  # fmt: skip
def test_damaged_files(change: dict[str, object], tmp_path: Path) -> None:
    shipped = Path(classifier.__file__).parent / "mnist-classifier.safetensors"
    tensors, found = read_tensors(shipped)
    write_tensors(tmp_path / "file", tensors, {**found, **change})
    with pytest.raises(CheckpointError, match="not a classifier of this diffsde"):
        load_classifier(tmp_path / "file")
    with pytest.raises(CheckpointError, match="no such file"):
        load_classifier(tmp_path / "other")
