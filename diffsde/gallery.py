r"""The gallery: everything that the tutorial and the Julia model zoo show, in one folder.

From one noise, by each sampler: the images, the film of the whole path, and every pixel's
path against ±σᵗ; then the reverse SDE and the flow over each other, which fill the same
band at every t.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diffsde.animation import animate
from diffsde.integrate import solve
from diffsde.plots import plot_images, plot_paths
from diffsde.reverse import ProbabilityFlow, ReverseSDE
from diffsde.score import ScoreModel
from diffsde.solvers import find_solver
from diffsde.trajectory import Trajectory

__all__ = ["SHOWN", "Shown", "gallery"]


@dataclass(frozen=True)
class Shown:
    """One row of the gallery: a solver and where its pictures go.

    Attributes:
        name: of the files.
        method: the solver's name.
        flow: whether it solves the flow, or the reverse SDE.
    """

    name: str
    method: str
    flow: bool = False


SHOWN = (
    Shown("em", "em"),
    Shown("pc", "pc"),
    Shown("sde_euler", "euler"),
    Shown("flow_heun2", "heun2", flow=True),
    Shown("flow_rk45", "scipy_solver", flow=True),
)


def gallery(
    out: str | os.PathLike[str],
    model: ScoreModel,
    *,
    steps: int = 500,
    n: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> list[Path]:
    """Solve by every sampler shown and write its pictures.

    Args:
        out: the folder, made if need be.
        model: the score and its SDE.
        steps: of every fixed-step sampler, and frames of its film; an adaptive one shows
            the steps that it chooses.
        n: how many images.
        seed: of the noise: all samplers start from the same x(T).
        progress: show progress bars.

    Returns:
        The files written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    x1 = model.sde.prior_sample((n, *model.shape), seed=seed)
    noise = folder / "noise.png"
    plot_images(0.5 + x1 / (4 * model.sde.prior_std), noise)
    written, sols = [noise], {}
    for shown in SHOWN:
        sols[shown.name] = _solved(shown, model, x1, steps, seed, progress)
        written += _pictures(sols[shown.name], folder, shown.name)
    both = folder / "sde_and_flow_paths.png"
    plot_paths([sols["sde_euler"], sols["flow_heun2"]], both, envelope="both")
    return [*written, both]


def _solved(
    shown: Shown, model: ScoreModel, x1: Tensor, steps: int, seed: int, progress: bool
) -> Trajectory:
    problem = (ProbabilityFlow if shown.flow else ReverseSDE)(model.sde, model, model.shape)
    own = find_solver(shown.method, "ode" if shown.flow else "sde").adaptive
    return solve(
        problem,
        x1,
        shown.method,
        steps=None if own else steps,
        seed=seed,
        denoise=True,
        progress=progress,
    )


def _pictures(sol: Trajectory, folder: Path, name: str) -> list[Path]:
    images, film, paths = (folder / f"{name}{end}" for end in ("_images.png", ".gif", "_paths.png"))
    plot_images(sol.images(), images)
    animate(sol, film)
    plot_paths(sol, paths)
    return [images, film, paths]
