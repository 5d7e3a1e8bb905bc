"""Data sets of torchvision and of the Hugging Face hub, and tensors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from diffsde.data import ArrayData, ImageData, as_data, named_sets, torchvision_sets
from diffsde.data.images import load_images
from diffsde.errors import DataError, InputError


def random_picture(k: int, height: int = 6) -> Image.Image:
    pixels = np.random.default_rng(k).integers(0, 256, (height, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refused)


def test_a_set_of_torchvision_from_its_files(tmp_path: Path, no_network: None) -> None:
    """Food101, whose files are folders of pictures and two lists."""
    root = tmp_path / "food-101"
    (root / "meta").mkdir(parents=True)
    for part, ids in (("train", range(4)), ("test", range(4, 6))):
        names: dict[str, list[str]] = {"pie": [], "tea": []}
        for k in ids:
            kind = ("pie", "tea")[k % 2]
            (root / "images" / kind).mkdir(parents=True, exist_ok=True)
            random_picture(k).save(root / "images" / kind / f"{k}.jpg")
            names[kind].append(f"{kind}/{k}")
        (root / "meta" / f"{part}.json").write_text(json.dumps(names))
    for name in ("food101", "Food101", "food-101"):
        data = load_images(name, tmp_path)
        assert (len(data), data.class_names) == (4, ("pie", "tea"))
        assert data.known_labels().tolist() == [0, 0, 1, 1]
    assert load_images("food101", tmp_path, train=False, size=4).images.shape == (2, 3, 4, 4)
    assert len(load_images("food101:test", tmp_path)) == 2


class Rows:
    """What a data set of torchvision is, by its sequence alone."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert download
        self.rows = self.entries[: 3 if train else 1]

    entries: Any = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


@pytest.mark.parametrize(
    ("target", "labels"),
    [(1, [1, 1, 1]), (np.int64(2), [2, 2, 2]), ("cat", None), ((1, 2), None), (None, None)],
)
def test_labels_are_whole_numbers_or_none(target: Any, labels: list[int] | None) -> None:
    rows = type("Own", (Rows,), {"entries": [(random_picture(k), target) for k in range(4)]})
    data = torchvision_sets.read_set(torchvision_sets.VisionSet(rows, None), "x", True, None)
    assert (None if data.labels is None else data.labels.tolist()) == labels


@pytest.mark.parametrize("entry", [torch.zeros(3), (torch.zeros(3, 8, 8), 1), ()])
def test_sets_that_hold_no_images(entry: Any) -> None:
    rows = type("Film", (Rows,), {"entries": [entry]})
    with pytest.raises(DataError, match="Film: entry 0 is"):
        torchvision_sets.read_set(torchvision_sets.VisionSet(rows, None), "x", True, None)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "stl10", "usps", "emnist:letters"])
def test_sets_that_are_not_there_say_what_to_do(
    name: str, tmp_path: Path, no_network: None
) -> None:
    match = r"not in .*no network.*put its files there.*docs\.pytorch\.org"
    with pytest.raises(DataError, match=match):
        load_images(name, tmp_path)


