"""Weak errors against laws that are known: zero for the law itself, and known where it is off."""

from __future__ import annotations

import math

import pytest
import torch

from diffsde import EDMSDE, VPSDE, InputError, MixtureScore
from diffsde.analysis.laws import law_errors
from diffsde.equations.forward import SDE

MEANS = torch.tensor([[1.0, 0.0, -0.5], [-1.0, 0.5, 0.0]])


@pytest.mark.parametrize("sde", [EDMSDE(T=10.0), VPSDE()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("t", [0.01, 0.5])
def test_exact_samples_have_the_errors_of_their_number(sde: SDE, t: float) -> None:
    """1 / √n, times a constant of the order of 1, at every time."""
    score = MixtureScore(sde, MEANS, [0.3, 0.5], [0.6, 0.4])
    for n in (400, 10_000):
        errors = law_errors(score.sample(n, t, seed=1), score, t)
        assert 0.3 < errors.ks * math.sqrt(n) < 1.6
        assert 0.2 < errors.moments * math.sqrt(n) < 3
        assert 0.2 < errors.wasserstein * math.sqrt(n) < 3


def test_a_shift_and_a_stretch_of_one_gaussian() -> None:
    """By e along θ the Wasserstein distance is |e · θ|; stretched by 1 + r it is r √(2/π) std."""
    score = MixtureScore(EDMSDE(), torch.zeros(1, 3), 1.0)
    t, n = 0.5, 40_000
    x = score.sample(n, t, seed=2)
    std = math.sqrt(1 + 0.25)
    shifted = law_errors(x + torch.tensor([0.6, 0.0, 0.0]), score, t)
    # |θ₁| of a random direction in three dimensions has the mean ½; of 64 of them to 0.036.
    assert shifted.wasserstein == pytest.approx(0.3, abs=0.07)
    assert shifted.moments == pytest.approx(shifted.wasserstein, rel=0.02)
    stretched = law_errors(1.5 * x, score, t)
    assert stretched.wasserstein == pytest.approx(0.5 * math.sqrt(2 / math.pi) * std, rel=0.02)
    assert stretched.moments == pytest.approx(0.5 * std, rel=0.02)
    # The two densities meet at z² = 2 ln 1.5 / (1 − 1/1.5²), where the functions differ most.
    z = math.sqrt(2 * math.log(1.5) / (1 - 1 / 1.5**2))
    gap = float(torch.special.ndtr(torch.tensor(z)) - torch.special.ndtr(torch.tensor(z / 1.5)))
    assert stretched.ks == pytest.approx(gap, rel=0.05)


def test_weights_that_are_wrong_are_seen() -> None:
    score = MixtureScore(EDMSDE(), MEANS, 0.1, [0.6, 0.4])
    other = MixtureScore(EDMSDE(), MEANS, 0.1, [0.4, 0.6])
    errors = law_errors(other.sample(4000, 0.01, seed=1), score, 0.01)
    assert 0.1 < errors.ks < 0.22
    assert errors.wasserstein > 0.1


def test_samples_of_another_shape() -> None:
    score = MixtureScore(EDMSDE(), MEANS, 0.1)
    with pytest.raises(InputError, match=r"\(4, 2\): expected \(n, \(3,\)\)"):
        law_errors(torch.zeros(4, 2), score, 0.1)
