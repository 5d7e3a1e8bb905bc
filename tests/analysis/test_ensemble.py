"""Ensembles: the statistics are those of all samples, whatever the chunks are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from diffsde import GaussianScore, ProbabilityFlow, ReverseSDE, solve
from diffsde.analysis.ensemble_plots import plot_ensemble
from diffsde.analysis.ensembles import ensemble
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError

SDE = VESDE()
REV = ReverseSDE(SDE, GaussianScore(SDE, torch.tensor([0.5, -0.2]), 0.3), (2,))
SETTINGS = {"steps": 20, "clock": "karras", "save": 5}


@pytest.mark.parametrize("chunk", [37, 60, 200])
def test_statistics_are_those_of_all_samples_at_once(chunk: int) -> None:
    found = ensemble(REV, 120, "em", chunk=chunk, seed=3, **SETTINGS)
    x = SDE.prior_sample((120, 2), seed=3)
    ys = solve(REV, x, "em", seed=3, **SETTINGS).ys.double()
    assert found.n == 120
    torch.testing.assert_close(found.mean, ys.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.std, ys.std(1), rtol=1e-4, atol=1e-6)
    for k, level in enumerate(found.levels.tolist()):
        at_once = torch.quantile(ys, level, dim=1, interpolation="linear")
        # at most two samples around the quantile, or one bin, apart
        gap = (torch.quantile(ys, min(1, level + 1 / 120), dim=1)
               - torch.quantile(ys, max(0, level - 1 / 120), dim=1))  # fmt: skip
        assert bool(((found.quantiles[k] - at_once).abs() <= gap + 0.05 * found.std).all())


def test_quantiles_do_not_depend_on_the_chunks() -> None:
    """Bit for bit, and within a bin of the samples' own."""
    n, levels = 300, (0.02, 0.05, 0.3, 0.5, 0.95)
    # Against chunks of 2 the first of which has any spread; some coordinates are far away.
    score = GaussianScore(SDE, torch.tensor([0.5, -0.2, 40.0]), torch.tensor([0.3, 0.01, 1.0]))
    rev = ReverseSDE(SDE, score, (3,))
    x = SDE.prior_sample((n, 3), seed=3)
    ys = solve(rev, x, "em", seed=3, **SETTINGS).ys.double()
    found = {
        chunk: ensemble(rev, n, "em", start=x, chunk=chunk, seed=3, levels=levels, **SETTINGS)
        for chunk in (2, 7, 64, 299, n)
    }
    ordered = ys.sort(dim=1).values
    bins = (ordered[:, -1] - ordered[:, 0]) / 250
    for chunk, one in found.items():
        assert torch.equal(one.quantiles, found[n].quantiles), chunk
        torch.testing.assert_close(one.mean, ys.mean(1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(one.std, ys.std(1), rtol=1e-9, atol=1e-9)
        for k, level in enumerate(levels):
            exact = ordered[:, math.ceil(level * n) - 1]  # the first that reaches the share
            assert bool(((one.quantiles[k] - exact).abs() <= bins).all()), (chunk, level)


@pytest.mark.parametrize("chunk", [2, 7, 64])
@pytest.mark.parametrize("scale", [0.0, 1e-250, 1e-3, 1.0, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e6])
def test_histograms_of_any_samples(offset: float, scale: float, chunk: int) -> None:
    from diffsde.analysis.ensembles import _Histogram

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 200, generator=generator, dtype=torch.float64)
    z[0, :50], z[1], z[2] = 0, z[1].sort().values, z[2] ** 5  # constant at first, rising, heavy
    samples = offset + scale * z
    whole, parts = _Histogram(4), _Histogram(4)
    whole.add(samples)
    for part in samples.split(chunk, dim=1):
        parts.add(part)
    ordered = samples.sort(dim=1).values
    bins = (ordered[:, -1] - ordered[:, 0]) / 250 + 2**-39 * abs(offset)
    for level in (0.01, 0.3, 0.5, 0.99):
        assert torch.equal(parts.quantile(level), whole.quantile(level))
        exact = ordered[:, math.ceil(level * 200 - 1e-9) - 1]
        assert bool(((whole.quantile(level) - exact).abs() <= bins).all())


def test_the_law_along_a_forward_process() -> None:
    """20 000 paths of the VP SDE from one point have the quantiles of its marginals."""
    sde = VPSDE()
    levels = (0.1, 0.5, 0.9)
    found = ensemble(
        sde, 100, "euler", start=lambda _, size: torch.full((size, 200), 2.0, dtype=torch.float64),
        chunk=25, seed=1, levels=levels, steps=100, save=[0.0, 0.1, 0.4, 1.0],
    )  # fmt: skip
    assert found.ts.tolist() == [0.0, 0.1, 0.4, 1.0]
    assert not found.std[0].any()
    assert bool((found.quantiles[:, 0] - 2).abs().max() < 1e-5)
    for k in (1, 2, 3):
        mean, std = (float(v) for v in sde.marginal_prob(torch.tensor(2.0).double(), found.ts[k]))
        # 200 coordinates of one law: their average has a 14 times smaller error than each
        slack = 5 * std / math.sqrt(100 * 200) + 0.01 * std
        assert abs(float(found.mean[k].mean()) - mean) < slack
        assert abs(float(found.std[k].mean()) - std) < 2 * slack
        for level in levels:
            exact = stats.norm(mean, std).ppf(level)
            assert abs(float(found.quantile(level)[k].mean()) - exact) < 3 * slack


def test_start_is_a_tensor_or_a_function_or_the_prior() -> None:
    x = SDE.prior_sample((30, 2), seed=3)
    own = ensemble(REV, 30, "em", chunk=8, seed=3, **SETTINGS)
    tensor = ensemble(REV, 30, "em", start=x, chunk=8, seed=3, **SETTINGS)
    function = ensemble(
        REV,
        30,
        "em",
        start=lambda first, size: x[first : first + size],
        chunk=8,
        seed=3,
        **SETTINGS,
    )
    assert torch.equal(own.mean, tensor.mean)
    assert torch.equal(own.quantiles, function.quantiles)


def test_flows_and_images() -> None:
    shape = (1, 3, 3)
    flow = ProbabilityFlow(SDE, GaussianScore(SDE, torch.zeros(shape), 0.3), shape)
    found = ensemble(flow, 10, "heun2", chunk=5, **SETTINGS)
    assert found.mean.shape == found.std.shape == (5, *shape)
    assert found.quantiles.shape == (5, 5, *shape)
    assert found.stats.nfe == 40
    assert bool((found.quantiles.diff(dim=0) >= 0).all())
    adaptive = ensemble(flow, 10, "dopri5", chunk=5, save=3)
    assert adaptive.mean.shape == (3, *shape)


def test_error_texts() -> None:
    with pytest.raises(InputError, match="n = 1: expected a whole number ≥ 2"):
        ensemble(REV, 1)
    with pytest.raises(InputError, match=r"levels = \[0.5, 1.0\]: expected numbers between 0 and"):
        ensemble(REV, 4, levels=[0.5, 1.0])
    with pytest.raises(InputError, match="save = 'all': expected a number of times"):
        ensemble(REV, 4, save="all")
    with pytest.raises(InputError, match="VPSDE has no prior to start from: give start="):
        ensemble(VPSDE(), 4)
    with pytest.raises(InputError, match="start has 3 samples: expected 4"):
        ensemble(REV, 4, start=torch.zeros(3, 2))
    found = ensemble(REV, 4, "em", **SETTINGS)
    with pytest.raises(InputError, match=r"level = 0.3: this summary has 0.05, 0.25, 0.5"):
        found.quantile(0.3)


def test_band_beside_the_paths(tmp_path: Path) -> None:
    """The filled bands show the quantiles, the lines the paths."""
    found = ensemble(REV, 40, "em", seed=3, **SETTINGS)
    sol = solve(REV, SDE.prior_sample((7, 2), seed=3), "em", seed=3, **SETTINGS)
    figure = plot_ensemble(found, tmp_path / "band.png", coordinate=(1,), paths=sol)
    (axes,) = figure.axes
    outer, inner = (band.get_paths()[0].vertices[:, 1] for band in axes.collections)
    for edges, low, high in ((outer, 0.05, 0.95), (inner, 0.25, 0.75)):
        assert edges.min() == pytest.approx(float(found.quantile(low)[:, 1].min()))
        assert edges.max() == pytest.approx(float(found.quantile(high)[:, 1].max()))
    median, *lines = axes.lines
    assert median.get_ydata().tolist() == pytest.approx(found.quantile(0.5)[:, 1].tolist())
    assert len(lines) == 7
    assert lines[2].get_ydata().tolist() == pytest.approx(sol.ys[:, 2, 1].tolist())
    assert (tmp_path / "band.png").stat().st_size > 5000
    with pytest.raises(InputError, match=r"coordinate = \(2,\): expected an index .* \(2,\)"):
        plot_ensemble(found, coordinate=(2,))