def test_splits_that_are_none(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(InputError, match=r"EMNIST has no part.*'letters'.*after a colon"):
        load_images("emnist", tmp_path)
    with pytest.raises(InputError, match=r"CIFAR10 has no splits: leave :test out"):
        load_images("cifar10:test", tmp_path)


def test_the_shipped_mnist_has_many_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def noted(name: str, *_: object) -> Any:
        read.append(name)
        raise DataError("enough")

    monkeypatch.setattr(named_sets, "read_named", noted)
    for name in ("mnist", "MNIST", "FashionMNIST", "fashion-mnist", "KMNIST"):
        with pytest.raises(DataError, match="enough"):
            load_images(name)
    assert read == ["mnist", "mnist", "fashion-mnist", "fashion-mnist", "kmnist"]


def test_every_set_found_is_torchvisions() -> None:
    names = torchvision_sets.set_names()
    assert {"cifar10", "cifar100", "svhn", "stl10", "emnist", "celeba", "flowers102"} <= {*names}
    assert not {"mnist", "fashionmnist", "kmnist", "fakedata"} & {*names}
    for name in names:
        found = torchvision_sets.find_set(name)
        assert found is not None
        assert found.cls in vars(datasets).values()


# -- Hugging Face ---------------------------------------------------------------------


class _Table:
    """What `datasets` returns for one part."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.columns, self.features, self.column_names = columns, features, [*columns]

    def select_columns(self, names: list[str]) -> _Table:
        return _Table({name: self.columns[name] for name in names}, self.features)

    def __iter__(self) -> Any:
        rows = zip(*self.columns.values(), strict=True)
        return (dict(zip(self.columns, row, strict=True)) for row in rows)


def hub(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    package = ModuleType("datasets")
    package.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)


def feature(kind: str, **known: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(**known)


def test_a_set_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def load(path: str, name: str | None, cache_dir: str | None) -> Any:
        asked.append((path, name, cache_dir))
        features = {
            "id": feature("Value"),
            "picture": feature("Image"),
            "kind": feature("ClassLabel", names=["cat", "dog"]),
        }
        pictures = [random_picture(k) for k in range(4)]
        whole = {"id": [0, 1, 2, 3], "picture": pictures, "kind": [0, 1, 1, 0]}
        some = {name: column[:1] for name, column in whole.items()}
        return {"train": _Table(whole, features), "validation": _Table(some, features)}

    hub(monkeypatch, load)
    data = load_images("hf:someone/pets:small", tmp_path)
    assert asked == [("someone/pets", "small", str(tmp_path))]
    assert data.known_labels().tolist() == [0, 1, 1, 0]
    assert data.class_names == ("cat", "dog")
    assert torch.equal(
        data.images[2].permute(1, 2, 0), torch.from_numpy(np.array(random_picture(2)))
    )
    assert len(load_images("hf:pets", train=False, size=4)) == 1


def test_sets_of_the_hub_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> Any:
        raise ConnectionError("no network")

    hub(monkeypatch, missing)
    with pytest.raises(DataError, match=r"hf:a/b: .*no network.*Check the name"):
        load_images("hf:a/b")
    hub(monkeypatch, lambda *_, **__: {"train": _Table({"text": []}, {"text": feature("Value")})})
    with pytest.raises(DataError, match="no column of images among text"):
        load_images("hf:a/b")
    with pytest.raises(DataError, match="no part test or validation"):
        load_images("hf:a/b", train=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'diffsde\[huggingface\]'"):
        load_images("hf:a/b")


def test_the_hubs_own_package_reads_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for part, ids in (("train", range(4)), ("test", range(2))):
        for k in ids:
            (folder := tmp_path / "set" / part / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            random_picture(k).save(folder / f"{k}.png")
    data = load_images(f"hf:{tmp_path / 'set'}", tmp_path / "cache")
    assert data.known_labels().tolist() == [0, 0, 1, 1]
    assert len(load_images(f"hf:{tmp_path / 'set'}", tmp_path / "cache", train=False)) == 2


# -- tensors --------------------------------------------------------------------------


def test_tensors_are_data() -> None:
    points, signals = torch.randn(7, 2, dtype=torch.float64), np.zeros((7, 2, 9))
    assert as_data(points).shape == (2,)
    assert as_data(points).samples.dtype == torch.float32
    assert as_data(signals).shape == (2, 9)
    images = torch.zeros(7, 3, 4, 5, dtype=torch.uint8)
    assert isinstance(as_data(images), ImageData)
    data = ArrayData("latents", torch.rand(7, 4, 8, 8), data_range=(-1, 1))
    assert as_data(data) is data


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (torch.rand(7, 3, 4, 5), r"give images as uint8.*ArrayData"),
        (torch.zeros(7, 28, 28, dtype=torch.uint8), r"expected uint8 of shape \(images, channels"),
        (torch.zeros(7, 3, 4, 5, dtype=torch.int64), "expected uint8"),
        (torch.zeros(0, 2), "expected floats of shape"),
        (torch.zeros(7), "expected uint8"),
        ("mnist", r'data is str.*load_images\("mnist"\)'),
        ([1.0, 2.0], "data is list"),
        (torch.tensor([[1.0], [float("inf")]]), "1 of 2 samples are not finite"),
    ],
)
def test_what_is_no_data(data: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        as_data(data)


@pytest.mark.parametrize(
    "labels", [torch.zeros(3), torch.zeros(2, dtype=torch.long), torch.tensor([0, -1, 0])]
)
def test_labels_belong_to_samples(labels: torch.Tensor) -> None:
    for cls, x in ((ImageData, torch.zeros(3, 1, 2, 2).byte()), (ArrayData, torch.zeros(3, 2))):
        with pytest.raises(InputError, match=r"labels .*expected \(3,\) whole numbers from 0"):
            cls("x", x, labels)


def test_scales_are_measured() -> None:
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1])
    data = ArrayData("x", x + 3)
    # Of 4,096 samples or fewer: four standard errors.
    assert data.rms() == pytest.approx((9 + 2.5) ** 0.5, rel=0.03)
    assert data.spread() == pytest.approx(2, rel=0.05)
    torch.testing.assert_close(data.mean(), x.mean(0) + 3)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    exact = float((torch.arange(256).double() / 255).square().mean().sqrt())
    assert ImageData("levels", pixels).rms() == pytest.approx(exact, rel=1e-6)
