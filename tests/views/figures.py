"""A figure of every plot, from states with a known law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffsde import views as plots
from diffsde.analysis.ensemble_plots import plot_ensemble
from diffsde.analysis.ensembles import EnsembleSummary
from diffsde.equations.variance_exploding import VESDE
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable
from diffsde.evaluation.plots import plot_evaluation, plot_neighbours
from diffsde.evaluation.samplers import Sampler
from diffsde.evaluation.scoring import Evaluation
from diffsde.scores.exact import MixtureScore
from diffsde.solvers.trajectory import Trajectory
from tests.paths import images, marginal_std, noisy

NORMAL_QUANTILES = np.array([-1.6449, -0.6745, 0, 0.6745, 1.6449])
TABLE = [
    {"method": name, "steps": n, "nfe": n * order, "error": 3.0 * n**-order}
    for name, order in (("euler", 1), ("heun", 2))
    for n in (10, 40, 20)
]


def normal_paths(n: int, frames: int = 21, **options: object) -> Trajectory:
    """Paths of n one-dimensional samples whose law at t is N(0, s(t)²)."""
    return noisy(torch.zeros(n, 1), frames, **options)


PLANE = MixtureScore(VESDE(25.0), torch.tensor([[3.0, 0.0], [-3.0, 1.0]]), 0.5)


def plane_paths(n: int, frames: int = 21, **options: object) -> Trajectory:
    """Paths of n points in the plane to samples of a mixture of two Gaussians."""
    return noisy(PLANE.sample(n, 1e-3, seed=0), frames, **options)


def waves(n: int, channels: int, length: int = 40) -> torch.Tensor:
    """Sine waves, each faster and each channel later than the one before: (n, channels, length)."""
    turns = torch.arange(1, n + 1)[:, None, None] * torch.linspace(0, 1, length)
    return torch.sin(2 * torch.pi * turns + torch.arange(channels)[:, None])


def wavy_paths(n: int, channels: int) -> Trajectory:
    """Paths of n signals to such waves, with the waves as estimates."""
    sol = noisy(waves(n, channels))
    sol.denoised = waves(n, channels).expand_as(sol.ys)
    return sol


def adaptive_paths() -> Trajectory:
    """Paths with steps of several sizes and their costs; two steps follow a rejected one."""
    sol = normal_paths(2, 5)
    sol.ts = torch.tensor([1.0, 0.5, 0.3, 0.2, 0.001])
    sol.evaluations = torch.tensor([0, 7, 18, 29, 34])
    sol.stats.nfe, sol.stats.rejected = 34, 2
    return sol


def normal_summary(n: int) -> EnsembleSummary:
    """What `ensemble` would return for such paths."""
    sol, levels = normal_paths(n), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    mean, std, quantiles = sol.ys.mean(1), sol.ys.std(1), sol.ys.quantile(levels, 1)
    return EnsembleSummary(sol.ts, mean, std, levels, quantiles, n, sol.stats)


def scores() -> EvaluationTable:
    """An evaluation of two samplers, one of them at two costs."""

    def score(fid: float, sure: float) -> Evaluation:
        return Evaluation(
            100, fid, 0.1 * fid, 2.0, 0.1, 0.01, 0.8, 0.7, sure, (0.1,) * 10, "mnist", "classifier"
        )

    rows = [
        EvaluationRow(Sampler(method, kind, steps), steps + 1, score(40 / steps, 1 - 1 / steps))
        for method, kind, steps in (("em", "sde", 9), ("em", "sde", 19), ("unipc", "ode", 9))
    ]
    return EvaluationTable(tuple(rows), score(2.0, 0.98))


def normal_density(x: torch.Tensor, t: float) -> torch.Tensor:
    std = float(marginal_std(torch.tensor(t, dtype=torch.float64)))
    return torch.exp(-0.5 * (x / std) ** 2)


ALL: dict[str, Callable[..., Figure]] = {
    "images": lambda **o: plots.plot_images(images(5), **o),
    "film_strip": lambda **o: plots.film_strip(noisy(images(4)), frames=5, **o),
    "paths": lambda **o: plots.plot_paths(noisy(images(2), 41), envelope="both", **o),
    "few_paths": lambda **o: plots.plot_paths(normal_paths(5), **o),
    "overlaid": lambda **o: plots.plot_paths(
        [normal_paths(500), normal_paths(500, flow=True, method="flow")], **o
    ),
    "asinh_paths": lambda **o: plots.plot_paths(
        noisy(images(2), 41), envelope="both", scale="asinh", **o
    ),
    "paths_by_noise": lambda **o: plots.plot_paths(
        normal_paths(5), scale="asinh", clock="log_std", **o
    ),
    "plane": lambda **o: plots.plot_plane(
        [plane_paths(40), plane_paths(40, flow=True, method="flow")], **o
    ),
    "relative_plane": lambda **o: plots.plot_plane(
        plane_paths(40), exact=PLANE, scale="relative", **o
    ),
    "signals": lambda **o: plots.plot_signals(wavy_paths(5, 2), **o),
    "signal_strip": lambda **o: plots.film_strip(
        wavy_paths(5, 1), frames=5, n=3, denoised=True, **o
    ),
    "bands": lambda **o: plots.plot_bands([normal_paths(900), normal_paths(900, seed=1)], **o),
    "marginals": lambda **o: plots.plot_marginals(normal_paths(900), exact=normal_density, **o),
    "steps": lambda **o: plots.plot_steps(adaptive_paths(), **o),
    "work_precision": lambda **o: plots.plot_work_precision(TABLE, **o),
    "convergence": lambda **o: plots.plot_convergence(TABLE, orders={"heun": 2.0}, **o),
    "losses": lambda **o: plots.plot_losses([(1, 100.0), (2, 50.0), (3, 30.0)], **o),
    "ensemble": lambda **o: plot_ensemble(
        normal_summary(900), coordinate=(0,), paths=normal_paths(5), **o
    ),
}
PAIRS: dict[str, Callable[..., Figure]] = {  # figures with two plots, which take no ax
    "evaluation": lambda **o: plot_evaluation(scores(), **o),
    "neighbours": lambda **o: plot_neighbours(
        {"em": images(30)[::3]}, images(30)[1::3], images(30)[2::3], **o
    ),
}
every_plot = pytest.mark.parametrize("name", ALL)
every_figure = pytest.mark.parametrize("name", ALL | PAIRS)


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def draw(name: str, dark: bool) -> Figure:
    return (ALL | PAIRS)[name](dark=dark)
