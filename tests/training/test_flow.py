"""Training by flow matching: its loss, its minimum, its couplings, and what it makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffsde import ReverseSDE, ScoreModel, StraightSDE, load_model
from diffsde.data.images import ImageData
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores.preconditioning import EDM, CoupledFlowPrediction, FlowPrediction
from diffsde.system.tensorfile import read_tensors
from diffsde.training import initial_model as initial_model_module
from diffsde.training.coupling import COUPLINGS
from diffsde.training.loop import train
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import OBJECTIVES, numbers_per_image, training_loss
from diffsde.training.recipes import RECIPES, Recipe
from diffsde.training.run_folder import RunFolder

FLOW = replace(
    RECIPES["mnist-flow"], epochs=2, batch_size=8, held_out=8, averages=(0.9,),
    precision="float32", compile=False, optimizer="adam",
)  # fmt: skip
COUPLED = replace(FLOW, preconditioning="coupled-flow", coupling="optimal")
SHAPE = (1, 4, 4)
MEAN, STD = 0.4, 0.3


class Affine(nn.Module):
    """The exact velocity of Gaussian data, with another slope and another mean if wanted."""

    def __init__(self, slope: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.reshape(-1, 1, 1, 1)
        weight = (t - (1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2)
        return self.shift - MEAN + self.slope * weight * (x - (1 - t) * MEAN)


def drawn(n: int, recipe: Recipe = FLOW) -> tuple[Tensor, Tensor]:
    """Gaussian images, and the numbers of their loss."""
    x = MEAN + STD * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    noise = TrainingNoise(0, "training", numbers_per_image(SHAPE, recipe))
    return x, noise.draw(0, range(n))


def model_of(body: nn.Module) -> ScoreModel:
    return ScoreModel(body, StraightSDE(), SHAPE, FlowPrediction())


@pytest.mark.parametrize("objective", ["flow", "flow-logit-normal"])
def test_the_loss_is_that_of_the_direction(objective: str) -> None:
    """E ‖v(x, t) − (z − x(0))‖², here without a denoiser."""
    recipe = replace(FLOW, objective=objective)
    (x, numbers), body = drawn(200, recipe), Affine(0.7, 0.2)
    t, z = numbers[:, 0], numbers[:, 2:18].reshape(x.shape)
    share = torch.special.ndtr(t)
    t = torch.sigmoid(t) if objective == "flow-logit-normal" else 1e-5 + (0.999 - 1e-5) * share
    at = t.reshape(-1, 1, 1, 1)
    error = body((1 - at) * x + at * z, t) - (z - x)
    expected = error.square().flatten(1).sum(1).mean()
    found = training_loss(model_of(body), x, recipe, numbers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("objective", ["flow", "flow-logit-normal"])
def test_its_minimum_is_the_exact_velocity(objective: str) -> None:
    """The gradient there is chance alone, and a hundred times as large a little beside it."""
    recipe = replace(FLOW, objective=objective)
    x, numbers = drawn(20_000, recipe)

    def gradients(body: Affine) -> Tensor:
        loss = training_loss(model_of(body), x, recipe, numbers)
        return torch.stack(torch.autograd.grad(loss, [body.slope, body.shift]))

    at, beside = gradients(Affine()), gradients(Affine(1.1, 0.1))
    assert float(at.abs().max()) < 0.2  # five standard errors, of 320,000 pixels
    assert float(beside.min()) > 1.5


def test_logit_normal_times_follow_their_law() -> None:
    """arXiv 2403.03206, section 3.1: logit t ~ N(0, 1), so the quartiles of t are known."""
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = OBJECTIVES["flow-logit-normal"].times(FLOW, StraightSDE(), normal)
    torch.testing.assert_close(t, torch.sigmoid(normal))


def images(n: int = 40) -> ImageData:
    pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(3))
    return ImageData("noise", pixels.to(torch.uint8), None)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    make = initial_model_module.make_network

    def small(name: str, sde: StraightSDE, **config: object) -> nn.Module:
        return make(
            name, sde, **{"channels": (8, 32), "blocks": (1, 1, 1), "embed_dim": 8, **config}
        )

    monkeypatch.setattr(initial_model_module, "make_network", small)


def weights(folder: Path) -> dict[str, Tensor]:
    return read_tensors(RunFolder(folder, 1).newest())[0]


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("recipe", [FLOW, COUPLED], ids=["flow", "coupled"])
def test_a_resumed_run_is_the_whole_one(recipe: Recipe, tmp_path: Path) -> None:
    constant = replace(recipe, schedule="constant")  # the length of a run changes no other
    model = train(tmp_path / "a", images(), constant, progress=False)
    train(tmp_path / "b", images(), replace(constant, epochs=1), progress=False)
    train(tmp_path / "b", images(), constant, resume=True, progress=False)
    for name, tensor in weights(tmp_path / "a").items():
        assert torch.equal(tensor, weights(tmp_path / "b")[name]), name
    assert isinstance(model.sde, StraightSDE)
    again = load_model(tmp_path / "a" / "model.safetensors")
    assert type(again.preconditioning) is type(model.preconditioning)
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([0.2, 1.0])
    assert again.velocity is not None
    v = again.velocity(x, t)
    at = t.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(again.denoise(x, t), x - at * v)
    torch.testing.assert_close(again(x, t), -(x + (1 - at) * v) / at)
    assert bool(again.sample(2, kind="ode", steps=3, seed=0).final.isfinite().all())


# -- couplings ---------------------------------------------------------------------------------


def test_optimal_pairs_are_nearer_and_the_same_noises() -> None:
    x, numbers = drawn(64)
    z = numbers[:, 2:18].reshape(x.shape)
    paired = COUPLINGS["optimal"](x, z)
    assert float((paired - x).square().sum()) < 0.9 * float((z - x).square().sum())
    assert torch.equal(paired.flatten(1).sort(0).values, z.flatten(1).sort(0).values)
    assert COUPLINGS["independent"](x, z) is z


def test_in_one_dimension_optimal_pairs_are_in_order() -> None:
    """The monotone coupling is the optimal one on a line."""
    x, z = (torch.randn(50, 1, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    paired = COUPLINGS["optimal"](x, z)
    assert torch.equal(x[:, 0].argsort(), paired[:, 0].argsort())


def test_coupled_noise_enters_the_loss() -> None:
    """Lines that are nearer have a smaller direction: a network of zeros loses less."""
    x, numbers = drawn(64)
    zero = model_of(Affine(0.0, MEAN))
    free, paired = (training_loss(zero, x, recipe, numbers) for recipe in (FLOW, COUPLED))
    assert float(paired) < 0.95 * float(free)


@pytest.mark.usefixtures("small_network")
def test_a_coupled_model_has_a_flow_only(tmp_path: Path) -> None:
    model = train(tmp_path, images(), replace(COUPLED, epochs=1), progress=False)
    assert isinstance(model.preconditioning, CoupledFlowPrediction)
    assert model.sample(2, steps=2, seed=0).kind == "ode"
    with pytest.raises(InputError, match=r"trained on coupled images and noise"):
        ReverseSDE(model.sde, model, model.shape)


def test_what_does_not_go_with_a_coupling(tmp_path: Path) -> None:
    for change, words in (
        ({"preconditioning": "flow"}, "'optimal' and 'coupled-flow' go together"),
        ({"coupling": "independent"}, "'optimal' and 'coupled-flow' go together"),
        ({"objective": "uniform"}, "coupling = 'optimal' with objective 'uniform'"),
        ({"classes": 3}, "coupling = 'optimal' with classes = 3"),
        ({"coupling": "optimum"}, r"coupling = 'optimum': .*did you mean 'optimal'"),
        ({"sde": "Straight"}, r"sde = 'Straight': .*StraightSDE"),
        ({"waves": (8,)}, "the noise level, such as 'edm'"),
    ):
        with pytest.raises(InputError, match=words):
            replace(COUPLED, **change)
    teacher = ScoreModel(Affine(), StraightSDE(), (1, 28, 28), FlowPrediction())
    with pytest.raises(InputError, match="coupling = 'optimal' with a teacher"):
        train(tmp_path, images(), COUPLED, teacher=teacher, progress=False)


# -- older recipes -----------------------------------------------------------------------------


class Wave(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.sin(3 * x + label.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize(
    ("objective", "loss"),
    [("uniform", 4.851883411), ("lognormal", 34.826564789), ("likelihood", 23.856317520)],
)
def test_older_recipes_have_the_losses_they_had(objective: str, loss: float) -> None:
    """Numbers from before there was flow matching."""
    recipe = Recipe(
        objective=objective,
        sigma_data=0.33,
        dequantise=objective == "likelihood",
        mirror=objective == "lognormal",
    )
    x = torch.linspace(0, 1, 8 * 16).reshape(8, *SHAPE)
    golden = 0.6180339887 * torch.arange(8 * numbers_per_image(SHAPE, recipe)).double()
    numbers = torch.special.ndtri(0.001 + 0.998 * (golden % 1)).float().view(8, -1)
    model = ScoreModel(Wave(), VESDE(), SHAPE, EDM(0.33))
    assert training_loss(model, x, recipe, numbers).item() == pytest.approx(loss, rel=1e-5)
