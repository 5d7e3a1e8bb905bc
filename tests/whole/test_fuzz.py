"""Hostile files: whatever a reader is given, it reads it or raises an error of ours.

Each reader gets some 30 inputs, and with `pytest --thorough tests/whole/test_fuzz.py` 10,000.
"""

from __future__ import annotations

import copy
import json
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffsde.analysis.dataset_likelihood import LikelihoodSummary, evaluate_likelihood
from diffsde.data.images import ImageData, load_data, load_images
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import CheckpointError, DiffSDEError
from diffsde.evaluation.classifier import Classifier, load_classifier
from diffsde.evaluation.samplers import Sampler, Samples, sample_images
from diffsde.scores.checkpoint import describe_model, load_model, save_model
from diffsde.scores.level_unet import LevelUNet
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import DenoisedPrediction
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.tensorfile import write_tensors
from diffsde.training.loop import train
from diffsde.training.recipes import Recipe
from diffsde.training.run import Run
from diffsde.training.run_folder import RunFolder

# Each example overwrites the one file that the test's folder has. The profile gives the number.
fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
a_third = settings(fuzzed, max_examples=-(-settings().max_examples // 3))

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
    fine = {"fine_channels": 8, "fine_blocks": 1, "sigma_data": 0.5}
    network = LevelUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, **fine)
    return ScoreModel(network, VESDE(), (1, 8, 8), DenoisedPrediction())


def small_images() -> ImageData:
    return ImageData("grey", torch.full((12, 1, 8, 8), 90, dtype=torch.uint8), None)


def small_trajectory() -> Trajectory:
    ts = torch.linspace(1, 0, 3, dtype=torch.float64)
    return Trajectory(ts, torch.zeros(3, 2, 1, 4, 4), "em", Stats(nfe=2), (1, 4, 4), ts, ts)


@cache
def whole_model() -> ScoreModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_model().eval()


def draw(folder: Path) -> Samples:
    """Two images: read from the folder, if they are there."""
    return sample_images(
        whole_model(), Sampler("euler", "ode", 2), 2, out=folder, chunk=2, progress=False
    )


def load_batch(path: Path) -> None:
    """The batch is found by its name in a folder."""
    folder = path.parent / "batches"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "ode-euler-karras-denoised-2-seed0-0-2.safetensors")
    found = draw(folder).images
    assert found.shape == (2, 1, 8, 8)
    assert len(list(folder.iterdir())) == 1, "the file was found"


def likelihoods(path: Path) -> LikelihoodSummary:
    images = torch.full((2, 1, 8, 8), 128 / 255)
    return evaluate_likelihood(whole_model().flow(), images, path=path, draws=1)


def load_likelihoods(path: Path) -> None:
    found = likelihoods(path)
    assert len(found.log_prob) == 2
    assert torch.isfinite(found.log_prob).all()


def small_classifier(path: Path) -> Path:
    network = Classifier((1, 8, 8), 2, "c").half()
    description = {"classifier": "c", "digest": "d", "shape": [1, 8, 8], "classes": 2}
    return write_tensors(path, network.state_dict(), description)


def written_by(compute: Callable[[Path], object], path: Path) -> Path:
    """The file that a computation leaves at the path, or in that folder."""
    compute(path)
    (found,) = path.iterdir() if path.is_dir() else [path]
    return found


def load_state(path: Path) -> None:
    # Not `train`: a state that asks for 10⁹ epochs is a whole one, and they would be trained.
    Run.load(path, small_images(), None, Accelerator())


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small whole file for each reader, by the reader's name."""
    folder = tmp_path_factory.mktemp("whole")
    start, recipe = small_model(), Recipe(
        network="LevelUNet", preconditioning="denoised", sigma_data=0.5, epochs=1, batch_size=4,
        held_out=4, precision="float32",
    )  # fmt: skip
    teacher = small_model()
    torch.nn.init.ones_(teacher.network.last.weight)
    train(folder, small_images(), recipe, start_from=start, teacher=teacher, progress=False)
    return {
        "model": save_model(start, folder / "m.safetensors", note="n"),
        "trajectory": small_trajectory().save(folder / "t.safetensors"),
        "state": RunFolder(folder, 1).newest(),
        "classifier": small_classifier(folder / "c.safetensors"),
        "batch": written_by(draw, folder / "batches"),
        "likelihoods": written_by(likelihoods, folder / "l.safetensors"),
    }


