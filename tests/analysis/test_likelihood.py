"""Likelihoods compared with closed forms, for Gaussian data and for mixtures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffsde import GaussianScore, MixtureScore, ProbabilityFlow, ReverseSDE
from diffsde.analysis.bits import bits_by_noise, error_budget
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.likelihood import Likelihood, dequantise, log_likelihood
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError

every_sde = pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
BIT = math.log(2)


def gaussian(sde: SDE) -> tuple[GaussianScore, ProbabilityFlow]:
    mean, std = torch.tensor([0.5, -0.2, 0.1]), torch.tensor([0.7, 0.3, 0.05])
    score = GaussianScore(sde, mean, std)
    return score, ProbabilityFlow(sde, score, (3,))


def pushed_forward(score: GaussianScore, x: Tensor) -> Tensor:
    """log-density at ε of the prior under the flow of Gaussian data, which is affine."""
    sde = score.sde

    def law(t: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor(t, dtype=torch.float64)
        a, s = sde.marginal_scale(at), sde.marginal_std(at)
        return a * score.mean, torch.sqrt((a * score.std) ** 2 + s**2)

    (m0, c0), (m1, c1) = law(sde.eps), law(sde.T)
    return sde.prior_logp(m1 + (x - m0) * c1 / c0) + (c1 / c0).log().sum()


def mixture(sde: SDE, dims: int = 2) -> tuple[MixtureScore, ProbabilityFlow]:
    """Its mean is zero, so that the prior is the law of x(T) to a few millionths."""
    means = torch.stack([torch.full((dims,), m) for m in (0.6, -0.6)])
    score = MixtureScore(sde, means, torch.tensor([0.2, 0.2]))
    return score, ProbabilityFlow(sde, score, (dims,))


def flat_mixture(score: MixtureScore, x: Tensor, t: float) -> Tensor:
    return score.log_prob(x, torch.tensor(t, dtype=torch.float64))


@every_sde
def test_gaussian_data_to_a_ten_thousandth_of_a_bit(make: type[SDE]) -> None:
    score, flow = gaussian(make())
    x = score.sample(20, flow.sde.eps, seed=1).double()
    found = log_likelihood(flow, x, exact=True, rtol=1e-7, atol=1e-7)
    wanted = pushed_forward(score, x)
    assert float((found.log_prob - wanted).abs().max()) / 3 / BIT < 1e-4
    assert not found.stderr.any()


@every_sde
def test_mixture_data_to_a_ten_thousandth_of_a_bit(make: type[SDE]) -> None:
    score, flow = mixture(make())
    x = score.sample(20, flow.sde.eps, seed=2).double()
    found = log_likelihood(flow, x, exact=True, rtol=1e-7, atol=1e-7)
    # The prior's error about x(T) belongs to the model, not to the integral.
    at_end = flat_mixture(score, found.latents, flow.sde.T) - flow.sde.prior_logp(found.latents)
    wanted = flat_mixture(score, x, flow.sde.eps)
    assert float((found.log_prob + at_end - wanted).abs().max()) / 2 / BIT < 1e-4
    if make is VPSDE:
        assert float((found.log_prob - wanted).abs().max()) / 2 / BIT < 1e-4


def test_the_whole_density_integrates_to_one() -> None:
    score, flow = mixture(VESDE(), dims=1)
    x = torch.linspace(-40, 40, 16001, dtype=torch.float64)[:, None]
    near = x[(x.abs() < 3)[:, 0]]
    density = log_likelihood(flow, near, exact=True).log_prob.exp()
    assert float(torch.trapezoid(density, near[:, 0])) == pytest.approx(1, abs=1e-4)
    assert bool((density > 0).all())
    assert score.shape == (1,)


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_and_knows_its_error(probe: str) -> None:
    """On 20 dependent coordinates, errors over standard errors have nearly a normal law."""
    score, flow = mixture(VPSDE(), dims=20)
    x = score.sample(40, 1e-3, seed=3)
    # between the two modes, where the Jacobian is far from diagonal
    x = 0.5 * x
    exact = log_likelihood(flow, x, exact=True, rtol=1e-3, atol=1e-3)
    found = log_likelihood(flow, x, probes=12, probe=probe, seed=4, rtol=1e-3, atol=1e-3)
    assert bool((found.stderr > 0).all())
    z = ((found.log_prob - exact.log_prob) / found.stderr).numpy()
    assert stats.kstest(z, stats.t(11).cdf).pvalue > 1e-3
    assert float((found.log_prob - exact.log_prob).mean().abs()) < 4 * float(
        found.stderr.square().mean().sqrt()
    ) / math.sqrt(40)


def test_rademacher_is_exact_where_the_jacobian_is_diagonal() -> None:
    score, flow = gaussian(VESDE())
    x = score.sample(5, 1e-3, seed=1).double()
    signs = log_likelihood(flow, x, seed=0)
    exact = log_likelihood(flow, x, exact=True)
    torch.testing.assert_close(signs.log_prob, exact.log_prob, rtol=0, atol=1e-3)
    assert bool(signs.stderr.isnan().all())  # unknown from one probe


def test_probes_belong_to_samples() -> None:
    _, flow = mixture(VPSDE(), dims=6)
    x = 0.3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    settings = {"steps": 20, "method": "heun2", "probes": 2}
    whole = log_likelihood(flow, x, seed=5, **settings)
    part = log_likelihood(flow, x[2:], seed=5, first=2, **settings)
    torch.testing.assert_close(part.log_prob, whole.log_prob[2:])
    other = log_likelihood(flow, x, seed=6, **settings)
    assert not torch.allclose(other.log_prob, whole.log_prob, atol=1e-4)


def test_bits_per_dim_of_uniform_noise_is_eight() -> None:
    """The uniform density on [0, 1]^D has log p = 0: no code is shorter than 8 bits."""
    nothing = Likelihood(torch.zeros(3), torch.zeros(3), torch.zeros(3, 1, 2, 2), 0)
    assert nothing.bits_per_dim.tolist() == [8.0, 8.0, 8.0]
    surer = dataclasses.replace(nothing, log_prob=torch.full((3,), 4 * BIT))
    assert surer.bits_per_dim.tolist() == pytest.approx([7.0] * 3)


def test_no_image_costs_less_than_the_noise_at_epsilon() -> None:
    """A point mass costs 8 + log₂(√(2π) s(ε)) bits/dim at its point, for any ε."""
    sde = VESDE()
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.zeros(3), 1e-7), (3,))
    for eps in (1e-3, 1e-5):
        found = log_likelihood(flow, torch.zeros(1, 3).double(), exact=True, eps=eps)
        std = float(sde.marginal_std(torch.tensor(eps).double()))
        floor = 8 + math.log2(math.sqrt(2 * math.pi) * std)
        assert float(found.bits_per_dim) == pytest.approx(floor, abs=1e-3)
    assert floor == pytest.approx(1.03, abs=0.01)


def test_what_a_black_pixel_costs() -> None:
    """The figures of the module: the mean over a uniform density on [0, 1/256) blurred by s(ε)."""
    u = (torch.arange(4000).double() + 0.5) / 4000 / 256
    for eps, bits in ((1e-5, 1.19), (1e-6, 0.35), (1e-7, 0.11)):
        std = VESDE().marginal_std(torch.tensor(eps).double())
        density = 256 * (torch.special.ndtr(u / std) - torch.special.ndtr((u - 1 / 256) / std))
        assert float((8 - density.log2()).mean()) == pytest.approx(bits, abs=0.005)


def test_images_and_flat_states_have_one_likelihood() -> None:
    sde = VESDE()
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.zeros(1, 2, 2), 0.3), (1, 2, 2))
    x = torch.rand(3, 1, 2, 2)
    images, flat = log_likelihood(flow, x, seed=0), log_likelihood(flow, x.flatten(1), seed=0)
    torch.testing.assert_close(images.log_prob, flat.log_prob)
    assert images.latents.shape == x.shape
    assert flat.latents.shape == (3, 4)


def test_dequantised_values_are_uniform_in_their_level() -> None:
    images = torch.randint(0, 256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    x = dequantise(images, seed=1)
    u = 256 * x.double() - 255 * images.double()
    assert stats.kstest(u.flatten().numpy(), stats.uniform.cdf).pvalue > 1e-3
    assert torch.equal((256 * x).floor(), (255 * images).round())  # the level is kept
    assert torch.equal(dequantise(images[20:], seed=1, first=20), x[20:])
    with pytest.raises(InputError, match=r"images from -1 to 1: expected \[0, 1\]"):
        dequantise(2 * images - 1)


# -- a data set ----------------------------------------------------------------------------


def pixels(n: int) -> tuple[ProbabilityFlow, Tensor]:
    sde = VPSDE()
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.full((1, 2, 2), 0.5), 0.2), (1, 2, 2))
    draws = 0.5 + 0.2 * torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    return flow, (255 * draws.clamp(0, 1)).round() / 255


def test_data_set_has_the_mean_of_its_images() -> None:
    flow, images = pixels(40)
    found = evaluate_likelihood(flow, images, chunk=16, seed=2)
    x = dequantise(images, seed=2)
    bits = log_likelihood(flow, x, exact=True).bits_per_dim
    assert found.mean == pytest.approx(float(bits.mean()), abs=1e-3)
    assert found.stderr == pytest.approx(float(bits.std()) / math.sqrt(40), rel=1e-2)
    # the entropy of a Gaussian in units of 1/256, about 7.68
    entropy = 8 + 0.5 * math.log2(2 * math.pi * math.e * 0.2**2)
    assert abs(found.mean - entropy) < 4 * found.stderr + 0.01
    assert "± " in str(found)


def test_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, images = pixels(12)
    whole = evaluate_likelihood(flow, images, chunk=5, seed=2, probes=2)
    path, calls = tmp_path / "nll.safetensors", 0

    def failing(*args: object, **settings: object) -> Likelihood:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return log_likelihood(*args, **settings)

    monkeypatch.setattr("diffsde.analysis.conventions.log_likelihood", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_likelihood(flow, images, path=path, chunk=5, seed=2, probes=2)
    assert path.exists()
    again = evaluate_likelihood(flow, images, path=path, chunk=5, seed=2, probes=2)
    assert calls == 4  # the first part was not done again
    assert torch.equal(again.log_prob, whole.log_prob)
    assert again.nfe == whole.nfe
    third = evaluate_likelihood(flow, images, path=path, chunk=5, seed=2, probes=2)
    assert calls == 4
    assert torch.equal(third.log_prob, whole.log_prob)


def test_results_of_something_else_are_not_taken_up(tmp_path: Path) -> None:
    flow, images = pixels(4)
    path = tmp_path / "nll.safetensors"
    evaluate_likelihood(flow, images, path=path, seed=2)
    with pytest.raises(InputError, match="holds likelihoods with other images, seed: give another"):
        evaluate_likelihood(flow, images.flip(0), path=path, seed=3)
    other = ProbabilityFlow(flow.sde, GaussianScore(flow.sde, torch.zeros(1, 2, 2), 0.2), (1, 2, 2))
    with pytest.raises(InputError, match="other score"):
        evaluate_likelihood(other, images, path=path, seed=2)
    with pytest.raises(InputError, match="other rtol"):
        evaluate_likelihood(flow, images, path=path, seed=2, rtol=1e-3)


def test_budget_names_what_the_number_depends_on() -> None:
    score, flow = mixture(VPSDE(), dims=6)
    x = 0.5 * score.sample(6, 1e-3, seed=0)
    loose = error_budget(flow, x, rtol=1e-3, atol=1e-3, probes=2)
    budget = error_budget(flow, x.double(), rtol=1e-5, atol=1e-5, probes=64)
    assert budget.keys() == {"tolerance", "epsilon", "probe", "images"}
    assert 0 < abs(budget["tolerance"]) < abs(loose["tolerance"]) < 0.1
    shift = flat_mixture(score, x, 2e-3) - flat_mixture(score, x, 1e-3)
    assert budget["epsilon"] == pytest.approx(-float(shift.mean()) / 6 / BIT, abs=1e-3)
    assert budget["probe"] > 0


def test_budget_s_parts_are_known() -> None:
    """For Gaussian data the flow is affine: the errors of the probes are of a quadratic form."""
    score, flow = gaussian(VESDE())
    x = score.sample(300, 1e-3, seed=0).double()
    settings = {"probe": "gaussian", "rtol": 1e-3, "atol": 1e-3}
    budget = error_budget(flow, x, seed=1, probes=16, **settings)
    (_, c0), (_, c1) = (score._law(x[:1], t) for t in (flow.sde.eps, flow.sde.T))
    growth = 0.5 * (c1 / c0).log()
    one_probe = math.sqrt(2 * float(growth.square().sum()))  # Var zᵀJz = 2 tr J² for normal z
    assert budget["probe"] == pytest.approx(one_probe / 3 / BIT, rel=0.05)
    usual, finer, later = (
        log_likelihood(flow, x, seed=1, probes=16, **{**settings, **how}).bits_per_dim
        for how in ({}, {"rtol": 1e-5, "atol": 1e-5}, {"eps": 2 * flow.sde.eps})
    )
    assert budget["tolerance"] == pytest.approx(float((usual - finer).mean()), abs=1e-9)
    assert budget["epsilon"] == pytest.approx(float((later - usual).mean()), abs=1e-9)
    assert budget["images"] == pytest.approx(float(usual.std()) / math.sqrt(300), rel=1e-6)


@every_sde
def test_bits_by_noise_are_the_whole_and_each_is_known(make: type[SDE]) -> None:
    """For Gaussian data ∂D/∂y = c² / (c² + σ²), and its integral is a logarithm."""
    sde = make()
    c = 0.3
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.zeros(4), c), (4,))
    x = c * torch.randn(400, 4, generator=torch.Generator().manual_seed(0)).double()
    found = bits_by_noise(flow, x, intervals=5, rtol=1e-6, atol=1e-6)
    whole = log_likelihood(flow, x, exact=True, rtol=1e-6, atol=1e-6).bits_per_dim
    assert found.total == pytest.approx(float(whole.mean()), abs=1e-4)
    reach = 0.5 * torch.log2(found.levels**2 / (c**2 + found.levels**2))
    torch.testing.assert_close(found.bits, reach.diff(), rtol=1e-3, atol=1e-4)
    # the mean of 1600 squared normal numbers has an error of 3.5 %
    torch.testing.assert_close(found.denoising, found.bits, rtol=0.18, atol=1e-6)
    assert found.floor == pytest.approx(
        8 + math.log2(math.sqrt(2 * math.pi) * float(sde.marginal_std(sde.eps))), abs=1e-5
    )
    assert str(found).splitlines()[-1].split() == ["total", f"{found.total:.3f}"]


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_wrong_score_shows_in_bits_by_noise(factor: float) -> None:
    """Its two columns differ, and the exact score has the smallest denoising error."""
    sde = VESDE()
    exact = GaussianScore(sde, torch.zeros(4), 0.3)
    x = exact.sample(400, 1e-3, seed=0)
    right, wrong = (
        bits_by_noise(ProbabilityFlow(sde, score, (4,)), x, intervals=3)
        for score in (exact, lambda x, t: factor * exact(x, t))
    )
    assert bool((wrong.denoising > right.denoising).all())
    parted = (wrong.denoising - wrong.bits).abs() / (right.denoising - right.bits).abs()
    assert bool((parted[1:] > 2).all())


def test_error_texts() -> None:
    _, flow = gaussian(VESDE())
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="ReverseSDE: expected a ProbabilityFlow"):
        log_likelihood(ReverseSDE(flow.sde, flow.score, (3,)), x)
    with pytest.raises(InputError, match=r"x has shape \(2, 4\): expected samples of 3 values"):
        log_likelihood(flow, torch.zeros(2, 4))
    with pytest.raises(InputError, match="probes = 0: expected a whole number"):
        log_likelihood(flow, x, probes=0)
    with pytest.raises(InputError, match="probe = 'gauss': did you mean 'gaussian'"):
        log_likelihood(flow, x, probe="gauss")
    large = ProbabilityFlow(flow.sde, flow.score, (2000,))
    with pytest.raises(InputError, match="exact=True with 2000 values a sample: at most 1024"):
        log_likelihood(large, torch.zeros(1, 2000), exact=True)
