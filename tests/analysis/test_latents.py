"""Latents: for Gaussian data the flow is an affine map that is known in both directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffsde import GaussianScore, ProbabilityFlow, ReverseSDE
from diffsde.analysis.latents import (
    compare_round_trips,
    decode,
    encode,
    interpolate,
    round_trip,
    slerp,
)
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.views.animation import animate

MEAN, STD = 0.4, 0.3


def gaussian(sde: SDE, shape: tuple[int, ...] = (4,)) -> ProbabilityFlow:
    score = GaussianScore(sde, torch.full(shape, MEAN, dtype=torch.float64), STD)
    return ProbabilityFlow(sde, score, shape)


def law(sde: SDE, t: float) -> tuple[float, float]:
    at = torch.tensor(t, dtype=torch.float64)
    a, s = float(sde.marginal_scale(at)), float(sde.marginal_std(at))
    return a * MEAN, math.hypot(a * STD, s)


def images(n: int = 5, shape: tuple[int, ...] = (4,)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return MEAN + STD * torch.randn(n, *shape, generator=generator).double()


@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_latents_are_where_the_flow_goes(make: type[SDE]) -> None:
    sde = make()
    flow, x = gaussian(sde), images()
    (m0, c0), (m1, c1) = law(sde, sde.eps), law(sde, sde.T)
    out = encode(flow, x, rtol=1e-7, atol=1e-7)
    assert (float(out.ts[0]), float(out.ts[-1])) == (sde.T, sde.T)  # only the last state
    torch.testing.assert_close(out.final, m1 + (x - m0) * c1 / c0, rtol=1e-5, atol=1e-5)
    home = decode(flow, out.final, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(home.final, x, rtol=1e-5, atol=1e-5)


def test_round_trip_tells_solvers_and_tolerances_apart() -> None:
    flow, x = gaussian(VESDE()), images()
    trips = [round_trip(flow, x, rtol=tol, atol=tol) for tol in (1e-2, 1e-4, 1e-6)]
    errors = [float(trip.error.max()) for trip in trips]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-5
    assert trips[0].nfe < trips[1].nfe < trips[2].nfe
    coarse, fine = (round_trip(flow, x, "heun2", steps=n, clock="karras") for n in (10, 40))
    assert float(coarse.error.max()) > 4 * float(fine.error.max())
    assert fine.nfe == 2 * 2 * 40
    one = (fine.back[0] - x[0]).square().mean().sqrt()
    assert float(fine.error[0]) == pytest.approx(float(one))


def test_temperature_scales_the_deviations() -> None:
    sde = VPSDE()
    flow = gaussian(sde)
    z = sde.prior_sample((3, 4), seed=0, dtype=torch.float64)
    cold, warm = (decode(flow, z, temperature=tau).final for tau in (0.5, 1.0))
    (m0, c0), (m1, c1) = law(sde, sde.eps), law(sde, sde.T)
    torch.testing.assert_close(cold, m0 + (0.5 * z - m1) * c0 / c1, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close((cold - m0 + m1 * c0 / c1) * 2, warm - m0 + m1 * c0 / c1,
                               rtol=1e-3, atol=1e-3)  # fmt: skip


def test_temperature_and_arcs_are_about_the_mean_of_the_prior() -> None:
    """With the data's mean in the prior, cold images come closer to the mean image."""
    sde = VESDE()
    sde.centre(torch.full((4,), MEAN, dtype=torch.float64))
    flow = gaussian(sde)
    z = sde.prior_sample((3, 4), seed=0, dtype=torch.float64)
    cold, warm = (
        decode(flow, z, temperature=tau, rtol=1e-7, atol=1e-7).final for tau in (0.5, 1.0)
    )
    torch.testing.assert_close(cold - MEAN, 0.5 * (warm - MEAN), rtol=1e-4, atol=1e-5)
    # On an arc to its mirror image about the mean, x keeps its distance from the mean.
    x = images()
    other = MEAN + (x - MEAN).flip(1)
    strip = interpolate(flow, x, other, frames=3, rtol=1e-7, atol=1e-7)
    lengths = (strip.ys - MEAN).norm(dim=2)
    torch.testing.assert_close(lengths, lengths[:1].expand(3, 5), rtol=1e-4, atol=1e-5)