READERS: dict[str, Callable[[Path], object]] = {
    "model": load_model,
    "trajectory": Trajectory.load,
    "state": load_state,
    "classifier": load_classifier,
    "batch": load_batch,
    "likelihoods": load_likelihoods,
}


def header_length(whole: bytes) -> int:
    return 8 + int.from_bytes(whole[:8], "little")


def contents(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a file, and the description in its header."""
    whole = path.read_bytes()
    header = json.loads(whole[8 : header_length(whole)])
    return load_file(path), json.loads(header["__metadata__"]["description"])


@pytest.mark.parametrize("name", READERS)
def test_the_originals_are_read(name: str, originals: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    shutil.copy(originals[name], path)
    READERS[name](path)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@a_third
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
@a_third
def test_descriptions_that_lie(
    name: str, originals: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    tensors, description = contents(originals[name])
    path = write_tensors(
        tmp_path / "file.safetensors", tensors, data.draw(misdescribed(description))
    )
    with only_our_errors():
        READERS[name](path)


KINDS = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@st.composite
def other_tensors(draw: st.DrawFn, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, one or two of which are gone, renamed, of another kind, shape or size."""
    changed = dict(tensors)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(changed) or ["nothing"]))
        tensor = changed.pop(name, torch.zeros(2))
        how = draw(st.sampled_from(["gone", "name", "kind", "flat", "axis", "cut", "none", "nan"]))
        if how == "name":
            changed[draw(st.sampled_from([*tensors, "other"]))] = tensor
        elif how == "kind":
            changed[name] = tensor.to(draw(st.sampled_from(KINDS)))
        elif how == "nan":
            changed[name] = torch.full_like(tensor.double(), draw(st.floats(width=32)))
        elif how != "gone":
            reshaped = {
                "flat": tensor.flatten(),
                "axis": tensor[None],
                "cut": tensor.flatten()[: draw(st.integers(0, 3))],
                "none": tensor.flatten()[:1].reshape(()) if tensor.numel() else tensor,
            }
            changed[name] = reshaped[how]
    return changed


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@a_third
def test_tensors_that_are_others(
    name: str, originals: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    tensors, description = contents(originals[name])
    path = write_tensors(
        tmp_path / "file.safetensors", data.draw(other_tensors(tensors)), description
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
    args = description["network"]["args"]
    for change, match in (
        ({"channels": [4096, 4096], "blocks": [8, 32, 8]}, "has shape"),
        ({"fine_blocks": 10**12}, "expected integers from 1 to 64"),
        ({"fine_channels": 10**12}, "expected integers from 1 to 4096"),
    ):
        description["network"]["args"] = {**args, **change}
        write_tensors(tmp_path / "m", small_model().network.state_dict(), description)
        with pytest.raises(CheckpointError, match=match), bounded_memory():
            load_model(tmp_path / "m")


# -- pipelines of diffusers ----------------------------------------------------------

PARTS = ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"]
PARTS += ["vae/config.json"]
WEIGHTS = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole pipeline: a network, a scheduler and an autoencoder."""
    diffusers = pytest.importorskip("diffusers", reason="needs the extra `interchange`")
    folder, sizes = tmp_path_factory.mktemp("pipeline"), {"block_out_channels": (4,)}
    parts = {
        "unet": diffusers.UNet2DModel(
            sample_size=4, in_channels=4, out_channels=4, down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",), norm_num_groups=2, layers_per_block=1,
            add_attention=False, **sizes,
        ),
        "vae": diffusers.AutoencoderKL(norm_num_groups=2, mid_block_add_attention=False, **sizes),
        "scheduler": diffusers.DDIMScheduler(num_train_timesteps=20),
    }  # fmt: skip
    index: dict[str, Any] = {"_class_name": "DDPMPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert load_model(folder).decoder is not None
    return folder


@given(data=st.data())
@fuzzed
def test_damaged_pipelines(pipeline: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "pipeline"
    shutil.copytree(pipeline, folder, dirs_exist_ok=True)
    file = folder / data.draw(st.sampled_from([*PARTS, *PARTS, *WEIGHTS]))
    whole = file.read_bytes()
    if file.suffix == ".json" and data.draw(st.integers(0, 3)):
        file.write_text(json.dumps(data.draw(misdescribed(json.loads(whole)))), "utf-8")
    else:
        others = [(folder / name).read_bytes() for name in (*PARTS, *WEIGHTS)]
        file.write_bytes(data.draw(damaged([whole, *others], min(len(whole), 512))))
    with only_our_errors():
        load_model(folder)


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
