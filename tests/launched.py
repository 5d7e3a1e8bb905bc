"""What the processes of a launch do in `test_accelerate`: train.

torchrun --nproc_per_node 2 -m tests.launched FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from diffsde.data.images import ImageData
from diffsde.equations.variance_exploding import VESDE
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.training import loop as training
from diffsde.training.recipes import Recipe

RECIPE = Recipe(
    network="ResidualUNet",
    preconditioning="edm",
    sigma_data=0.5,
    objective="lognormal",
    epochs=2,
    batch_size=16,
    held_out=16,
    averages=(0.9, 0.99),
    precision="float32",
    classes=3,
)  # fmt: skip


def small_model(classes: int = 0) -> ScoreModel:
    """A network whose weights are far from its initial zeros."""
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=classes)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return ScoreModel(network, VESDE(), (1, 8, 8), EDM())


def images(n: int = 80) -> ImageData:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=generator)
    return ImageData("noise", pixels.to(torch.uint8), torch.arange(n) % 3)


def work(folder: Path, accumulate: int = 1) -> None:
    """Write the run `run` to the folder."""
    training._LOG_EVERY = 1  # keep the loss of every update
    recipe = replace(RECIPE, accumulate=accumulate)
    training.train(
        folder / "run", images(), recipe, start_from=small_model(RECIPE.classes), progress=False
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(Path(sys.argv[1]))
