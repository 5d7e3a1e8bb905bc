"""Guided scores against posteriors that are known: Gaussian data, and labelled mixtures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffsde import (
    GaussianScore,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    ScoreModel,
    SolveError,
    from_denoiser,
    solve,
)
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.variance_exploding import EDMSDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores import (
    autoguidance,
    classifier_free,
    classifier_guided,
    deblurring,
    inpainting,
    linear_inverse,
    super_resolution,
    tempered,
)

MEAN = torch.tensor([0.4, -0.3, 0.1, 0.6], dtype=torch.float64)
STD = torch.tensor([0.8, 0.3, 0.5, 0.2], dtype=torch.float64)
A = torch.tensor([[1.0, 0.5, 0.0, -1.0], [0.0, 1.0, 2.0, 0.3]], dtype=torch.float64)
Y = torch.tensor([[0.9, -0.5]], dtype=torch.float64)
NOISE = 0.2


def seen(x: Tensor) -> Tensor:
    return x @ A.to(x).T


def posterior() -> tuple[Tensor, Tensor]:
    """Mean and covariance of x(0) given y = A x(0) + n."""
    prior = torch.diag(STD**2)
    gain = prior @ A.T @ torch.linalg.inv(A @ prior @ A.T + NOISE**2 * torch.eye(2))
    return MEAN + (gain @ (Y[0] - A @ MEAN)), prior - gain @ A @ prior


def guided_gaussian(sde: SDE) -> tuple[GaussianScore, torch.nn.Module]:
    score = GaussianScore(sde, MEAN, STD)
    return score, linear_inverse(score, sde, seen, Y, noise=NOISE)


@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_guided_score_is_that_of_the_posterior(make: type[SDE]) -> None:
    """Gaussian data stay Gaussian: N(a m, a² C + s² I) with the posterior's m and C."""
    sde = make()
    _, guided = guided_gaussian(sde)
    mean, covariance = posterior()
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    for fraction in (0.01, 0.3, 1.0):
        t = torch.tensor(fraction * sde.T, dtype=torch.float64)
        a, s = sde.marginal_scale(t), sde.marginal_std(t)
        law = a**2 * covariance + s**2 * torch.eye(4)
        exact = -torch.linalg.solve(law, (x - a * mean).T).T
        # Below σ = 0.6 conjugate gradients stop short by up to 2e-6, whatever the process.
        atol = 1e-8 if s / a > 0.6 else 1e-6
        torch.testing.assert_close(guided(x, t), exact, rtol=1e-6, atol=atol)
        torch.testing.assert_close(guided(x, t.expand(6)), exact, rtol=1e-6, atol=atol)


