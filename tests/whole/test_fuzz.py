"""Hostile files: whatever a reader is given, it reads it or raises an error of ours.

By default each test gets 50 inputs; `pytest --hypothesis-profile=thorough tests/test_fuzz.py`
gives each 2,000, 16,000 in all.
"""

from __future__ import annotations

import copy
import json
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from diffsde.data.images import ImageData, load_data, load_images
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import CheckpointError, DiffSDEError
from diffsde.scores.checkpoint import describe_model, load_model, save_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.tensorfile import write_tensors
from diffsde.training.loop import train
from diffsde.training.recipes import Recipe
from diffsde.training.run import Run
from diffsde.training.run_folder import RunFolder

# Each example overwrites the one file that the test's folder has.
fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

ROOM = 400 * 2**20  # bytes: far more than the largest of these inputs needs


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Within, this process may grow by `ROOM` and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Within, errors of ours are fine; others are not, nor is a request for much memory."""
    try:
        with bounded_memory():
            yield
    except DiffSDEError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError) or "allocate" in str(cause):
            raise MemoryError(str(error)) from error


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes], head: int) -> bytes:
    """One of the files with its head swapped, bytes changed, its end cut off or grown."""
    body = draw(st.sampled_from(files))
    donor = draw(st.sampled_from(files))
    kind = draw(st.sampled_from(["bytes", "cut", "grow", "swap", "noise"]))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if kind == "grow":
        return body + draw(st.binary(max_size=64))
    if kind == "swap":
        return donor[:head] + body[head:]
    if kind == "noise":
        return draw(st.binary(max_size=256))
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 8))):
        # The head is where the sizes are; the rest is mostly pixels or weights.
        end = min(head, len(body)) if draw(st.integers(0, 3)) else len(body)
        changed[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


def places(value: Any) -> list[tuple[Any, ...]]:
    """Paths to everything within a JSON value, itself included."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        items = [*(value.items() if isinstance(value, dict) else enumerate(value))]
    return [(), *((key, *rest) for key, inner in items for rest in places(inner))]


numbers = st.one_of(
    st.integers(),
    st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**18, 10**400]),
    st.floats(),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@st.composite
def misdescribed(draw: st.DrawFn, description: dict[str, Any]) -> Any:
    """The description with one or two of its parts replaced, removed or joined by another."""
    changed: Any = copy.deepcopy(description)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(changed)))
        if not path:
            if isinstance(changed, dict):
                changed = {**changed, draw(st.text(max_size=8)): draw(anything)}
            continue
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        if draw(st.booleans()) or not isinstance(inner, dict):
            inner[path[-1]] = draw(anything)
        else:
            del inner[path[-1]]
    return changed


# -- the files that are damaged ------------------------------------------------------


def small_model() -> ScoreModel:
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8)
    return ScoreModel(network, VESDE(), (1, 8, 8), EDM())


def small_images() -> ImageData:
    return ImageData("grey", torch.full((12, 1, 8, 8), 90, dtype=torch.uint8), None)


def small_trajectory() -> Trajectory:
    ts = torch.linspace(1, 0, 3, dtype=torch.float64)
    return Trajectory(ts, torch.zeros(3, 2, 1, 4, 4), "em", Stats(nfe=2), (1, 4, 4), ts, ts)


def load_state(path: Path) -> None:
    # Not `train`: a state that asks for 10⁹ epochs is a whole one, and they would be trained.
    Run.load(path, small_images(), None, Accelerator())


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small whole file for each reader, by the reader's name."""
    folder = tmp_path_factory.mktemp("whole")
    start, recipe = small_model(), Recipe(
        network="ResidualUNet", preconditioning="edm", sigma_data=0.5, epochs=1, batch_size=4,
        held_out=4, precision="float32",
    )  # fmt: skip
    teacher = small_model()
    torch.nn.init.ones_(teacher.network.last.weight)
    train(folder, small_images(), recipe, start_from=start, teacher=teacher, progress=False)
    return {
        "model": save_model(start, folder / "m.safetensors", note="n"),
        "trajectory": small_trajectory().save(folder / "t.safetensors"),
        "state": RunFolder(folder, 1).newest(),
    }


READERS: dict[str, Callable[[Path], object]] = {
    "model": load_model,
    "trajectory": Trajectory.load,
    "state": load_state,
}