def test_round_trips_compared() -> None:
    flow, x = gaussian(VESDE()), images()
    rows = compare_round_trips(flow, x, ["dopri5", "heun2"], steps=(10, 40), clock="karras")
    assert [(r["method"], r["tolerance"], r["steps"]) for r in rows] == [
        ("dopri5", 1e-3, None), ("dopri5", 1e-5, None), ("heun2", None, 10), ("heun2", None, 40),
    ]  # fmt: skip
    assert rows[0]["error"] > 5 * rows[1]["error"]
    assert rows[2]["error"] > 5 * rows[3]["error"]
    assert [row["nfe"] for row in rows[2:]] == [2 * 2 * 10, 2 * 2 * 40]
    single = round_trip(flow, x, "heun2", steps=10, clock="karras")
    assert rows[2]["error"] == pytest.approx(float(single.error.square().mean().sqrt()))


def test_arcs() -> None:
    generator = torch.Generator().manual_seed(1)
    z0, z1 = torch.randn(2, 3, 1, 8, 8, generator=generator).double()
    z1 = z1 * (z0.flatten(1).norm(dim=1) / z1.flatten(1).norm(dim=1)).reshape(3, 1, 1, 1)
    weights = torch.linspace(0, 1, 5)
    arc = slerp(z0, z1, weights)
    assert arc.shape == (5, 3, 1, 8, 8)
    torch.testing.assert_close(arc[0], z0)
    torch.testing.assert_close(arc[-1], z1)
    lengths = arc.flatten(2).norm(dim=2)
    torch.testing.assert_close(lengths, lengths[:1].expand(5, 3))  # on a line they would be shorter
    angles = torch.cosine_similarity(arc[1:].flatten(2), arc[:-1].flatten(2), dim=2).acos()
    torch.testing.assert_close(angles, angles[:1].expand(4, 3))
    torch.testing.assert_close(slerp(z0, z0, weights), z0.expand(5, *z0.shape))  # no angle


def test_a_strip_begins_and_ends_with_its_images(tmp_path) -> None:
    shape = (1, 8, 8)
    flow, x = gaussian(VESDE(), shape), images(4, shape)
    strip = interpolate(flow, x[:2], x[2:], frames=5, rtol=1e-6, atol=1e-6)
    assert strip.ys.shape == (5, 2, 1, 8, 8)
    assert strip.ts.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    torch.testing.assert_close(strip.ys[0], x[:2], rtol=0, atol=1e-4)
    torch.testing.assert_close(strip.ys[-1], x[2:], rtol=0, atol=1e-4)
    # the middle has the spread of one draw, not of the mean of two
    middle = (strip.ys[2] - MEAN).flatten(1).square().mean(1).sqrt()
    assert float((middle / STD - 1).abs().max()) < 0.2
    assert strip.images(2).shape == (2, 1, 8, 8)
    assert animate(strip, tmp_path / "strip.gif", shading="data").exists()


def test_error_texts() -> None:
    flow, x = gaussian(VESDE()), images()
    with pytest.raises(InputError, match="heun2 takes fixed steps: give steps="):
        encode(flow, x, "heun2")
    with pytest.raises(InputError, match="ReverseSDE: expected a ProbabilityFlow; an SDE forgets"):
        encode(ReverseSDE(flow.sde, flow.score, (4,)), x)
    with pytest.raises(InputError, match="temperature = 0"):
        decode(flow, x, temperature=0)
    with pytest.raises(InputError, match="frames = 1: expected a whole number ≥ 2"):
        interpolate(flow, x, x, frames=1)
    with pytest.raises(InputError, match=r"ends of shapes \(5, 4\), \(2, 4\)"):
        slerp(x, x[:2], torch.linspace(0, 1, 3))
