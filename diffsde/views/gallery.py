r"""The gallery: everything that the tutorial and the Julia model zoo show, in one folder.

For each sampler, started from the same noise, it has the images, the film of the whole path,
and every pixel's path against ±σᵗ; then the paths of the reverse SDE and of the flow on top of
each other, which fill the same band at every t.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diffsde.equations.reverse import PROBLEMS
from diffsde.scores.model import ScoreModel
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole
from diffsde.views.animation import animate
from diffsde.views.images import plot_images
from diffsde.views.paths import plot_paths

__all__ = ["SHOWN", "Shown", "write_gallery"]


@dataclass(frozen=True)
class Shown:
    """One row of the gallery.

    Attributes:
        title: the heading above its pictures.
        name: the start of its files' names.
        method: the solver's name.
        flow: whether it solves the probability flow instead of the reverse SDE.
    """

    title: str
    name: str
    method: str
    flow: bool = False


SHOWN = (
    Shown("Euler–Maruyama, the tutorial's", "em", "em"),
    Shown("Predictor-corrector, the tutorial's", "pc", "pc"),
    Shown("Reverse SDE by torchsde's euler", "sde_euler", "euler"),
    Shown("Probability flow by torchdiffeq's heun2", "flow_heun2", "heun2", flow=True),
    Shown("Probability flow by SciPy's RK45", "flow_rk45", "scipy_solver", flow=True),
)
_KINDS = ("_images.png", ".gif", "_paths.png")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>diffsde gallery</title>
<style>body {{ font: 1rem system-ui; margin: 2rem; }} img {{ max-width: 100%; }}
.row {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; align-items: start; }}
</style>
<h1>From one noise, by {count} samplers</h1>
<p><img src="noise.png" alt="the noise that all samplers start from"></p>
{rows}
<h2>The reverse SDE and the flow fill the same band</h2>
<p><img src="sde_and_flow_paths.png" alt="paths of the reverse SDE and the flow against t"></p>
</html>
"""


def write_gallery(
    out: str | os.PathLike[str],
    model: ScoreModel,
    *,
    steps: int = 500,
    n: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> list[Path]:
    """Solve with every sampler of the gallery and write its pictures.

    Args:
        out: the folder; it is created if necessary.
        model: the score and its SDE.
        steps: the number of steps of every fixed-step sampler, and so of frames in its film;
            an adaptive sampler shows the steps that it chooses.
        n: how many images to sample.
        seed: the seed of the noise; all samplers start from the same x(T).
        progress: show progress bars.

    Returns:
        The files that were written.
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
    plot_paths([sols["sde_euler"], sols["flow_heun2"]], both, envelope="both", scale="asinh")
    return [*written, both, _write_page(folder, sols)]


def _solved(
    shown: Shown, model: ScoreModel, x1: Tensor, steps: int, seed: int, progress: bool
) -> Trajectory:
    kind = "ode" if shown.flow else "sde"
    problem = PROBLEMS[kind](model.sde, model, model.shape)
    chooses = find_solver(shown.method, kind).adaptive
    return solve(
        problem,
        x1,
        shown.method,
        steps=None if chooses else steps,
        seed=seed,
        denoise=True,
        progress=progress,
    )


def _pictures(sol: Trajectory, folder: Path, name: str) -> list[Path]:
    images, film, paths = (folder / f"{name}{end}" for end in ("_images.png", ".gif", "_paths.png"))
    plot_images(sol.images(), images)
    animate(sol, film)
    plot_paths(sol, paths, scale="asinh")
    return [images, film, paths]


def _write_page(folder: Path, sols: Mapping[str, Trajectory]) -> Path:
    """A page with all the pictures."""
    rows = [_row(shown, sols[shown.name]) for shown in SHOWN]
    page = folder / "index.html"
    with written_whole(page) as temporary:
        temporary.write_text(_PAGE.format(count=len(SHOWN), rows="\n".join(rows)), "utf-8")
    return page


def _row(shown: Shown, sol: Trajectory) -> str:
    views = zip(("images", "the path", "every pixel against t"), _KINDS, strict=True)
    pictures = "".join(
        f'<img src="{shown.name}{end}" alt="{html.escape(shown.title)}: {what}">'
        for what, end in views
    )
    cost = f"{sol.stats.nfe} evaluations of the score, {sol.stats.seconds:.1f} s"
    return f'<h2>{html.escape(shown.title)}</h2><p>{cost}</p><div class="row">{pictures}</div>'
