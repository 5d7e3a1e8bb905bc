"""Folders of images: classes, parts, turned photographs, stray files, and check sums."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffsde.data.images import load_images
from diffsde.errors import DataError, InputError


def picture(path: Path, height: int = 6, width: int = 8, shade: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), shade).save(path)
    return path


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for k, where in enumerate(("dog/a", "cat/deep/b", "dog/c", "axe/d")):
        picture(tmp_path / f"{where}.png", shade=k)
    data = load_images(tmp_path)
    assert data.class_names == ("axe", "cat", "dog")
    assert data.labels is not None
    # As torchvision's ImageFolder numbers them, whatever the order of the files.
    of_shade = dict(zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True))
    assert of_shade == {0: 2, 1: 1, 2: 2, 3: 0}
    picture(tmp_path / "loose.png")
    assert load_images(tmp_path).labels is None


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_parts_are_kept_apart(test: str, tmp_path: Path) -> None:
    for part, count in (("train", 3), (test, 2)):
        for k in range(count):
            picture(tmp_path / part / f"{'ab'[k % 2]}" / f"{k}.png")
    assert len(load_images(tmp_path)) == 3
    data = load_images(tmp_path, train=False)
    assert (len(data), data.class_names) == (2, ("a", "b"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "plane"):
        picture(tmp_path / name / "0.png")
    assert load_images(tmp_path).class_names == ("plane", "train")


def test_a_set_without_test_images_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "0.png")
    with pytest.raises(DataError, match="only training images"):
        load_images(tmp_path, train=False)


@pytest.mark.parametrize("turned", range(1, 9))
def test_photographs_are_upright(turned: int, tmp_path: Path) -> None:
    """Eight ways to hold a camera, and one picture."""
    upright = np.arange(48, dtype=np.uint8).reshape(6, 8)
    # What the sensor saw, from the definition of the tag: rows and columns of the stored image.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[turned]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = turned
    image.save(tmp_path / "photo.png", exif=exif)
    assert torch.equal(load_images(tmp_path).images[0, 0], torch.from_numpy(upright))


def test_stray_files_are_skipped_with_one_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in (".DS_Store", "._a.png", "Thumbs.db", ".cache/b.png", "__MACOSX/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"5 hidden.* and 1 of other kinds \(\.txt\)") as told:
        assert len(load_images(tmp_path)) == 1
    assert len(told) == 1
    picture(tmp_path / "clean" / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(tmp_path / "clean")


@pytest.mark.parametrize("size", ["5x3", (5, 3), "5×3", " 5 X 3 "])
def test_sizes_need_not_be_square(size: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10, 20)
    picture(tmp_path / "b.png", 7, 7)
    assert load_images(tmp_path, size=size).shape == (1, 5, 3)


def test_the_centre_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((6, 12), np.uint8)
    pixels[:, 4:8] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert bool((load_images(tmp_path, size=(6, 4)).images == 255).all())
    assert load_images(tmp_path, size=(3, 6)).images[0, 0, 1, 0] == 0


@pytest.mark.parametrize("size", [0, -1, "a", "3x", "1x2x3", (1, 2, 3), 2.5, True, "99999"])
def test_sizes_that_are_none(size: object, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"size = .*HEIGHTxWIDTH"):
        load_images(tmp_path, size=size)  # type: ignore[arg-type]


def test_paths_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "mnist"):
        picture(tmp_path / folder / "a.png")
    for dataset in ("photos", "photos/", "./photos", Path("photos"), "./mnist", Path("mnist")):
        assert len(load_images(dataset)) == 1
    with pytest.raises(InputError, match="leave root out"):
        load_images("./photos", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_images("./fotos")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"a\.txt: a file, but not one of \.npy, \.npz"):
        load_images("./a.txt")


def test_the_sums_of_a_png_are_checked(tmp_path: Path) -> None:
    """A pixel that changed on the disk, in a file that decodes all the same."""
    path = picture(tmp_path / "a.png")
    whole = bytearray(path.read_bytes())
    start = whole.index(b"IDAT") + 4
    length = struct.unpack(">I", whole[start - 8 : start - 4])[0]
    raw = bytearray(zlib.decompress(whole[start : start + length]))
    raw[5] ^= 64
    whole[start : start + length + 4] = zlib.compress(bytes(raw)) + whole[start + length :][:4]
    whole[start - 8 : start - 4] = struct.pack(">I", len(zlib.compress(bytes(raw))))
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.png: not a readable image"):
        load_images(tmp_path)


def huge_webp(head: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(head)) + b"WEBP" + head + bytes(32)


@pytest.mark.parametrize(
    "contents",
    [
        huge_webp(b"VP8X" + struct.pack("<II", 10, 0) + b"\xff\x3f\0\xff\x3f\0"),
        huge_webp(b"VP8L" + struct.pack("<IBI", 20, 0x2F, 0x3FFF | 0x3FFF << 14)),
        huge_webp(b"VP8 " + struct.pack("<I", 20) + bytes(3) + b"\x9d\x01\x2a\xff\x3f\xff\x3f"),
        b"GIF89a" + struct.pack("<HH", 60_000, 1000) + bytes(3) + b"," + bytes(20),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 8000, 8000, 1, 24, *[0] * 6),
    ],
    ids=["webp", "webp lossless", "webp lossy", "gif", "bmp"],
)
def test_a_small_file_that_claims_to_be_large_is_not_decoded(
    contents: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("diffsde.data.image_files.as_tensor", decoded)
    (tmp_path / "a.png").write_bytes(contents)
    with pytest.raises(DataError, match=r"pixels in \d+ bytes|more than the limit"):
        load_images(tmp_path)
