"""Clocks: maps, inverses and rates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffsde import VESDE, InputError
from diffsde.equations.clocks import CLOCKS, Clock, make_clock

SDE = VESDE()


def squared(u: Tensor) -> Tensor:
    return 1 + (1e-3 - 1) * u**2


ALL = [*CLOCKS, squared]


def clock(name: object, start: float = 1.0, end: float = 1e-3) -> Clock:
    return make_clock(name, start, end, SDE)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
def test_a_clock_runs_from_start_to_end(name: object) -> None:
    c = clock(name)
    u = torch.linspace(0, c.duration, 50, dtype=torch.float64)
    t = c.time(u)
    assert t[0] == pytest.approx(1.0, abs=1e-12)
    assert t[-1] == pytest.approx(1e-3, abs=1e-12)
    assert (t.diff() < 0).all()
    assert torch.allclose(c.place(t), u, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_the_rate_is_the_derivative(name: object) -> None:
    c = clock(name)
    u = torch.linspace(0.02, 0.98, 40, dtype=torch.float64) * c.duration
    h = 1e-6 * c.duration
    slope = (c.time(u + h) - c.time(u - h)).abs() / (2 * h)
    assert torch.allclose(c.rate(u), slope, rtol=1e-6)  # the difference's own error


@pytest.mark.parametrize("name", ["t", "sigma", "log_sigma", "karras"])
def test_a_clock_may_run_to_noise(name: str) -> None:
    c = clock(name, 1e-3, 1.0)
    assert c.direction == 1.0
    assert c.time(torch.tensor(c.duration)) == pytest.approx(1.0)


def test_karras_levels() -> None:
    """Equation 5 of arXiv 2206.00364."""
    c, n = clock("karras"), 10
    i = torch.arange(n, dtype=torch.float64)
    top, low = SDE.noise_level(torch.tensor([1.0, 1e-3], dtype=torch.float64)) ** (1 / 7)
    levels = (top + i / (n - 1) * (low - top)) ** 7
    found = SDE.noise_level(c.time(torch.linspace(0, c.duration, n, dtype=torch.float64)))
    assert torch.allclose(found, levels, rtol=1e-9)


def test_errors() -> None:
    with pytest.raises(InputError, match="no clock 'karas': did you mean 'karras'"):
        clock("karas")
    with pytest.raises(InputError, match="needs the noise level"):
        make_clock("karras", 1.0, 0.0, None)
    with pytest.raises(InputError, match="strictly monotone map"):
        clock(lambda u: 1 - 0.5 * u)
    with pytest.raises(InputError, match="log σ is not at t = 0"):
        clock("log_sigma", 0.0, 1.0)