def header_length(whole: bytes) -> int:
    return 8 + int.from_bytes(whole[:8], "little")


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@fuzzed
def test_damaged_tensor_files(
    name: str, originals: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    files = [path.read_bytes() for path in originals.values()]
    chosen = originals[name].read_bytes()
    path = tmp_path / "file.safetensors"
    path.write_bytes(data.draw(damaged([chosen, *files], header_length(chosen))))
    with only_our_errors():
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@fuzzed
def test_descriptions_that_lie(
    name: str, originals: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    tensors = load_file(originals[name])
    whole = originals[name].read_bytes()
    header = json.loads(whole[8 : header_length(whole)])
    description = json.loads(header["__metadata__"]["description"])
    path = write_tensors(
        tmp_path / "file.safetensors", tensors, data.draw(misdescribed(description))
    )
    with only_our_errors():
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "1" * 100_000, "\ud800", '{"a":', "", "null", '"' + "x" * 100_000],
    ids=lambda text: text[:4],
)
def test_json_that_is_no_description(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    metadata = {"format": "diffsde-1", "description": text.encode("utf-8", "replace").decode()}
    save_file({"w": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError):
        READERS[name](path)


def test_headers_that_ask_for_much_memory(tmp_path: Path) -> None:
    """A header that names a terabyte, and one whose own length is a terabyte."""
    path = tmp_path / "m.safetensors"
    tensor = {"dtype": "F32", "shape": [2**19, 2**19], "data_offsets": [0, 2**40]}
    header = json.dumps({"w": tensor}).encode()
    for head in (len(header), 2**40):
        path.write_bytes(head.to_bytes(8, "little") + header + bytes(64))
        with pytest.raises(CheckpointError), bounded_memory():
            load_model(path)


def test_a_small_file_that_names_a_huge_network(tmp_path: Path) -> None:
    """Valid sizes, of 60 GB of weights that the file does not hold: nothing is allocated."""
    description = describe_model(small_model())
    description["network"]["args"] |= {"channels": [4096, 4096], "blocks": [8, 32, 8]}
    write_tensors(tmp_path / "m", small_model().network.state_dict(), description)
    with pytest.raises(CheckpointError, match="has shape"), bounded_memory():
        load_model(tmp_path / "m")


# -- images --------------------------------------------------------------------------


def idx(kind: str, count: int = 4) -> bytes:
    if kind == "images":
        return struct.pack(">4B3I", 0, 0, 8, 3, count, 5, 5) + bytes(count * 25)
    return struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(range(count))


@given(
    image_file=damaged([idx("images"), idx("labels")], 16),
    label_file=st.one_of(st.just(idx("labels")), damaged([idx("labels"), idx("images")], 8)),
)
@fuzzed
def test_damaged_idx_files(tmp_path: Path, image_file: bytes, label_file: bytes) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(image_file)
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(label_file)
    with only_our_errors():
        data = load_images("fashion-mnist", tmp_path)
        assert data.labels is not None
        assert len(data.images) == len(data.labels)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small arrays in NumPy's files: images, points and signals, packed and not."""
    folder = tmp_path_factory.mktemp("arrays")
    pixels, labels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4), np.arange(2)
    np.save(folder / "images.npy", pixels)
    np.save(folder / "points.npy", np.ones((3, 2)))
    np.savez(folder / "labelled.npz", images=pixels, labels=labels)
    np.savez_compressed(folder / "packed.npz", signals=np.ones((3, 2, 50), "f4"), y=np.arange(3))
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@given(data=st.data())
@fuzzed
def test_damaged_arrays(arrays: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / f"array{data.draw(st.sampled_from(['.npy', '.npz']))}"
    path.write_bytes(data.draw(damaged(arrays, 128)))
    with only_our_errors():
        assert len(load_data(path)) > 0


SUFFIXES = ["png", "jpg", "gif", "bmp", "webp", "tif"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A small picture in each format, in colour and in grey."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for suffix in SUFFIXES:
        for mode in ("RGB", "L"):
            image = Image.radial_gradient("L").resize((12, 9)).convert(mode)
            image.save(folder / f"{mode}.{suffix}")
            found.append((folder / f"{mode}.{suffix}").read_bytes())
    return found


@given(data=st.data())
@fuzzed
def test_damaged_pictures(pictures: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / f"picture.{data.draw(st.sampled_from(SUFFIXES))}"
    path.write_bytes(data.draw(damaged(pictures, 64)))
    try:
        with only_our_errors():
            assert len(load_images("folder", tmp_path, size=8).images) == 1
    finally:
        path.unlink()
