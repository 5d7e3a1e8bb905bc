"""Bits of images by each convention, compared with the entropy of data whose law is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from diffsde import (
    VESDE,
    GaussianScore,
    InputError,
    ProbabilityFlow,
    ReverseSDE,
    StraightSDE,
    from_velocity,
    load_images,
    load_pretrained,
    variational_bound,
)
from diffsde.analysis.bits import bits_by_noise, error_budget
from diffsde.analysis.conventions import CONVENTIONS, noisy_levels
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.likelihood import dequantise
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from tests.emulated_device import Emulated, OnDevice

SHAPE = (1, 2, 3)
LEVELS, SHARES = torch.tensor([0.0, 90.0, 255.0]), torch.tensor([0.7, 0.2, 0.1])

every_convention = pytest.mark.parametrize("name", CONVENTIONS)


class ThreeLevels(nn.Module):
    """The exact score of pixels that are independent and have one of three levels each.

    With `width`, a pixel is uniform over its level, as dequantisation makes it.
    """

    def __init__(self, sde: SDE, data_range: tuple[float, float] = (0.0, 1.0), width: bool = False):
        super().__init__()
        low, high = data_range
        self.sde, self.data_range, self.width = sde, data_range, width
        grid, self.half = (256, (high - low) / 512) if width else (255, 0.0)
        centres = (LEVELS + 0.5 * width) / grid
        self.register_buffer("centres", low + (high - low) * centres)

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        scale, std = (
            value.reshape(-1, *[1] * x.dim())
            for value in (self.sde.marginal_scale(t), self.sde.marginal_std(t))
        )
        away = x[..., None] - scale * self.centres
        if self.width:
            ends = [(away + sign * scale * self.half) / std for sign in (1, -1)]
            inside = torch.special.ndtr(ends[0]) - torch.special.ndtr(ends[1])
            each = inside.clamp(min=1e-300).log() - (2 * scale * self.half).log()
        else:
            each = -0.5 * (away / std) ** 2 - (math.sqrt(2 * math.pi) * std).log()
        return (each + SHARES.to(x).log()).logsumexp(-1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(self.log_prob(x, t).sum(), x, create_graph=True)[0]


def drawn(n: int) -> tuple[Tensor, Tensor]:
    """Images k / 255, (n, *SHAPE), and the exact bits/dim of each."""
    which = torch.multinomial(
        SHARES, n * math.prod(SHAPE), replacement=True, generator=torch.Generator().manual_seed(0)
    ).reshape(n, *SHAPE)
    return LEVELS.double()[which] / 255, -SHARES.double().log2()[which].flatten(1).mean(1)


def flow_of(
    sde: SDE, data_range: tuple[float, float] = (0.0, 1.0), width: bool = False
) -> ProbabilityFlow:
    return ProbabilityFlow(sde, ThreeLevels(sde, data_range, width).double(), SHAPE)


def small_time(sde: SDE, level: float) -> float:
    """The time at which the noise level is this."""
    return float(sde.time_of_noise_level(torch.tensor(level, dtype=torch.float64)))


SETTINGS = {
    "uniform": {"exact": True, "method": "rk4", "steps": 40},
    "truncated-normal": {"exact": True, "method": "rk4", "steps": 40},
    "variational": {"draws": 64},
}
# Of the distance of two levels: so little that no convention's noise costs a hundredth of a bit.
NOISE = {"uniform": 1e-4, "truncated-normal": 0.2, "variational": 0.1}
EVERY_SDE_AND_ANOTHER_RANGE = [
    *((make, (0.0, 1.0)) for make in SDES.values()),
    (VESDE, (-1.0, 1.0)),
]


@every_convention
@pytest.mark.parametrize(("make", "data_range"), EVERY_SDE_AND_ANOTHER_RANGE)
def test_an_exact_score_pays_what_the_levels_contain(
    name: str, make: type[SDE], data_range: tuple[float, float]
) -> None:
    images, exact = drawn(30)
    sde = make(T=0.9999) if make is StraightSDE else make()
    flow = flow_of(sde, data_range, width=name == "uniform")
    eps = small_time(sde, NOISE[name] * (data_range[1] - data_range[0]) / 255)
    found = evaluate_likelihood(flow, images, convention=name, seed=1, eps=eps, **SETTINGS[name])
    off = found.bits_per_dim - exact
    error = float(off.std()) / math.sqrt(len(off))
    assert error < 0.15  # of about 1.2 bits: the test would notice an error of half a bit
    # A hundredth for the noise at ε, the prior and the solver's steps; the rest is chance.
    assert abs(float(off.mean())) < 0.01 + 4 * error
    assert found.nfe == (64 if name == "variational" else 160)


def test_the_bound_adds_up_and_a_worse_score_pays_more() -> None:
    images, _ = drawn(40)
    sde = VESDE()
    flow, eps = flow_of(sde), small_time(sde, 0.1 / 255)
    bound = variational_bound(flow, images, draws=8, seed=0, eps=eps)
    parts = bound.prior + bound.diffusion + bound.decoder
    torch.testing.assert_close(bound.bits_per_dim, parts / (6 * math.log(2)))
    assert bound.nfe == 8
    # A mean of 1/255 off: the KL of the prior is known, (a k/255)² / 2 s(T)² for each pixel.
    wanted = images.flatten(1).square().sum(1) / (2 * sde.prior_std**2)
    torch.testing.assert_close(bound.prior, wanted)
    wrong = GaussianScore(sde, torch.full(SHAPE, 0.2), 0.3).double()
    poor = variational_bound(ProbabilityFlow(sde, wrong, SHAPE), images, draws=8, seed=0, eps=eps)
    assert bool((poor.bits_per_dim > bound.bits_per_dim + 1).all())
    sde.centre(torch.full(SHAPE, 0.2).double())
    centred = variational_bound(flow, images, draws=8, seed=0, eps=eps)
    wanted = (images - 0.2).flatten(1).square().sum(1) / (2 * sde.prior_std**2)
    torch.testing.assert_close(centred.prior, wanted)


def test_the_decoder_pays_for_noise_as_wide_as_the_levels() -> None:
    """The entropy of a level among many under noise of that many levels; of all 256 at most."""
    images, sde = torch.full((300, *SHAPE), 90 / 255).double(), VESDE()

    def bits(stds: float) -> float:
        eps = small_time(sde, stds / 255)
        bound = variational_bound(flow_of(sde), images, draws=1, seed=0, eps=eps)
        return float(bound.decoder.mean()) / 6 / math.log(2)

    assert bits(0.1) == pytest.approx(0, abs=1e-4)
    for stds in (1.0, 3.0):
        normal = 0.5 * math.log2(2 * math.pi * math.e * stds**2)
        assert bits(stds) == pytest.approx(
            normal, abs=4 * 0.72 / 1800**0.5
        )  # ½z² has std 0.72 bits
    assert bits(2000.0) == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize("draws", [1, 3, 16])
def test_the_mean_does_not_depend_on_the_number_of_draws(draws: int) -> None:
    images, exact = drawn(400)
    sde = VESDE()
    bound = variational_bound(
        flow_of(sde), images, draws=draws, seed=3, eps=small_time(sde, 0.1 / 255)
    )
    off = bound.bits_per_dim - exact
    assert abs(float(off.mean())) < 0.005 + 4 * float(off.std()) / math.sqrt(len(off))


@every_convention
def test_the_bits_of_an_image_are_its_own(name: str) -> None:
    images, _ = drawn(7)
    flow = flow_of(VESDE(), width=name == "uniform")
    settings = {"draws": 3} if name == "variational" else {"method": "rk4", "steps": 5}
    settings |= {"convention": name, "seed": 5, "eps": 1e-6}
    whole = evaluate_likelihood(flow, images, **settings).log_prob
    torch.testing.assert_close(
        evaluate_likelihood(flow, images, chunk=3, **settings).log_prob, whole
    )
    other = evaluate_likelihood(flow, images, **{**settings, "seed": 6}).log_prob
    assert not torch.isclose(other, whole).any()


@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_noisy_levels_stay_in_their_level(make: type[SDE]) -> None:
    """The noise has the law of normal noise that is cut off half a level away."""
    sde = make()
    images, _ = drawn(300)
    eps = small_time(sde, 0.6 / 255)  # half a level is 0.83 stds
    flow = flow_of(sde, (-1.0, 1.0))
    states = noisy_levels(flow, images, eps=eps, seed=1)
    scale, std = (f(torch.tensor(eps).double()) for f in (sde.marginal_scale, sde.marginal_std))
    noise = (states - scale * (2 * images - 1)) / std
    cut = float(scale / 255 / std)
    assert float(noise.abs().max()) <= cut
    assert stats.kstest(noise.flatten().numpy(), stats.truncnorm(-cut, cut).cdf).pvalue > 1e-3
    assert torch.equal(noisy_levels(flow, images[9:], eps=eps, seed=1, first=9), states[9:])
    entropy = stats.truncnorm(-cut, cut).entropy() + math.log(std)
    offset = CONVENTIONS["truncated-normal"].offset(flow, eps)
    assert offset == pytest.approx(-entropy / math.log(2), abs=1e-6)


@every_convention
def test_results_belong_to_a_convention(name: str, tmp_path: Path) -> None:
    images, _ = drawn(4)
    flow, path = flow_of(VESDE()), tmp_path / "bits.safetensors"
    settings = {"draws": 2} if name == "variational" else {"method": "rk4", "steps": 2}
    first = evaluate_likelihood(flow, images, convention=name, path=path, **settings)
    again = evaluate_likelihood(flow, images, convention=name, path=path, **settings)
    assert torch.equal(first.bits_per_dim, again.bits_per_dim)
    other = "uniform" if name != "uniform" else "truncated-normal"
    with pytest.raises(InputError, match="holds likelihoods"):
        evaluate_likelihood(flow, images, convention=other, path=path, method="rk4", steps=2)


def test_bad_input_is_refused() -> None:
    images, _ = drawn(4)
    flow = flow_of(VESDE())
    with pytest.raises(InputError, match="convention = 'unifrom': did you mean 'uniform'"):
        evaluate_likelihood(flow, images, convention="unifrom")
    with pytest.raises(InputError, match="draws: .*Valid names: atol, clock"):
        evaluate_likelihood(flow, images, draws=4)
    with pytest.raises(InputError, match="rtol: Valid names: draws, eps"):
        evaluate_likelihood(flow, images, convention="variational", rtol=1e-3)
    for wrong, text in ((images + 0.002, "levels from a level"), (2 * images - 1, "from -1 to 1")):
        with pytest.raises(InputError, match=text):
            variational_bound(flow, wrong)
        with pytest.raises(InputError, match=text):
            noisy_levels(flow, wrong)
    with pytest.raises(InputError, match=r"expected \(B, \*\(1, 2, 3\)\)"):
        variational_bound(flow, images[:, :, :1])
    with pytest.raises(InputError, match="draws = 0"):
        variational_bound(flow, images, draws=0)
    with pytest.raises(InputError, match="the noise level is infinite"):
        variational_bound(flow_of(StraightSDE(T=1.0)), images)
    endless = from_velocity(lambda x, _: -x, shape=SHAPE, T=1.0).flow()
    for bits in (variational_bound, bits_by_noise):
        with pytest.raises(InputError, match="the noise level is infinite at T"):
            bits(endless, images)
    with pytest.raises(InputError, match="expected a ProbabilityFlow"):
        variational_bound(ReverseSDE(flow.sde, flow.score, SHAPE), images)


def test_a_budget_counts_each_convention() -> None:
    images, _ = drawn(4)
    flow = flow_of(VESDE())
    settings = {"method": "rk4", "steps": 4, "eps": 1e-6}
    x = dequantise(images, seed=0)
    budget = error_budget(flow, x, images=images, seed=0, probes=2, **settings)
    for name in CONVENTIONS:
        own = {"eps": 1e-6} if name == "variational" else settings
        found = evaluate_likelihood(flow, images, convention=name, **own)
        assert budget[name] == pytest.approx(found.mean, rel=1e-6)
    assert not error_budget(flow, x, seed=0, probes=2, **settings).keys() & CONVENTIONS.keys()


@pytest.mark.parametrize("float64", [True, False], ids=["float64", "no-float64"])
@every_convention
def test_each_convention_works_on_a_device(name: str, float64: bool) -> None:
    images, sde = drawn(3)[0].float(), VESDE()
    settings = {"draws": 3} if name == "variational" else {"method": "rk4", "steps": 3}
    settings |= {"convention": name, "seed": 0, "eps": 1e-6}

    def score() -> GaussianScore:
        return GaussianScore(sde, torch.full(SHAPE, 0.2), 0.3).float()

    here = evaluate_likelihood(ProbabilityFlow(sde, score(), SHAPE), images, **settings).log_prob
    with Emulated(float64=float64) as device:
        flow = ProbabilityFlow(sde, device.module(score()), SHAPE)
        found = evaluate_likelihood(flow, images, **settings).log_prob
        assert not isinstance(found, OnDevice)
        assert device.launches > 30  # it was computed there
    torch.testing.assert_close(found, here, rtol=1e-4, atol=0)


def test_the_model_that_ships_codes_digits_in_less_than_a_bit() -> None:
    """All 10,000 test images need 0.87 bits/dim; these few are known to 0.05."""
    images = load_images("mnist", train=False).images[:32] / 255
    found = variational_bound(load_pretrained("mnist-likelihood").flow(), images, draws=8, seed=0)
    assert 0.7 < float(found.bits_per_dim.mean()) < 1
