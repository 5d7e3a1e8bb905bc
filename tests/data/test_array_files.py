"""NumPy's files: what an array means, and which are refused."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffsde.data import ArrayData, ImageData, load_data
from diffsde.data.images import load_images
from diffsde.errors import DataError, InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
POINTS = np.random.default_rng(1).normal(size=(5, 2))
SIGNALS = np.random.default_rng(2).normal(size=(5, 2, 9)).astype(np.float32)
LABELS = np.array([0, 2, 1, 0, 2], np.uint8)


def saved(path: Path, array: Any = None, **arrays: Any) -> Path:
    if arrays:
        np.savez(path, **arrays)
    else:
        np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (PIXELS, (0, 3, 1, 2)),
        (PIXELS[..., :1], (0, 3, 1, 2)),
        (PIXELS.transpose(0, 3, 1, 2), (0, 1, 2, 3)),
        (PIXELS.transpose(0, 3, 1, 2)[:, :1], (0, 1, 2, 3)),
        (np.asfortranarray(PIXELS), (0, 3, 1, 2)),
    ],
)
def test_images_of_every_layout(array: Any, axes: tuple[int, ...], tmp_path: Path) -> None:
    data = load_images(saved(tmp_path / "a.npy", array))
    assert torch.equal(data.images, torch.from_numpy(array.transpose(axes).copy()))
    assert data.labels is None


def test_grey_images(tmp_path: Path) -> None:
    data = load_images(saved(tmp_path / "a.npy", PIXELS[..., 0]))
    assert torch.equal(data.images[:, 0], torch.from_numpy(PIXELS[..., 0].copy()))
    assert load_images(tmp_path / "a.npy", size=(3, 4)).shape == (1, 3, 4)


@pytest.mark.parametrize("array", [PIXELS[:, :3], PIXELS[..., 1:], PIXELS[0], PIXELS[:, 0, 0]])
def test_ambiguous_layouts_are_refused(array: Any, tmp_path: Path) -> None:
    """Both axes may be colours, or neither, or it is one image, or none."""
    with pytest.raises(DataError, match=r"uint8 of shape .*expected images"):
        load_images(saved(tmp_path / "a.npy", array))


@pytest.mark.parametrize(
    ("array", "fix"),
    [
        (PIXELS / 255, "save (255 * x).round().astype('uint8')"),
        (PIXELS / 127.5 - 1, "save (255 * (x - low) / (high - low)).round().astype('uint8')"),
        (PIXELS[..., 0] / 255, "or numpy.savez(path, signals=x)"),
        (PIXELS.astype(np.int64), "x.astype('uint8')"),
        (PIXELS > 3, "x.astype('uint8')"),
        (POINTS.astype(complex), "expected numbers"),
    ],
)
def test_what_is_no_image_is_refused_with_the_fix(array: Any, fix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(fix)):
        load_data(saved(tmp_path / "a.npy", array))


def test_points_and_signals(tmp_path: Path) -> None:
    points = load_data(saved(tmp_path / "p.npy", POINTS))
    assert isinstance(points, ArrayData)
    assert torch.equal(points.values, torch.from_numpy(POINTS).float())
    signals = load_data(saved(tmp_path / "s.npz", signals=SIGNALS, y=LABELS))
    assert torch.equal(signals.samples, torch.from_numpy(SIGNALS))
    assert signals.known_labels().tolist() == LABELS.tolist()
    with pytest.raises(InputError, match=r"shape \(2,\), not images.*load_data"):
        load_images(tmp_path / "p.npy")
    with pytest.raises(InputError, match="holds numbers, not images"):
        load_data(tmp_path / "p.npy", size=8)


@pytest.mark.parametrize(
    ("first", "second"), [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}")]
)
def test_parts_by_name(first: str, second: str, tmp_path: Path) -> None:
    arrays = {
        first.format("train"): PIXELS[:3],
        second.format("train"): LABELS[:3, None],
        first.format("test"): PIXELS[3:],
        second.format("test"): LABELS[3:, None],
    }
    path = saved(tmp_path / "a.npz", **arrays)
    for part, at in ((True, slice(3)), (False, slice(3, None))):
        data = load_images(path, train=part)
        assert isinstance(data, ImageData)
        assert data.known_labels().tolist() == LABELS[at].tolist()
        assert torch.equal(data.images, torch.from_numpy(PIXELS[at].transpose(0, 3, 1, 2).copy()))


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": PIXELS, "x": PIXELS},
        {"one": PIXELS},
        {"x_train": PIXELS, "x": PIXELS, "data_train": PIXELS},
        {"images": PIXELS, "labels": LABELS, "y": LABELS},
    ],
)
def test_names_that_leave_a_choice(arrays: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one of samples"):
        load_data(saved(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("labels", [LABELS[:4], LABELS / 2, LABELS.astype(int) - 1, np.eye(5)])
def test_labels_that_do_not_fit(labels: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels .* expected 5 whole numbers from 0"):
        load_data(saved(tmp_path / "a.npz", images=PIXELS, labels=labels))


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    array = POINTS.copy()
    array[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 5 samples are not finite, the first at index 3"):
        load_data(saved(tmp_path / "a.npy", array))


def test_a_header_that_asks_for_more_than_there_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", PIXELS)
    path.write_bytes(path.read_bytes().replace(b"(5, 6", b"(9, 6"))
    with pytest.raises(DataError, match=r"asks for 1296 bytes, but there are 720"):
        load_data(path)


def test_a_packed_file_that_claims_much(tmp_path: Path) -> None:
    """A member of the archive that says it has a terabyte."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**10, 2**10)}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", head.getvalue())
    size = struct.pack("<I", len(head.getvalue()))
    claimed = path.read_bytes().replace(size, struct.pack("<I", 2**32 - 2))
    path.write_bytes(claimed)
    with pytest.raises(DataError, match="claims"):
        load_data(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, which could be code"):
        load_data(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("count", [5, 500])  # the second is longer than what is read at once
def test_the_sums_of_a_packed_file_are_checked(save: Any, count: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    save(path, images=pixels)
    assert np.array_equal(load_images(path).images[:, 0], pixels)
    whole = bytearray(path.read_bytes())
    whole[len(whole) - 300] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"not a readable \.npz file"):
        load_images(path)