@pytest.mark.parametrize(
    ("stochastic", "method"), [(True, "sde_dpmpp_2m"), (True, "sosra"), (False, "dpmpp_2m")]
)
def test_samples_have_the_posterior_mean_and_covariance(stochastic: bool, method: str) -> None:
    sde = VPSDE()
    _, guided = guided_gaussian(sde)
    problem = (ReverseSDE if stochastic else ProbabilityFlow)(sde, guided, (4,))
    x = sde.prior_sample((400, 4), seed=1, dtype=torch.float64)
    sol = solve(problem, x, method, steps=60, clock="karras", seed=2, save="last")
    mean, covariance = posterior()
    t = torch.tensor(sde.eps, dtype=torch.float64)
    a, s = sde.marginal_scale(t), sde.marginal_std(t)
    root = torch.linalg.cholesky(a**2 * covariance + s**2 * torch.eye(4))
    white = torch.linalg.solve_triangular(root, (sol.final - a * mean).T, upper=False)
    assert stats.kstest(white.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    # and each mean and each covariance by itself
    assert float(white.mean(1).abs().max()) < 4 / math.sqrt(400)
    assert float((white.cov() - torch.eye(4)).abs().max()) < 4 * math.sqrt(2 / 400)


def test_cheaper_covariance_is_exact_for_what_it_supposes() -> None:
    sde = VPSDE()
    score = GaussianScore(sde, MEAN, 0.5)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    own = linear_inverse(score, sde, seen, Y, noise=NOISE)
    cheap = linear_inverse(score, sde, seen, Y, noise=NOISE, data_std=0.5)
    torch.testing.assert_close(cheap(x, 0.3), own(x, 0.3))
    wrong = linear_inverse(score, sde, seen, Y, noise=NOISE, data_std=2.0)
    assert not torch.allclose(wrong(x, 0.3), own(x, 0.3), rtol=1e-2)


def test_conjugate_gradients_stop_where_the_jacobian_is_not_positive() -> None:
    """A learned Jacobian may be anything: where A V Aᵀ is negative, nothing is added."""
    sde, t = VPSDE(), torch.tensor(0.3, dtype=torch.float64)
    a, s = sde.marginal_scale(t), sde.marginal_std(t)

    def score(x: Tensor, t: Tensor | float) -> Tensor:
        """Of the denoiser ± x: − for the samples that begin with a negative number."""
        denoised = torch.where(x[:, :1] < 0, -x, x)
        return (a * denoised - x) / s**2

    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    guided = linear_inverse(score, sde, seen, Y, noise=0.01)(x, t)
    wrong = x[:, 0] < 0
    assert 0 < int(wrong.sum()) < 6
    torch.testing.assert_close(guided[wrong], score(x, t)[wrong], rtol=0, atol=0)
    # Elsewhere V = s² / a I, and the system is solved exactly.
    system = s**2 / a * A @ A.T + 0.01**2 * torch.eye(2)
    added = torch.linalg.solve(system, (Y - seen(x)).T).T @ A
    torch.testing.assert_close(guided[~wrong], (score(x, t) + added)[~wrong])


def test_a_sample_that_agrees_already_stays_as_it_is() -> None:
    """Its residual is zero, and conjugate gradients would divide zero by zero."""
    sde = VPSDE()
    score = GaussianScore(sde, torch.zeros(4), STD)
    zero, other = torch.zeros(1, 4).double(), torch.ones(1, 4).double()
    guided = linear_inverse(score, sde, seen, torch.zeros(1, 2), noise=NOISE)
    both = guided(torch.cat([zero, other]), 0.3)
    assert torch.equal(both[:1], zero)
    torch.testing.assert_close(both[1:], guided(other, 0.3))
    assert bool(torch.isfinite(both).all())


def test_known_pixels_are_kept_and_the_rest_is_drawn() -> None:
    sde = EDMSDE()
    shape = (1, 4, 4)
    score = GaussianScore(sde, torch.full(shape, 0.5), 0.3)
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(shape)
    mask[:, :2] = 1
    guided = inpainting(score, sde, image, mask, noise=0.01)
    x = sde.prior_sample((60, *shape), seed=3)
    sol = solve(ReverseSDE(sde, guided, shape), x, "sde_dpmpp_2m", steps=30, clock="karras", seed=0)
    known, painted = sol.final[:, :, :2], sol.final[:, :, 2:]
    z = (known - image[:, :, :2]) / math.hypot(0.01, sde.eps)
    assert float(z.abs().max()) < 5
    assert stats.kstest(((painted - 0.5) / 0.3).flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["super_resolution", "deblurring"])
def test_images_agree_with_what_was_seen(kind: str) -> None:
    sde = VPSDE()
    shape = (2, 4, 4)
    score = GaussianScore(sde, torch.zeros(shape), 0.7)
    truth = 0.7 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    if kind == "super_resolution":
        observe = lambda x: torch.nn.functional.avg_pool2d(x, 2)  # noqa: E731
        guided = super_resolution(score, sde, observe(truth), 2, noise=0.02)
    else:
        kernel = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.5, 0.2], [0.0, 0.1, 0.0]])
        weight = kernel.expand(2, 1, 3, 3)
        observe = lambda x: torch.nn.functional.conv2d(x, weight, padding=1, groups=2)  # noqa: E731
        guided = deblurring(score, sde, observe(truth), kernel, noise=0.02, iterations=12)
    x = sde.prior_sample((8, *shape), seed=3)
    flow = ProbabilityFlow(sde, guided, shape)
    final = solve(flow, x, "dpmpp_2m", steps=40, clock="karras", save="last").final
    error = observe(final) - observe(truth)
    assert float(error.square().mean().sqrt()) < 0.03
    if kind == "super_resolution":  # what was not seen is free
        assert float(final.std(0).mean()) > 0.3


