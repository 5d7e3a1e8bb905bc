"""A teacher's targets: the same gradient on average, with less noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffsde import ScoreModel, train
from diffsde.data.images import ImageData
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores.exact import GaussianScore
from diffsde.scores.preconditioning import DenoisedPrediction
from diffsde.system.description import digest_of_score
from diffsde.system.tensorfile import read_tensors, write_tensors
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image, training_loss
from diffsde.training.recipes import Recipe
from diffsde.training.run_folder import RunFolder
from diffsde.training.teacher import Teacher
from tests.launched import small_model

RECIPE = Recipe(
    network="ResidualUNet",
    preconditioning="edm",
    objective="lognormal",
    sigma_data=0.33,
    level_mean=-1.0,
    level_std=0.5,
    held_out=0,
    precision="float32",
)


# A model with another forward process.
OTHER = ScoreModel(small_model().network, VESDE(sigma=9.0), (1, 8, 8))


class Linear(nn.Module):
    """A network with one weight, so that its gradient is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor, _label: Tensor) -> Tensor:
        return self.weight * x


def grey(count: int = 12, size: int = 8, labels: bool = True) -> ImageData:
    pixels = torch.full((count, 1, size, size), 90, dtype=torch.uint8)
    return ImageData("grey", pixels, torch.arange(count) % 3 if labels else None)


def test_the_gradient_has_the_same_mean_and_less_noise() -> None:
    """Two classes of one pixel, N(±0.2, 0.4²): the exact denoiser of each is the teacher."""
    sde, batch, batches = VESDE(), 1000, 60
    model = ScoreModel(Linear(), sde, (1, 1, 1), DenoisedPrediction(0.5))
    noise = TrainingNoise(0, "training", numbers_per_image((1, 1, 1), RECIPE))
    torch.manual_seed(0)
    found: dict[str, list[Tensor]] = {"images": [], "teacher": []}
    for step in range(batches):
        centre = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, -0.2, 0.2)
        x = centre + 0.4 * torch.randn(centre.shape)

        def told(noisy: Tensor, t: Tensor, centre: Tensor = centre) -> Tensor:
            score = GaussianScore(sde, 0.0, 0.4)(noisy - centre, t)
            return noisy + sde.marginal_std(t).view(-1, 1, 1, 1) ** 2 * score

        numbers = noise.draw(step, range(batch))
        for name, target in (("images", None), ("teacher", told)):
            loss = training_loss(model, x, RECIPE, numbers, target=target)
            found[name] += torch.autograd.grad(loss, [model.network.weight])
    images, teacher = (torch.stack(gradients) for gradients in found.values())
    difference = images - teacher
    # Five standard errors of the mean of 60 differences.
    assert abs(difference.mean()) < 5 * difference.std() / batches**0.5
    assert teacher.std() < 0.8 * images.std()


def test_a_teacher_is_told_the_classes_of_its_images() -> None:
    data, model = grey(), small_model(3)
    teacher = Teacher(model, small_model(0), data)
    index, x, t = torch.tensor([4, 3, 11]), torch.randn(3, 1, 8, 8), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        expected = model.denoise(x, t, torch.tensor([1, 0, 2]))
    assert torch.equal(teacher.target(index)(x, t), expected)
    assert not torch.equal(expected, model.denoise(x, t))


def test_a_pupil_that_is_its_teacher_has_nothing_to_learn() -> None:
    data, model = grey(), small_model(0)
    index = torch.arange(12)
    noise = TrainingNoise(0, "training", numbers_per_image(data.shape, RECIPE))
    numbers = noise.draw(0, range(12))
    target = Teacher(model, model, data).target(index)
    assert training_loss(model, data.batch(index), RECIPE, numbers, target=target) == 0
    assert training_loss(model, data.batch(index), RECIPE, numbers) > 1


def test_the_card_tells_one_teacher_from_another(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, batch_size=12, averages=(), blocks=(1, 1, 1))
    found = []
    for weight in (0.0, 0.1):
        model = small_model(0)
        nn.init.constant_(model.network.last.weight, weight)
        train(tmp_path / f"{weight}", grey(), recipe, teacher=model, progress=False)
        notes = read_tensors(tmp_path / f"{weight}" / "model.safetensors")[1]["notes"]
        assert notes["teacher"]["digest"] == digest_of_score(model)
        found.append(notes["teacher"]["digest"])
    assert found[0] != found[1]


def test_the_card_tells_teachers_apart_by_all_that_they_are(tmp_path: Path) -> None:
    """One weight in two preconditionings, and a mean; a resumed run names the same teacher."""
    recipe = replace(RECIPE, epochs=1, batch_size=12, averages=(), blocks=(1, 1, 1))
    plain, centred, other = small_model(0), small_model(0), small_model(0)
    centred.sde.centre(torch.full((1, 8, 8), 0.3))
    other.preconditioning = DenoisedPrediction(0.5)
    digests = [Teacher(model, small_model(0), grey()).digest for model in (plain, centred, other)]
    assert len(set(digests)) == 3
    train(tmp_path, grey(), recipe, teacher=centred, progress=False)
    train(tmp_path, grey(), replace(recipe, epochs=2), resume=True, progress=False)
    notes = read_tensors(tmp_path / "model.safetensors")[1]["notes"]
    assert notes["updates"] == 2
    assert notes["teacher"]["digest"] == digests[1]


def test_a_run_goes_on_with_its_own_images_only(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, batch_size=12, averages=(), blocks=(1, 1, 1))
    train(tmp_path, grey(), recipe, progress=False)
    darker = replace(grey(), images=grey().images - 1)
    relabelled = replace(grey(), labels=torch.zeros(12, dtype=torch.long))
    longer = replace(recipe, epochs=2)
    for data in (darker, relabelled, grey(labels=False)):
        with pytest.raises(InputError, match="other samples or labels of the same shape: resume"):
            train(tmp_path, data, longer, resume=True, progress=False)
    state = RunFolder(tmp_path, 1).newest()
    tensors, notes = read_tensors(state)
    del notes["data"]  # as older versions wrote it
    write_tensors(state, tensors, notes)
    with pytest.warns(UserWarning, match="older version.*not checked"):
        train(tmp_path, grey(), longer, resume=True, progress=False)


def test_a_teacher_stays_as_it_was() -> None:
    model = small_model(0)
    teacher = Teacher(model, model, grey())
    nn.init.ones_(model.network.last.weight)
    assert not torch.equal(teacher.model.network.last.weight, model.network.last.weight)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


@pytest.mark.parametrize(
    ("teacher", "data", "match"),
    [
        (small_model(3), grey(labels=False), "grey has no labels"),
        (small_model(2), grey(), "grey has 3 classes, but the network knows 2"),
        (OTHER, grey(), "teacher has sde .*9.0.* trained .*25.0"),
    ],
)
def test_teachers_that_do_not_fit(teacher: ScoreModel, data: ImageData, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Teacher(teacher, small_model(0), data)
