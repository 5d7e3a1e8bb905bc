"""Inception's features: never downloaded, and never of other weights."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.evaluation import features
from diffsde.evaluation.features import pick_extractor
from diffsde.evaluation.real import RealImages, real_images
from tests.evaluation.made_up import pair


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder of weights, and a package that stands for torch_fidelity."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def real() -> RealImages:
    return real_images(pair(200, 100))


def test_without_the_package(real: RealImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError, match=r"pip install 'diffsde\[inception\]'"):
        pick_extractor("inception", real)


def test_without_the_weights(real: RealImages, checkpoints: Path) -> None:
    with pytest.raises(InputError, match=r"6726825d.pth is missing, .* put the file from https"):
        pick_extractor("inception", real)
    (checkpoints / features._INCEPTION).write_bytes(b"another network")
    with pytest.raises(InputError, match="damaged or another file"):
        pick_extractor("inception", real)


@pytest.mark.parametrize("channels", [1, 3])
def test_with_the_weights(
    channels: int, real: RealImages, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the network gets levels from 0 to 255 in three channels."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    seen: list[Any] = []

    class Network(nn.Module):
        def __init__(self, name: str, wanted: list[str], weights: str) -> None:
            super().__init__()
            seen.append((name, wanted, Path(weights).parent))

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return images.float().mean((2, 3))

    weights = b"the weights"
    name = f"weights-{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    (checkpoints / name).write_bytes(weights)
    monkeypatch.setattr(features, "_INCEPTION", name)
    monkeypatch.setattr(fid, "NoTrainInceptionV3", Network)
    made = pick_extractor("inception", real)
    found = made.extract(torch.tensor([0, 0.5, 1]).reshape(3, 1, 1, 1).expand(3, channels, 4, 4))
    assert seen[0] == ("inception-v3-compat", ["2048"], checkpoints)
    assert seen[1].dtype == torch.uint8
    assert found.tolist() == [[level] * 3 for level in (0, 128, 255)]
    assert made.classify is None