def labelled(sde: SDE) -> tuple[MixtureScore, list[GaussianScore]]:
    means = torch.tensor([[0.8, -0.5], [-0.6, 0.4], [0.1, 0.9]], dtype=torch.float64)
    stds = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
    whole = MixtureScore(sde, means, stds, [0.5, 0.2, 0.3])
    return whole, [GaussianScore(sde, m, c) for m, c in zip(means, stds, strict=True)]


def logits_of(whole: MixtureScore, parts: list[GaussianScore]):
    """The exact classifier of noisy samples: log wₖ p_t(x | k), up to a constant."""
    weights = whole.log_weights

    def classify(x: Tensor, t: Tensor | float) -> Tensor:
        return torch.stack([w + p.log_prob(x, t) for w, p in zip(weights, parts, strict=True)], 1)

    return classify


def taking_labels(whole: MixtureScore, parts: list[GaussianScore]):
    def score(x: Tensor, t: Tensor | float, label: Tensor | None) -> Tensor:
        if label is None:
            return whole(x, t)
        every = torch.stack([p(x, t) for p in parts])
        return every[label, torch.arange(len(x))]

    return score


def test_classifier_gives_the_score_of_the_class() -> None:
    whole, parts = labelled(VPSDE())
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    for k in range(3):
        guided = classifier_guided(whole, logits_of(whole, parts), k)
        torch.testing.assert_close(guided(x, 0.3), parts[k](x, 0.3))
    labels = torch.tensor([0, 1, 2, 1, 0])
    mixed = classifier_guided(whole, logits_of(whole, parts), labels)(x, 0.3)
    torch.testing.assert_close(mixed, taking_labels(whole, parts)(x, torch.tensor(0.3), labels))


