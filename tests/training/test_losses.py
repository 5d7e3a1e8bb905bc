"""The precision of a training is the one that was measured to be faster."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde.data.images import ImageData
from diffsde.equations.variance_exploding import VESDE
from diffsde.scores.model import ScoreModel
from diffsde.training import losses
from diffsde.training.recipes import Recipe

DATA = ImageData("black", torch.zeros(4, 1, 4, 4, dtype=torch.uint8), None)


@pytest.mark.parametrize(("fast", "slow"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_auto_takes_the_faster_precision(
    fast: str, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the first update of each costs, which prepares those that follow."""
    model = ScoreModel(nn.Linear(1, 1), VESDE(), (1, 4, 4))
    calls, now = {"float32": 0, "bfloat16": 0}, 0.0

    def timed(model: ScoreModel, data: object, index: object, recipe: Recipe, _: Tensor) -> Tensor:
        nonlocal now
        calls[recipe.precision] += 1
        preparing = 10.0 if calls[recipe.precision] == 1 and recipe.precision == fast else 0.0
        now += preparing + (2.0 if recipe.precision == slow else 1.0)
        return model.network.weight.sum()

    monkeypatch.setattr(losses, "loss_of_images", timed)
    monkeypatch.setattr(losses, "seconds_on", lambda place: now)
    assert losses.fastest_precision(model, DATA, Recipe(), range(4)) == fast
    assert model.network.weight.grad is None
