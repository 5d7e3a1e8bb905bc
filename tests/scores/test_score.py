"""The loss, score models and their arguments, and the exact scores against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.exact import GaussianScore, MixtureScore
from diffsde.scores.model import ScoreModel
from diffsde.scores.score_matching import score_matching_loss
from diffsde.scores.score_unet import ScoreUNet


class _Zero(nn.Module):
    def forward(self, x: Tensor, _t: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_zero_network_scores_the_number_of_pixels() -> None:
    model = ScoreModel(_Zero(), VESDE(), (1, 28, 28))
    x = torch.rand(4000, 1, 28, 28)
    loss = score_matching_loss(model, x, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(784, abs=3 * (2 * 784 / 4000) ** 0.5)


def test_loss_draws_times_uniformly_from_1e_5_to_the_end() -> None:
    seen: list[Tensor] = []

    class Watch(_Zero):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(t)
            return torch.zeros_like(x)

    model = ScoreModel(Watch(), VESDE(), (1, 2, 2))
    score_matching_loss(model, torch.rand(20_000, 1, 2, 2), torch.Generator().manual_seed(0))
    t = seen[0]
    assert 1e-5 <= t.min() < 5e-4
    assert 0.999 < t.max() <= 1
    assert t.mean() == pytest.approx(0.5, abs=0.01)


def test_exact_score_has_the_lowest_loss() -> None:
    """For Gaussian data of variance v, the lowest loss is known: E Σ v / (v + s²)."""
    sde, v = VESDE(), 0.3**2
    x = 0.13 + 0.3 * torch.randn(20_000, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    times = torch.linspace(1e-5, 1, 10_001, dtype=torch.float64)
    best = 16 * (v / (v + sde.marginal_std(times) ** 2)).mean().item()
    losses = []
    for factor in (0.9, 1.0, 1.1):

        class Scaled(nn.Module):
            def forward(self, x: Tensor, t: Tensor, factor: float = factor) -> Tensor:
                return factor * GaussianScore(sde, 0.13, 0.3)(x, t)

        model = ScoreModel(Scaled(), sde, (1, 4, 4))
        losses.append(score_matching_loss(model, x, torch.Generator().manual_seed(0)).item())
    assert losses[1] == pytest.approx(best, rel=0.02)
    assert losses[1] < min(losses[0], losses[2])


def test_model_takes_scalar_and_vector_times_and_float64() -> None:
    model = ScoreModel(ScoreUNet(), VESDE(), (1, 28, 28)).eval()
    x = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        scalar, vector = model(x, 0.5), model(x, torch.full((2,), 0.5))
    assert scalar.dtype == torch.float64
    torch.testing.assert_close(scalar, vector)


def test_denoiser_is_tweedies_formula() -> None:
    for sde in (VESDE(), VPSDE()):
        model = ScoreModel(_ExactOf(sde), sde, (1, 3, 3))
        x, t = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.tensor([0.2, 0.8])
        a, s = sde.marginal_prob(torch.ones_like(x), t.double())
        torch.testing.assert_close(model.denoise(x, t), (x + s**2 * model(x, t)) / a)


class _ExactOf(nn.Module):
    def __init__(self, sde: nn.Module) -> None:
        super().__init__()
        self.exact = GaussianScore(sde, 0.1, 0.3)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        score: Tensor = self.exact(x, t)
        return score


@pytest.mark.parametrize("shape", [(), (2, 1, 28, 28), (0,), (1, -28, 28)])
def test_shape_must_be_a_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        ScoreModel(_Zero(), VESDE(), shape)


def test_a_network_of_images_takes_no_points() -> None:
    with pytest.raises(InputError, match="expected 3 axes"):
        ScoreModel(ScoreUNet(VESDE()), VESDE(), (2,))


@pytest.mark.parametrize("sde", [VESDE(), VPSDE()], ids=lambda sde: type(sde).__name__)
def test_exact_scores_are_gradients_of_their_log_density(sde: VESDE) -> None:
    means = torch.tensor([[0.5, -0.2, 0.1], [-0.4, 0.3, 0.2]])
    scores = [
        GaussianScore(sde, means[0], 0.3),
        MixtureScore(sde, means, torch.tensor([0.2, 0.4]), [0.7, 0.3]),
    ]
    for score in scores:
        for t in (0.01, 0.4, 1.0):
            x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
            (gradient,) = torch.autograd.grad(score.log_prob(x, t).sum(), x)
            torch.testing.assert_close(score(x, t), gradient)


def test_class_labels_are_checked() -> None:
    x, told = torch.zeros(2, 1, 28, 28), ScoreModel(Echo(), VESDE(), (1, 28, 28))
    with pytest.raises(InputError, match="takes no class labels"):
        ScoreModel(ScoreUNet(), VESDE(), (1, 28, 28))(x, 0.5, 3)
    for label, match in (
        (4, "expected 0 to 3"),
        (-2, "expected 0 to 3"),
        (torch.tensor([1.0, 2.0]), "expected a whole number"),
        (torch.tensor([1, 2, 3]), "or 2 of them"),
    ):
        with pytest.raises(InputError, match=match):
            told(x, 0.5, label)


def test_a_body_is_told_the_class_of_each_image() -> None:
    x, model = torch.zeros(2, 1, 4, 4), ScoreModel(Echo(), VESDE(), (1, 4, 4))
    assert model.classes == 4
    assert model(x, 0.5, 3).flatten(1).tolist() == [[3.0] * 16] * 2
    assert model(x, 0.5, torch.tensor([0, 2]))[1].unique().item() == 2


class Echo(nn.Module):
    """Returns the class label that it is given."""

    classes = 4

    def forward(self, x: Tensor, _label: Tensor, class_label: Tensor) -> Tensor:
        return class_label[:, None, None, None].expand_as(x).to(x)