def test_classifier_guided_samples_are_of_the_class() -> None:
    sde = VPSDE()
    whole, parts = labelled(sde)
    guided = classifier_guided(whole, logits_of(whole, parts), 1)
    x = sde.prior_sample((300, 2), seed=4, dtype=torch.float64)
    sol = solve(ReverseSDE(sde, guided, (2,)), x, "sde_dpmpp_2m", steps=40, clock="karras", seed=1)
    white = (sol.final - parts[1].mean) / 0.5
    assert stats.kstest(white.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


def test_classifier_free_is_the_same_line_of_scores() -> None:
    """γ times the classifier's gradient, and γ times the difference of two scores, are one."""
    whole, parts = labelled(VPSDE())
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    score = taking_labels(whole, parts)
    for guidance in (0.0, 1.0, 2.0, 3.5):
        free = classifier_free(score, 2, guidance)
        classified = classifier_guided(whole, logits_of(whole, parts), 2, scale=guidance)
        torch.testing.assert_close(free(x, 0.2), classified(x, 0.2))
    calls: list[object] = []
    counted = lambda x, t, k: (calls.append(k), score(x, t, k))[1]  # noqa: E731
    classifier_free(counted, 2, 1.0)(x, 0.2)
    assert len(calls) == 1  # γ = 1 needs no score without a label
    sde = whole.sde
    start = sde.prior_sample((300, 2), seed=4, dtype=torch.float64)
    flow = ProbabilityFlow(sde, classifier_free(score, 2, 1.0), (2,))
    final = solve(flow, start, "dpmpp_2m", steps=30, clock="karras", save="last").final
    white = (final - parts[2].mean) / math.hypot(0.2, float(sde.marginal_std(sde.eps)))
    assert stats.kstest(white.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


def test_guided_scores_can_be_differentiated() -> None:
    """So likelihoods and gradients through a solve work on guided problems too."""
    sde = VPSDE()
    _, guided = guided_gaussian(sde)
    whole, parts = labelled(sde)
    classified = classifier_guided(whole, logits_of(whole, parts), 1)
    for fn, dims in ((guided, 4), (classified, 2)):
        x = torch.randn(2, dims, generator=torch.Generator().manual_seed(0)).double()
        x.requires_grad_()
        t = torch.tensor(0.4, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda z, fn=fn, t=t: fn(z, t), (x,))
        assert not fn(x.detach(), t).requires_grad


def test_error_texts() -> None:
    sde = VPSDE()
    score, _ = guided_gaussian(sde)
    x = torch.zeros(3, 4)
    with pytest.raises(InputError, match=r"y has shape \(2, 2\): expected \(1, …\) or \(B, …\)"):
        linear_inverse(score, sde, seen, Y.expand(2, 2))(x, 0.5)
    with pytest.raises(InputError, match="operator: not linear"):
        linear_inverse(score, sde, lambda x: seen(x) + 1, Y)(x, 0.5)
    with pytest.raises(InputError, match="noise = -1"):
        linear_inverse(score, sde, seen, Y, noise=-1)
    with pytest.raises(InputError, match="iterations = 0: expected a whole number"):
        linear_inverse(score, sde, seen, Y, iterations=0)
    with pytest.raises(InputError, match="mask: expected zeros"):
        inpainting(score, sde, x, torch.full((4,), 0.5))
    with pytest.raises(InputError, match=r"kernel of shape \(2, 2\): expected \(h, w\), both odd"):
        deblurring(score, sde, x, torch.ones(2, 2))
    with pytest.raises(InputError, match=r"label of shape .* expected a whole number, or 3"):
        classifier_free(lambda x, *_: x, torch.zeros(2).long(), 1.0)(x, 0.5)
    with pytest.raises(InputError, match=r"classifier returned \(3,\) .*expected logits"):
        classifier_guided(score, lambda x, _: x[:, 0], 1)(x, 0.5)


# -- what a guided score costs ---------------------------------------------------------------


class _Labelled(torch.nn.Module):
    """A score that takes labels, and counts its calls; each costs `evaluations`."""

    def __init__(self, evaluations: int = 1) -> None:
        super().__init__()
        self.score, self.evaluations, self.calls = GaussianScore(VPSDE(), MEAN, STD), evaluations, 0

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.calls += 1
        score: Tensor = self.score(x, t)
        return score


class _Classifier(torch.nn.Module):
    calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return x[:, :2]


@pytest.mark.parametrize("guidance", [0, 1, 2.5])
@pytest.mark.parametrize("method", ["heun2", "dpmpp_2m", "dopri5"])
def test_evaluations_without_a_classifier_are_those_of_the_network(
    guidance: float, method: str
) -> None:
    network = _Labelled()
    flow = ProbabilityFlow(VPSDE(), classifier_free(network, 1, guidance), (4,))
    steps = None if method == "dopri5" else 7
    sol = solve(flow, torch.ones(2, 4), method, steps=steps)
    assert sol.stats.nfe == network.calls
    assert sol.evaluations is not None
    assert int(sol.evaluations[-1]) == network.calls


def test_evaluations_with_a_classifier_are_those_of_both() -> None:
    network, classifier = _Labelled(), _Classifier()
    guided = classifier_guided(network, classifier, 1)
    sol = solve(ProbabilityFlow(VPSDE(), guided, (4,)), torch.ones(2, 4), "heun2", steps=7)
    assert sol.stats.nfe == network.calls + classifier.calls == 28


def test_guided_scores_of_guided_scores_add_up() -> None:
    network, classifier = _Labelled(), _Classifier()
    guided = classifier_guided(classifier_free(network, 1, 3.0), classifier, 1)
    seen_guided = linear_inverse(guided, VPSDE(), seen, Y, noise=NOISE)
    sol = solve(ReverseSDE(VPSDE(), seen_guided, (4,)), torch.ones(2, 4), "em", steps=7, seed=0)
    assert sol.stats.nfe == network.calls + classifier.calls == 21
    dear = classifier_free(_Labelled(evaluations=5), 1, 3.0)
    assert solve(ProbabilityFlow(VPSDE(), dear, (4,)), torch.ones(2, 4), "euler", steps=2).stats.nfe == 20  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("limit", [1, 2, 7, 8])
def test_the_limit_counts_evaluations_of_the_network(limit: int) -> None:
    network = _Labelled()
    flow = ProbabilityFlow(VPSDE(), classifier_free(network, 1, 3.0), (4,))
    with pytest.raises(SolveError, match=rf"max_nfe = {limit} .*2 for each call") as caught:
        solve(flow, torch.ones(2, 4), "euler", steps=9, max_nfe=limit)
    assert network.calls == caught.value.trajectory.stats.nfe == limit // 2 * 2


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_autoguidance_moves_away_from_the_weaker_score(make: type[SDE], guidance: float) -> None:
    sde = make()
    score, weaker = GaussianScore(sde, MEAN, STD), GaussianScore(sde, 0 * MEAN, 2 * STD)
    guided = autoguidance(score, weaker, guidance)
    x, t = torch.randn(5, 4, dtype=torch.float64), torch.tensor(0.5 * sde.T)
    expected = weaker(x, t) + guidance * (score(x, t) - weaker(x, t))
    torch.testing.assert_close(guided(x, t), expected)
    times = torch.tensor([0.5, 0.1], dtype=torch.float64) * sde.T
    for at, moment in zip(times, guided.prepare(times), strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(guided(x, moment), guided(x, at))
    problem = ProbabilityFlow(sde, guided, (4,))
    sol = solve(problem, sde.prior_sample((2, 4), seed=0), "ddim", steps=5)
    assert sol.stats.nfe == 5 * (1 if guidance in (0, 1) else 2)


def test_autoguidance_of_two_networks_prepares_both() -> None:
    sde = VPSDE()
    models = [ScoreModel(torch.nn.Identity(), sde, (4,), name) for name in ("edm", "noise")]
    for model in models:
        model.network.forward = lambda x, label: torch.tanh(x + label[:, None])  # type: ignore[method-assign]
    flow = ProbabilityFlow(sde, autoguidance(models[0], models[1], 2.0), (4,))
    plain = ProbabilityFlow(sde, autoguidance(lambda x, t: models[0](x, t), models[1], 2.0), (4,))
    x = sde.prior_sample((2, 4), seed=0)
    found, expected = (solve(one, x, "dpmpp_2m", steps=6).final for one in (flow, plain))
    torch.testing.assert_close(found, expected)


def test_bad_autoguidance() -> None:
    score = GaussianScore(VPSDE(), MEAN, STD)
    with pytest.raises(InputError, match="finite"):
        autoguidance(score, score, math.nan)
    with pytest.raises(InputError, match="one process"):
        autoguidance(score, GaussianScore(EDMSDE(), MEAN, STD), 2.0)


# -- temperature -------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_gaussian_data_at_a_temperature_are_gaussian(make: type[SDE], temperature: float) -> None:
    """Of a std √τ times as large, exactly, at every time."""
    sde = make()
    score = GaussianScore(sde, MEAN, torch.full_like(MEAN, 0.3))
    found = tempered(sde, score, temperature, 0.3)
    exact = GaussianScore(sde, MEAN, torch.full_like(MEAN, 0.3 * temperature**0.5))
    x = torch.randn(5, 4, dtype=torch.float64)
    times = torch.tensor([1.0, 0.5, 0.1, 0.01], dtype=torch.float64) * sde.T
    for t, moment in zip(times, found.prepare(times), strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(found(x, t), exact(x, t))
        torch.testing.assert_close(found(x, moment), exact(x, t))
    each = times.repeat(2)[:5]
    torch.testing.assert_close(found(x, each), exact(x, each))


def test_the_temperature_of_samples() -> None:
    """The flow's std is √τ times as large, and the SDE's."""
    # Gaussian data of std ¼, the spread that is taken for images in [0, 1].
    sde = EDMSDE(T=20.0, eps=0.002)
    score = from_denoiser(lambda y, sigma: y / (1 + 16 * sigma[:, None] ** 2), sde, shape=(2,))
    for method in ("dpmpp_2m", "sde_dpmpp_2m"):
        warm = score.sample(4000, method=method, seed=0, save="last", temperature=1.0)
        cold = score.sample(4000, method=method, seed=0, save="last", temperature=0.49)
        # The std of 8,000 numbers is known to 0.8 %.
        ratio = float(cold.final.std() / warm.final.std())
        assert ratio == pytest.approx(0.7, abs=0.025)
    assert "tempered" in repr(score.reverse(temperature=0.5).score)
    assert score.flow(temperature=1).score is score


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "cold"])
def test_bad_temperatures(value: Any) -> None:
    score = from_denoiser(lambda y, sigma: 0 * y, EDMSDE(), shape=(2,))
    with pytest.raises(InputError, match="temperature"):
        score.sample(2, temperature=value)
    with pytest.raises(InputError, match="spread"):
        tempered(score.sde, score, 0.5, value)
