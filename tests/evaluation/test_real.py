"""Real images: which are learned from, and which are scored against."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffsde.data.images import ImageData, load_images
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.evaluation.real import data_of, real_images
from diffsde.evaluation.scoring import evaluate
from diffsde.scores.checkpoint import load_model, save_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.training.recipes import Recipe
from tests.evaluation.made_up import coloured, pair


def model(shape: tuple[int, int, int] = (1, 28, 28), data: str | None = None) -> ScoreModel:
    network = ResidualUNet(in_channels=shape[0], channels=(8, 32), blocks=(1, 1, 1), embed_dim=8)
    made = ScoreModel(network, VESDE(), shape, "edm")
    made.data = data
    return made


def test_named_sets_have_test_images() -> None:
    real = real_images("mnist")
    assert (len(real.train.images), len(real.test.images), real.divided) == (60_000, 10_000, False)
    assert torch.equal(real.test.images, load_images("mnist", train=False).images)


@pytest.mark.parametrize("held_out", [None, 30])
def test_a_set_without_test_images_is_divided_as_training_divides_it(held_out: int | None) -> None:
    n, share = 20_000, Recipe.held_out
    last = held_out or (math.ceil(share * n) if share < 1 else int(share))
    images = (torch.arange(n)[:, None, None, None] % 256).to(torch.uint8)
    real = real_images(ImageData("all", images, torch.arange(n)), held_out=held_out)
    assert real.divided
    assert torch.equal(torch.cat([real.train.images, real.test.images]), images)
    assert real.test.known_labels().tolist() == list(range(n - last, n))


def test_a_model_knows_what_it_did_not_learn_from(tmp_path: Path) -> None:
    """By the recipe in its file."""
    data = coloured(60, 0)
    for notes, last in (({"held_out": 7}, 7), ({"held_out": 5.0}, 5)):
        save_model(model((3, 32, 32)), tmp_path / "model", data="coloured", recipe=notes)
        assert len(data_of(load_model(tmp_path / "model"), data).test.images) == last
    save_model(model((3, 32, 32)), tmp_path / "model", data="coloured", recipe={"held_out": 0})
    with pytest.raises(InputError, match="no test images, and of its 60 images 0 were held out"):
        data_of(load_model(tmp_path / "model"), data)
    for notes in ({"held_out": "7"}, {"held_out": 0.5}, {"held_out": math.inf}, None, 3):
        save_model(model((3, 32, 32)), tmp_path / "model", recipe=notes)
        assert load_model(tmp_path / "model").held_out is None


def test_the_digest_is_of_images_and_labels() -> None:
    train, test = pair()
    one = real_images((train, test))
    assert one.digest == real_images([*pair()]).digest
    assert train.labels is not None
    flipped = ImageData(train.name, train.images, train.labels.flip(0))
    assert real_images((flipped, test)).training_digest != one.training_digest
    assert real_images((train, train)).training_digest == one.training_digest
    assert real_images((train, train)).digest != one.digest


def test_a_folder_of_coloured_images(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    for number, image in enumerate(coloured(1000, 3, size=(8, 8)).images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:04}.bmp")
    real = real_images("folder", tmp_path, held_out=100)
    assert real.divided
    assert real.train.shape == (3, 8, 8)
    assert len(real.test.images) == 100
    images = real.test.images.float() / 255
    means = evaluate(images, real, lambda x: x.mean((2, 3)), bootstraps=1)
    assert means.fid == pytest.approx(0, abs=1e-5)
    assert means.data == tmp_path.name
    small = real_images(ImageData("few", real.train.images, None), held_out=50)
    with pytest.raises(InputError, match="50 test images of few are too few"):
        evaluate(images, small, lambda x: x.mean((2, 3)), bootstraps=1)


@pytest.mark.parametrize("data", [3, None, (coloured(4, 0),), [torch.rand(5)] * 2, torch.rand(5)])
def test_data_that_are_none(data: Any) -> None:
    with pytest.raises(InputError, match=r"expected the name .* an ImageData, or a pair of them"):
        real_images(data)


def test_two_parts_have_one_shape() -> None:
    with pytest.raises(InputError, match=r"coloured: training images of shape \(3, 32, 32\)"):
        real_images((coloured(4, 0), coloured(4, 0, size=(16, 16))))


def test_data_default_to_the_model_s_own() -> None:
    assert data_of(model(data="mnist")).name == "mnist"
    assert data_of(model((3, 32, 32)), pair()).name == "coloured"
    assert data_of(torch.nn.DataParallel(model(data="mnist"))).name == "mnist"  # type: ignore[arg-type]
    for name, words in ((None, "what is not known"), ("photos", "'photos', which is no known set")):
        with pytest.raises(InputError, match=f"trained on {words}: give data="):
            data_of(model(data=name))
    with pytest.raises(InputError, match="3 × 32 × 32, but the model is of 1 × 28 × 28"):
        data_of(model(data="mnist"), pair())
