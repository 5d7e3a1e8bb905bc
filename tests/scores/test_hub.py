"""Models on the Hugging Face hub, with a folder in the hub's place: there is no network here."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

import diffsde
from diffsde.cli.picking import pick_weights
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import CheckpointError, InputError
from diffsde.scores.hub import hub_name
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet

hub = pytest.importorskip(
    "huggingface_hub", reason="huggingface_hub is not installed: diffsde[huggingface]"
)


def model() -> ScoreModel:
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=16)
    return ScoreModel(network, VESDE(), (1, 8, 8), EDM()).eval()


class Hub:
    """A folder for each repository, by the functions of huggingface_hub that are used."""

    def __init__(self, place: Path) -> None:
        self.remote, self.cache = place / "remote", place / "cache"
        self.fetched: list[str] = []

    def snapshot_download(
        self, name: str, *, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> str:
        source, target = self.remote / name, self.cache / name
        if not source.is_dir():
            raise OSError("404: no such repository")
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            file = path.relative_to(source).as_posix()
            wanted = any(fnmatch(file, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch(file, pattern) for pattern in ignore_patterns):
                self.fetched.append(file)
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / file)
        target.mkdir(parents=True, exist_ok=True)
        return str(target)

    def create_repo(self, name: str, *, exist_ok: bool) -> None:
        (self.remote / name).mkdir(parents=True, exist_ok=exist_ok)

    def upload_file(self, *, path_or_fileobj: Path, path_in_repo: str, repo_id: str) -> None:
        shutil.copy(path_or_fileobj, self.remote / repo_id / path_in_repo)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    served = Hub(tmp_path / "hub")
    for name in ("snapshot_download", "create_repo", "upload_file"):
        monkeypatch.setattr(hub, name, getattr(served, name))
    monkeypatch.chdir(tmp_path)
    return served


def test_there_and_back(served: Hub) -> None:
    own = model()
    assert diffsde.save_model(own, "hf://user/digits.v1", note="n") == "hf://user/digits.v1"
    assert [p.name for p in (served.remote / "user" / "digits.v1").iterdir()] == [
        "model.safetensors"
    ]
    x = torch.randn(2, 1, 8, 8)
    for text in ("hf://user/digits.v1", "user/digits.v1"):
        assert torch.equal(diffsde.load_model(text)(x, 0.5), own(x, 0.5))
    assert torch.equal(pick_weights("user/digits.v1")(x, 0.5), own(x, 0.5))


def test_of_a_pipeline_only_what_is_needed(served: Hub) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4, layers_per_block=1, add_attention=False,
    ).eval()  # fmt: skip
    folder = served.remote / "google" / "ddpm"
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        (folder / "unet" / name).write_bytes(b"x")
    (folder / "other").mkdir()
    (folder / "other" / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    loaded = diffsde.load_model("google/ddpm")
    assert loaded.shape == (1, 8, 8)
    assert set(served.fetched) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


def test_nothing_heavy_of_a_pipeline_of_another_kind(served: Hub) -> None:
    folder = served.remote / "user" / "texts"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a pipeline of unet: UNet2DConditionModel"):
        diffsde.load_model("user/texts")
    assert served.fetched == ["model_index.json"]


def test_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").write_bytes(b"x")
    names: dict[Any, str | None] = {
        "google/ddpm-cifar10-32": "google/ddpm-cifar10-32",
        "user/model-v1.5": "user/model-v1.5",
        "hf://user/name": "user/name",
        "hf://runs/first": "runs/first",
        "runs/first": None,  # there is such a file
        "runs/model.safetensors": None,
        "runs/model.pt": None,
        "a/b/c": None,
        "./a": None,
        "/a/b": None,
        "../a": None,
        "mnist": None,
        Path("google/ddpm-cifar10-32"): None,
    }
    assert {text: hub_name(text) for text in names} == names
    for wrong in ("hf://", "hf://name", "hf://a/b/c", "hf://../a"):
        with pytest.raises(InputError, match="expected hf://user/name"):
            hub_name(wrong)


def test_what_goes_wrong_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"user/none: no such file or folder, and the Hugging Face hub did not .*404"
    with pytest.raises(CheckpointError, match=words):
        diffsde.load_model("user/none")
    with pytest.raises(CheckpointError, match="--model user/none: no such file"):
        pick_weights("user/none")

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError("401: not yours")

    monkeypatch.setattr(hub, "upload_file", refused)
    with pytest.raises(CheckpointError, match=r"401: not yours.*hf auth login"):
        diffsde.save_model(model(), "hf://user/name")


def test_a_model_that_cannot_be_saved_makes_no_repository(served: Hub) -> None:
    own = ScoreModel(torch.nn.Identity(), VESDE(), (1, 8, 8))
    with pytest.raises(InputError, match="Identity cannot be named"):
        diffsde.save_model(own, "hf://user/name")
    assert not served.remote.exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(CheckpointError, match=r"no such file or folder; .*diffsde\[huggingface\]"):
        diffsde.load_model("user/name")
    with pytest.raises(CheckpointError, match=r"pip install 'diffsde\[huggingface\]'"):
        diffsde.save_model(model(), "hf://user/name")
