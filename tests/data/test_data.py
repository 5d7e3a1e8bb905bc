"""Data: MNIST from the package, folders of images, and errors that name damaged files."""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import datasets

from diffsde.data import image_files, named_sets
from diffsde.data.images import load_images
from diffsde.data.named_sets import DATASETS
from diffsde.errors import DataError, InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that the shipped files are unpacked again."""
    monkeypatch.setenv("DIFFSDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small_set(root: Path, n: int = 20) -> Path:
    """A FashionMNIST with a few images, in the files that torchvision reads."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        pixels = bytes(i % 256 for i in range(n * 784))
        head = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + pixels)
        head = struct.pack(">4BI", 0, 0, 8, 1, n)
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(head + bytes(i % 10 for i in range(n)))
    return raw


def test_shipped_mnist_fills_an_empty_cache(cache: Path) -> None:
    train = load_images("mnist")
    assert train.images.shape == (60_000, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels is not None
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    test = load_images("mnist", train=False)
    assert test.images.shape == (10_000, 1, 28, 28)
    # The mean that the field quotes for MNIST.
    assert train.images.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert (cache / "MNIST" / "raw").is_dir()
    batch = train.batch(torch.tensor([0, 3]))
    assert batch.dtype == torch.float32
    assert batch.min() >= 0
    assert batch.max() == 1


def flip(path: Path, place: int) -> None:
    """Change one byte of a file, and not its length."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def test_damage_that_keeps_the_size_is_found_and_mended(cache: Path) -> None:
    whole = load_images("mnist", train=False).images
    for stem in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        path = cache / "MNIST" / "raw" / stem
        flip(path, 9_000)
        with pytest.raises(DataError, match=rf"{stem}: damaged.*remove it"):
            load_images("mnist", train=False)
        path.unlink()  # as the error says
        assert torch.equal(load_images("mnist", train=False).images, whole)


def test_unpacked_files_are_compared_with_the_packed_ones_beside_them(tmp_path: Path) -> None:
    raw = small_set(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    (raw / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    load_images("fashion-mnist", tmp_path)
    flip(path, 1000)
    with pytest.raises(DataError, match=r"train-images.*: damaged.*check sum"):
        load_images("fashion-mnist", tmp_path)


def test_packed_files_are_unpacked_whoever_packed_them(tmp_path: Path) -> None:
    raw = small_set(tmp_path)
    whole = load_images("fashion-mnist", tmp_path).images
    path = raw / "train-images-idx3-ubyte"
    packed, contents = raw / f"{path.name}.gz", path.read_bytes()
    for level in (0, 9):
        path.unlink()
        packed.write_bytes(gzip.compress(contents, level, mtime=level))
        assert torch.equal(load_images("fashion-mnist", tmp_path).images, whole)
    for wrong in (gzip.compress(contents)[:-20], b"no gzip", gzip.compress(contents)[:-1] + b"?"):
        path.unlink(missing_ok=True)
        packed.write_bytes(wrong)
        with pytest.raises(DataError, match=r"ubyte.gz: not a whole gzip file"):
            load_images("fashion-mnist", tmp_path)
        assert not path.exists()
    packed.write_bytes(gzip.compress(bytes(2**27 + 1), 1))
    with pytest.raises(DataError, match=r"more than 134,217,728 bytes"):
        load_images("fashion-mnist", tmp_path)


def test_damaged_package_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = cache.parent / "package"
    shipped = Path(named_sets.__file__).parent / "mnist"
    shutil.copytree(shipped, package / "mnist")
    broken = package / "mnist" / "t10k-labels-idx1-ubyte.gz"
    monkeypatch.setattr(named_sets.resources, "files", lambda _: package)
    for contents in (broken.read_bytes()[:3000], gzip.compress(b"others"), b"no gzip", None):
        broken.unlink(missing_ok=True)
        if contents is not None:
            broken.write_bytes(contents)
        with pytest.raises(DataError, match=r"t10k-labels.*missing or damaged.*install"):
            load_images("mnist")
        # Nothing half-written stays behind.
        assert not (cache / "MNIST" / "raw").exists()


def test_truncated_and_foreign_files_are_named(tmp_path: Path) -> None:
    raw = small_set(tmp_path)
    assert load_images("fashion-mnist", tmp_path).images.shape == (20, 1, 28, 28)
    path = raw / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"train-images.*15695 bytes long.*asks for 15696"):
        load_images("fashion-mnist", tmp_path)
    labels = (raw / "train-labels-idx1-ubyte").read_bytes()
    for contents in (b"", b"PK\x03\x04 a zip file", whole[:6], labels):
        path.write_bytes(contents)
        with pytest.raises(DataError, match=r"train-images.*not an IDX file.*3 axes"):
            load_images("fashion-mnist", tmp_path)


def test_images_and_labels_that_do_not_belong_together(tmp_path: Path) -> None:
    raw = small_set(tmp_path)
    path = raw / "t10k-labels-idx1-ubyte"
    head = struct.pack(">4B", 0, 0, 8, 1)
    path.write_bytes(head + struct.pack(">I", 19) + bytes(19))
    with pytest.raises(DataError, match=r"t10k-images.*20 images.*19 labels"):
        load_images("fashion-mnist", tmp_path)
    path.write_bytes(head + struct.pack(">I", 20) + bytes(19) + b"\x0a")
    with pytest.raises(DataError, match=r"t10k-labels.*label 10, expected 0 to 9"):
        load_images("fashion-mnist", tmp_path)


def test_a_set_without_images(tmp_path: Path) -> None:
    small_set(tmp_path, 0)
    with pytest.raises(DataError, match="0 images"):
        load_images("fashion-mnist", tmp_path)


def test_missing_set_that_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    with pytest.raises(DataError, match="missing, and torchvision could not download it"):
        load_images("kmnist", tmp_path)


def test_unknown_set() -> None:
    with pytest.raises(InputError, match=r"did you mean 'mnist'.*folder"):
        load_images("minst")


def test_resized(tmp_path: Path) -> None:
    small_set(tmp_path)
    data = load_images("fashion-mnist", tmp_path, size=32)
    assert data.shape == (1, 32, 32)
    assert data.labels is not None


def picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, "red" if mode == "RGB" else 128).save(path)
    return path


def test_folder_of_colour(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "one.png")
    picture(tmp_path / "b" / "two.jpg")
    picture(tmp_path / "grey.png", mode="L")
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"skipped files, 1 of other kinds \(.txt\)"):
        data = load_images("folder", tmp_path)
    assert data.images.shape == (3, 3, 32, 32)
    assert data.labels is None
    assert data.images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_folder_of_grey_stays_grey(tmp_path: Path) -> None:
    picture(tmp_path / "grey.png", (28, 28), "L")
    assert load_images("folder", tmp_path).shape == (1, 28, 28)


def test_folder_of_many_sizes_needs_a_size(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (40, 30))
    picture(tmp_path / "b.png", (64, 64))
    with pytest.raises(DataError, match=r"b.png: 64×64 pixels.*a.png has 40×30.*--size"):
        load_images("folder", tmp_path)
    assert load_images("folder", tmp_path, size=32).images.shape == (2, 3, 32, 32)


def test_bad_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found"):
        load_images("folder", tmp_path)
    whole = picture(tmp_path / "bad.png").read_bytes()
    for contents in (whole[:60], b"", b"hello"):
        (tmp_path / "bad.png").write_bytes(contents)
        with pytest.raises(DataError, match=r"bad.png: not a readable image"):
            load_images("folder", tmp_path)


def test_folder_needs_a_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs root"):
        load_images("folder")
    with pytest.raises(DataError, match="no such folder"):
        load_images("folder", tmp_path / "none")


def test_decompression_bombs_are_named(tmp_path: Path) -> None:
    """A small file whose header claims 40,000 × 40,000 pixels is refused before decoding."""
    whole = bytearray(picture(tmp_path / "bomb.png").read_bytes())
    whole[16:24] = struct.pack(">2I", 40_000, 40_000)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    (tmp_path / "bomb.png").write_bytes(whole)
    with pytest.raises(DataError, match=r"bomb.png: not a readable image .*Bomb"):
        load_images("folder", tmp_path, size=32)


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_animations_are_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film.{suffix}"
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"film.{suffix}: several images"):
        load_images("folder", tmp_path)


def test_a_single_gif_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "one.gif")
    assert load_images("folder", tmp_path).images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_deep_pixels_are_named(tmp_path: Path) -> None:
    """Pillow would clip them at 255, and the image would be white."""
    Image.new("I;16", (32, 32), 30_000).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png: pixels of more than 8 bits"):
        load_images("folder", tmp_path)


def test_a_long_strip_does_not_grow(tmp_path: Path) -> None:
    picture(tmp_path / "strip.png", (1_000_000, 1))
    assert load_images("folder", tmp_path, size=32).images.shape == (1, 3, 32, 32)


def test_enormous_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "huge.png", (300, 300))
    monkeypatch.setattr(image_files, "_MOST_PIXELS", 10_000)
    with pytest.raises(DataError, match=r"huge.png: 300×300 pixels"):
        load_images("folder", tmp_path, size=32)


def test_every_named_set_is_torchvisions() -> None:
    assert all(issubclass(cls, datasets.MNIST) for cls in DATASETS.values())
