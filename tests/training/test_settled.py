"""What a recipe leaves to the data, and training on any data: small sets, points, signals."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffsde.data import ArrayData, ImageData
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.errors import InputError
from diffsde.scores.checkpoint import load_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.system.tensorfile import read_tensors, write_tensors
from diffsde.training.loop import train
from diffsde.training.recipes import RECIPES, Recipe, usual_recipe
from diffsde.training.run_folder import RunFolder
from diffsde.training.run_state import saved_recipe
from diffsde.training.settled import as_before, settled, tell

SMALL = replace(RECIPES["points"], width=16, depth=1, batch_size=32, epochs=2, held_out=8)


def points(n: int = 200, dimensions: int = 2) -> Tensor:
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(0))


def pictures(n: int, size: int = 8) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 1, size, size), generator=generator)
    return ImageData("noise", pixels.byte(), torch.arange(n) % 3)


@pytest.mark.parametrize(
    ("held_out", "count", "found"),
    [
        (0.02, 64, 2),
        (0.02, 60_000, 1200),
        (0.02, 1, 1),
        (0, 64, 0),
        (0.0, 64, 0),
        (8, 64, 8),
        (1000, 60_000, 1000),
        (0.5, 3, 2),
    ],
)
def test_shares_and_numbers_held_out(held_out: float, count: int, found: int) -> None:
    recipe, data = Recipe(held_out=held_out, batch_size=1), ArrayData("x", torch.ones(count, 1))
    if found == count:
        with pytest.raises(InputError, match="leave 0 to learn from"):
            settled(recipe, data)
    else:
        assert settled(recipe, data).held_out == found


@pytest.mark.parametrize("held_out", [-0.1, 1.5, float("nan"), -1])
def test_what_cannot_be_held_out(held_out: float) -> None:
    with pytest.raises(InputError, match="held_out"):
        Recipe(held_out=held_out)


@pytest.mark.parametrize("parts", [1, 2, 4, 7])
def test_batches_of_small_sets_are_cut(parts: int) -> None:
    found = settled(Recipe(), pictures(64), parts)
    assert found.batch_size == 62 - 62 % parts
    assert settled(found, pictures(64), parts) == found
    with pytest.raises(InputError, match=r"batch_size = 5000, but there are 1176"):
        settled(Recipe(batch_size=5000), pictures(1200))
    with pytest.raises(InputError, match=r"fewer than the 63 parts"):
        settled(Recipe(), pictures(64), 63)


def test_small_sets_are_told() -> None:
    def told(recipe: Recipe, count: int) -> list[str]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            tell(recipe, settled(recipe, pictures(count)), count)
        return [str(warning.message) for warning in found]

    (words,) = told(Recipe(), 64)
    assert "64 samples: 2 are set aside" in words
    assert "62 are learned from; in batches of 62 (batch_size = 128 is more)" in words
    assert "epochs = 50 makes 50 updates," in words
    assert words.endswith("such as epochs = 2000")
    (words,) = told(Recipe(batch_size=8, epochs=1000), 64)
    assert words.endswith("in batches of 8")
    assert told(Recipe(), 1200) == []
    assert told(Recipe(held_out=4, batch_size=8), 64) == []  # the user knows


def test_the_scale_is_measured_or_that_of_the_model_begun_with() -> None:
    data = ArrayData("x", 0.7 * points(1000))
    assert settled(Recipe(), data).sigma_data == pytest.approx(0.7, rel=0.1)
    assert settled(Recipe(sigma_data=0.4), data).sigma_data == 0.4
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8)
    start = ScoreModel(network, VESDE(), (1, 8, 8), EDM(0.25))
    assert settled(Recipe(), pictures(64), start_from=start).sigma_data == 0.25
    with pytest.raises(InputError, match="all numbers are zero"):
        settled(Recipe(), ArrayData("x", torch.zeros(100, 2)))


@pytest.mark.parametrize(
    ("change", "data", "match"),
    [
        ({"dequantise": True}, ArrayData("x", torch.rand(9, 1, 8, 8)), "expected 8-bit images"),
        ({"mirror": True}, ArrayData("x", points()), "expected images, which have"),
        ({"mirror": True}, ArrayData("x", torch.rand(9, 2, 8)), "expected images, which have"),
        ({"classes": 2}, pictures(9), "3 classes, but the network knows 2"),
        ({"classes": 2}, ArrayData("x", points()), "no labels"),
    ],
)
def test_recipes_that_do_not_fit(change: dict[str, bool], data: ArrayData, match: str) -> None:
    with pytest.raises(InputError, match=match):
        settled(Recipe(**change), data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "data", "match"),
    [
        (Recipe(precision="float32"), points(), "network = 'ScoreUNet'.*shape .2,.*'MLP'"),
        (replace(SMALL, network="ResidualUNet", width=0, depth=0), points(), "ResidualUNet.*'MLP'"),
        (Recipe(precision="float32"), pictures(64), "8×8 are too small for ScoreUNet.*--size 18"),
        (SMALL, 50 * points(), r"deviation of 5\d.*ends at 9.85.*divided by 5"),
        (SMALL, "points.npy", "data is str"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_file_is_written(
    recipe: Recipe, data: Tensor, match: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=match):
        train(tmp_path / "run", data, recipe, progress=False)
    assert not (tmp_path / "run").exists()


def test_wide_data_need_wide_noise(tmp_path: Path) -> None:
    model = train(tmp_path, 50 * points(), SMALL, sde=EDMSDE(T=300.0), progress=False)
    assert model.preconditioning.sigma_data == pytest.approx(50, rel=0.1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 10), (4, 6, 6)])
@pytest.mark.parametrize("classes", [0, 3])
def test_any_shape_is_trained_saved_and_resumed(
    shape: tuple[int, ...], classes: int, tmp_path: Path
) -> None:
    x = torch.randn(200, *shape, generator=torch.Generator().manual_seed(0))
    data = ArrayData("numbers", x, torch.arange(200) % 3, data_range=(-1, 1))
    recipe = replace(SMALL, classes=classes)
    train(tmp_path, data, replace(recipe, epochs=1), progress=False)
    model = train(tmp_path, data, recipe, resume=True, progress=False)
    again = load_model(tmp_path / "model.safetensors")
    assert (again.shape, again.classes, again.data_range) == (shape, classes, (-1, 1))
    assert (model.data, again.data) == ("numbers", "numbers")
    sol = again.sample(3, steps=3, seed=0)
    assert torch.equal(sol.final, model.sample(3, steps=3, seed=0).final)
    torch.testing.assert_close(again.sde.data_mean, data.mean())


def test_training_learns_points(tmp_path: Path) -> None:
    """A Gaussian, whose denoiser is known: (σ² m + v x) / (σ² + v)."""
    x = 0.5 * points(2000) + torch.tensor([0.4, -0.2])
    recipe = replace(SMALL, batch_size=128, epochs=25, averages=(0.97,))
    model = train(tmp_path, x, recipe, progress=False)
    noisy = x[:500] + 0.5 * torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.denoise(noisy, model.sde.time_of_noise_level(0.5))
    exact = (0.25 * x.mean(0) + 0.25 * noisy) / 0.5
    # An untrained network, EDM's best guess about zero, is off by 0.25.
    assert (found - exact).square().mean().sqrt() < 0.05


def test_the_usual_recipe_is_that_of_the_data(tmp_path: Path) -> None:
    assert usual_recipe(pictures(9)) == Recipe()
    assert usual_recipe(ArrayData("x", points())) is RECIPES["points"]


def test_short_epochs_share_a_state(tmp_path: Path) -> None:
    """512 updates in 256 epochs: states at the start, after 250 and 500, and at the end."""
    recipe = replace(SMALL, batch_size=32, epochs=256, held_out=0)
    train(tmp_path, points(64), recipe, keep=9, progress=False)
    steps = [read_tensors(path)[1]["step"] for path in RunFolder(tmp_path, 9).states()]
    assert steps == [0, 250, 500, 512]


# -- runs of older versions ------------------------------------------------------------


def older(path: Path, **changes: object) -> None:
    """Rewrite a state as an older version wrote it: without fields that were not there yet."""
    tensors, notes = read_tensors(path)
    recipe = {k: v for k, v in notes["recipe"].items() if k not in ("width", "depth")}
    write_tensors(path, tensors, {**notes, "recipe": {**recipe, **changes}})


def begun(folder: Path, data: ImageData) -> Recipe:
    """A run with the recipe that was the default once, of one epoch."""
    recipe = Recipe(
        network="ResidualUNet", preconditioning="edm", objective="lognormal", sigma_data=0.33,
        epochs=1, batch_size=8, held_out=1000, precision="float32",
    )  # fmt: skip
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8)
    start = ScoreModel(network, VESDE(), data.shape, EDM(0.33))
    train(folder, data, recipe, start_from=start, progress=False)
    return recipe


@pytest.mark.parametrize("given", [None, {}, {"held_out": 1000}, {"sigma_data": 0.33}])
def test_runs_of_older_versions_go_on(given: dict[str, float] | None, tmp_path: Path) -> None:
    data = pictures(1016)
    saved = begun(tmp_path, data)
    older(RunFolder(tmp_path, 1).newest(), held_out=1000)
    assert saved_recipe(RunFolder(tmp_path, 1).newest()).held_out == 1000
    recipe = None
    if given is not None:  # what today's defaults leave open is as it was
        recipe = replace(saved, **{"held_out": Recipe.held_out, "sigma_data": 0.0, **given})
        recipe = replace(recipe, precision="auto", epochs=2)
    model = train(tmp_path, data, recipe, resume=True, progress=False)
    assert model.shape == (1, 8, 8)
    assert saved_recipe(RunFolder(tmp_path, 1).newest()) == replace(
        saved, epochs=1 if given is None else 2
    )


def test_another_share_is_another_run(tmp_path: Path) -> None:
    data = pictures(1016)
    saved = begun(tmp_path, data)
    with pytest.raises(InputError, match=r"held_out = 1000, not 508"):
        train(tmp_path, data, replace(saved, held_out=0.5), resume=True, progress=False)


def test_labels_that_are_not_used_need_not_be_the_same(tmp_path: Path) -> None:
    """Folders without classes once had no labels, and now have them."""
    data = pictures(1016)
    begun(tmp_path, replace(data, labels=None))
    train(tmp_path, data, resume=True, progress=False)
    with pytest.raises(InputError, match="other samples or labels"):
        train(tmp_path, replace(data, images=255 - data.images), resume=True, progress=False)


def test_only_what_is_open_is_as_before() -> None:
    saved = Recipe(precision="bfloat16", sigma_data=0.4, held_out=1000, epochs=3)
    assert as_before(Recipe(epochs=9), saved) == replace(saved, epochs=9)
    given = Recipe(precision="float32", sigma_data=0.5, held_out=0.1)
    assert as_before(given, saved) == given
    assert as_before(Recipe(), replace(saved, held_out=7)).held_out == Recipe.held_out
