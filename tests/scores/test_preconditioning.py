"""Every preconditioning of an exact network gives the exact score and the exact denoiser."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.exact import GaussianScore
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import PRECONDITIONINGS, ScorePrediction, make_preconditioning

MEAN, STD = 0.13, 0.31
SDE_CASES = [VESDE(), VPSDE()]


class ExactBody(nn.Module):
    """What a perfect network would return, by the exact score and the definition of F.

    The definitions come from the papers, not from the coefficients under test.
    """

    def __init__(self, name: str, sde: SDE, sigma_data: float, t: Tensor) -> None:
        super().__init__()
        self.name, self.sde, self.sigma_data, self.t = name, sde, sigma_data, t
        self.exact = GaussianScore(sde, MEAN, STD)

    def forward(self, given: Tensor, label: Tensor) -> Tensor:
        a = self.sde.marginal_scale(self.t)[:, None, None, None]
        s = self.sde.marginal_std(self.t)[:, None, None, None]
        sigma, sd = s / a, self.sigma_data
        r = (sigma**2 + sd**2).sqrt()
        if self.name == "score":
            assert torch.equal(label, self.t)
            return self.exact(given, self.t)
        if self.name in ("flow", "coupled-flow"):  # the straight line to the same noise level
            assert torch.allclose(label, (s / (a + s)).flatten())
            x = given * (a + s)
            score = self.exact(x, self.t)
            return -s * score - (x + s**2 * score) / a
        assert torch.allclose(label, sigma.flatten().log() / 4)
        x = given * a * r
        score = self.exact(x, self.t)
        clean = (x + s**2 * score) / a
        noise = -s * score
        return {
            "noise": noise,
            "denoised": clean,
            # Salimans & Ho for data divided by σ_data: α z − σ x(0), α² + σ² = 1.
            "velocity": (sd / r) * noise - (sigma / r) * clean / sd,
            "edm": (clean - sd**2 / r**2 * x / a) * r / (sigma * sd),
        }[self.name]


@pytest.mark.parametrize("sde", SDE_CASES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_exact_body_gives_exact_score_and_denoiser(name: str, sde: SDE) -> None:
    t = torch.tensor([1e-3, 0.05, 0.4, 1.0], dtype=torch.float64)
    x = torch.randn(4, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = ScoreModel(
        ExactBody(name, sde, 0.33, t), sde, (1, 5, 5), make_preconditioning(name, 0.33)
    )
    exact = GaussianScore(sde, MEAN, STD)(x, t)
    a, s = sde.marginal_prob(torch.ones_like(x), t)
    torch.testing.assert_close(model(x, t), exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.denoise(x, t), (x + s**2 * exact) / a, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", SDE_CASES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_score_and_denoiser_say_the_same_of_any_body(name: str, sde: SDE) -> None:
    t = torch.tensor([1e-3, 0.3, 1.0], dtype=torch.float64)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    model = ScoreModel(_Wave(), sde, (1, 4, 4), make_preconditioning(name, 0.4))
    a, s = sde.marginal_prob(torch.ones_like(x), t)
    torch.testing.assert_close(model.denoise(x, t), (x + s**2 * model(x, t)) / a)


class _Wave(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.sin(3 * x + label[:, None, None, None])


def test_edm_target_and_input_have_unit_variance() -> None:
    """The property for which EDM was derived (arXiv 2206.00364, appendix B.6)."""
    sde, sd = VESDE(), 0.33
    t = torch.tensor([1e-3, 0.1, 0.5, 1.0], dtype=torch.float64)
    c = make_preconditioning("edm", sd).coefficients(sde, t)
    s = sde.marginal_std(t)
    torch.testing.assert_close(c.input**2 * (sd**2 + s**2), torch.ones_like(s))
    # Var(x(0) − skip·x) / out²
    variance = ((1 - c.denoised_skip) ** 2 * sd**2 + c.denoised_skip**2 * s**2) / c.denoised_out**2
    torch.testing.assert_close(variance, torch.ones_like(s))


def test_names_and_numbers_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean 'noise'"):
        make_preconditioning("nois")
    with pytest.raises(InputError, match="sigma_data = -1"):
        make_preconditioning("edm", -1)
    given = ScorePrediction()
    assert make_preconditioning(given) is given


@pytest.mark.parametrize("t", [0.3, torch.tensor(0.3), torch.tensor([0.3, 1e-3, 1.0])], ids=str)
@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_the_coefficients_at_a_time_stand_for_it(name: str, t: Tensor | float) -> None:
    model = ScoreModel(_Wave(), VPSDE(), (1, 4, 4), name)
    x = torch.randn(3, 1, 4, 4)
    known = model.coefficients(torch.as_tensor(t))
    assert torch.equal(model(x, known), model(x, t))
    assert torch.equal(model.denoise(x, known), model.denoise(x, t))
