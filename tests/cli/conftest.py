"""Small untrained networks: these tests are about commands, not digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffsde import VESDE, ScoreModel, ScoreUNet, save_model
from diffsde.scores.residual_unet import ResidualUNet


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of MNIST without classes."""
    sde = VESDE()
    torch.manual_seed(0)
    network = ScoreUNet(sde, channels=(32, 32, 32, 32), embed_dim=16)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return save_model(ScoreModel(network, sde, (1, 28, 28)), path, data="mnist")


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with three classes, of images larger than MNIST's."""
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=3)
    path = tmp_path_factory.mktemp("model") / "larger.safetensors"
    return save_model(ScoreModel(network, VESDE(), (1, 32, 32), "edm"), path)
