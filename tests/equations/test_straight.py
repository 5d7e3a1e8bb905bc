"""The straight line of flow matching as a diffusion, and interpolants in general."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffsde import InputError, StraightSDE
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.schedule import InterpolantSDE


def line(T: float = 0.999) -> InterpolantSDE:
    return InterpolantSDE(lambda t: 1 - t, lambda t: t, T=T)


def arc(T: float = 0.999) -> InterpolantSDE:
    """The trigonometric interpolant, with a² + s² = 1."""
    return InterpolantSDE(
        lambda t: torch.cos(0.5 * math.pi * t), lambda t: torch.sin(0.5 * math.pi * t), T=T
    )


def test_closed_forms() -> None:
    sde, t = StraightSDE(), torch.tensor([0.2, 0.75], dtype=torch.float64)
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(sde.drift(x, t), -x / torch.tensor([[0.8], [0.25]]).double())
    torch.testing.assert_close(sde.diffusion(t) ** 2, torch.tensor([0.5, 6.0]).double())
    torch.testing.assert_close(sde.noise_level(t), torch.tensor([0.25, 3.0]).double())
    torch.testing.assert_close(sde.noise_level_slope(t), torch.tensor([1.5625, 16.0]).double())
    assert sde.prior_std == 0.999
    ends = sde.noise_level(torch.tensor([sde.T, sde.eps], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([999.0, 1 / 999], dtype=torch.float64))


def test_every_noise_level_has_a_time() -> None:
    """From none at all to an infinite one."""
    level = torch.tensor([0.0, 1e-12, 1.0, 1e12, math.inf], dtype=torch.float64)
    t = StraightSDE(T=1).time_of_noise_level(level)
    assert t.tolist() == pytest.approx([0, 1e-12, 0.5, 1, 1], rel=2e-12)


@pytest.mark.parametrize("make", [line, arc])
def test_the_end_may_be_noise_alone(make: Callable[[float], SDE]) -> None:
    """What is infinite is said to be so, and nothing is NaN."""
    sde = make(1.0)
    assert sde.endless
    assert not make(0.999).endless
    one = torch.tensor(1.0, dtype=torch.float64)
    assert sde.prior_std == 1
    parts = (sde.diffusion(one), sde.noise_level(one), sde.marginal_scale_slope(one))
    assert not any(bool(part.isnan()) for part in parts)
    sde.check()


def test_a_wrong_drift_is_found_where_the_end_is_noise_alone() -> None:
    class Wrong(StraightSDE):
        def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
            return 1.01 * super().drift(x, t)

    with pytest.raises(InputError, match="expected two equal numbers"):
        Wrong(T=1).check()


def test_an_interpolant_takes_the_derivatives_itself() -> None:
    own, same = StraightSDE(), line()
    t, x = torch.linspace(1e-3, 0.999, 9).double(), torch.ones(9, 2).double()
    for name in (
        "diffusion", "marginal_scale", "marginal_std", "marginal_scale_slope",
        "marginal_std_slope", "noise_level", "noise_level_slope",
    ):  # fmt: skip
        torch.testing.assert_close(getattr(same, name)(t), getattr(own, name)(t), msg=name)
    torch.testing.assert_close(same.drift(x, t), own.drift(x, t))
    arc().check()


@pytest.mark.parametrize("make", [*SDES.values(), line, arc])
def test_the_slopes_of_scale_and_std(make: Callable[[], SDE]) -> None:
    sde = make()
    t = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    h = 1e-6
    for part, slope in (
        (sde.marginal_scale, sde.marginal_scale_slope),
        (sde.marginal_std, sde.marginal_std_slope),
    ):
        found = (part(t + h) - part(t - h)) / (2 * h)  # its own error is of order h²
        torch.testing.assert_close(slope(t), found, rtol=1e-6, atol=1e-8)


def test_error_texts() -> None:
    with pytest.raises(InputError, match=r"T = 1\.5: expected at most 1"):
        StraightSDE(T=1.5)
    with pytest.raises(InputError, match=r"σ\(t\) > 0 that rises"):
        InterpolantSDE(lambda t: t, lambda t: 1 - t)
