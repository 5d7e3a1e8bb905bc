"""Problems whose answers are known: what solvers and laws are tested on."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from diffsde import VESDE, GaussianScore, MixtureScore, ProbabilityFlow, ReverseSDE

DIMS = 32  # enough for the corrector's norms to be steady, few enough to be fast

# Options with which a method of the flow that adds noise adds none.
NOISELESS = {"restart": {"restarts": 0}}

# The chance that a right sampler fails one test. There are some thousand of them.
SIGNIFICANCE = 1e-6


_times = {"samples": 1, "steps": 1}


def be_thorough() -> None:
    """Ten times the samples, and steps whose own error falls like that of chance, √10-fold."""
    _times.update(samples=10, steps=4)


def many(samples: int) -> int:
    """How many samples a test of a law takes, for the number that it takes every day."""
    return samples * _times["samples"]


def finer(steps: int) -> int:
    """How many steps such a test takes; a method of order 1 is the coarsest."""
    return steps * _times["steps"]


def mixture(sde: VESDE | None = None, dims: int = DIMS) -> MixtureScore:
    """Two well separated clusters of uneven weight and width."""
    means = torch.stack([torch.full((dims,), 0.5), torch.full((dims,), -0.4)])
    return MixtureScore(sde or VESDE(), means, torch.tensor([0.2, 0.3]), [0.7, 0.3])


def gaussian(sde: VESDE | None = None, dims: int = DIMS) -> GaussianScore:
    """Data of the mean and std of MNIST's pixels, in each coordinate."""
    return GaussianScore(sde or VESDE(), torch.full((dims,), 0.13), 0.31)


def reverse(score: GaussianScore | MixtureScore, eta: float = 1.0) -> ReverseSDE:
    return ReverseSDE(score.sde, score, score.shape, eta=eta)


def flow(score: GaussianScore | MixtureScore) -> ProbabilityFlow:
    return ProbabilityFlow(score.sde, score, score.shape)


def mild() -> VESDE:
    """A VE SDE that ends where nothing is stiff: for orders of convergence."""
    return VESDE(sigma=5.0, eps=0.1)


def assert_same_law(found: Tensor, exact: Tensor, where: str = "") -> None:
    """Kolmogorov–Smirnov on some coordinates and on the norm."""
    views = {f"coordinate {i}": (found[:, i], exact[:, i]) for i in (0, 1, found.shape[1] - 1)}
    views["norm"] = (found.norm(dim=1), exact.norm(dim=1))
    views["sum"] = (found.sum(1), exact.sum(1))
    for name, (a, b) in views.items():
        p = stats.ks_2samp(a.double().numpy(), b.double().numpy()).pvalue
        assert p > SIGNIFICANCE, f"{name} {where}: p = {p:.1e}"


def typical(x: Tensor) -> float:
    """The error of a typical sample, the geometric mean of all.

    A mean square would be the error of the few that pass between two clusters.
    """
    return float(x.square().mean(1).sqrt().log().mean().exp())
