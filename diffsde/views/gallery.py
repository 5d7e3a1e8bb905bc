r"""The gallery: everything that the tutorial and the Julia model zoo show, in one folder.

For each sampler, started from the same noise, it has the last states, the film of the whole path,
every value's path against ±σᵗ and ±s(t), and an explorer; then the paths of the reverse SDE and
of the flow on top of each other, which fill the same band at every t. `gallery_page` is the
page that shows them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diffsde.equations.reverse import PROBLEMS, Score
from diffsde.errors import DiffSDEError, InputError
from diffsde.noise.seeds import checked_seed
from diffsde.scores.model import ScoreModel
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import check_folder, written_whole
from diffsde.system.launch import divided, process_number
from diffsde.system.numbers import whole_number
from diffsde.system.parameters import device_of
from diffsde.system.wrapped import unwrapped
from diffsde.views.animation import animate
from diffsde.views.decoding import Decode, decoded_all
from diffsde.views.explorer import write_html
from diffsde.views.gallery_page import Files, Row, gallery_page
from diffsde.views.kinds import IMAGES, kind_of_shape
from diffsde.views.last_states import plot_last_states
from diffsde.views.paths import plot_paths
from diffsde.views.style import theme

__all__ = ["SHOWN", "write_gallery"]

SHOWN = (
    Row(
        "Euler–Maruyama",
        "em",
        "em",
        "Each small step moves the sample along the score, towards the data, and adds a little "
        "fresh noise; this is the tutorial's first sampler.",
    ),
    Row(
        "Predictor–corrector",
        "pc",
        "pc",
        "After each such step, a second evaluation of the network corrects what the step got "
        "wrong; this is the tutorial's second sampler.",
    ),
    Row(
        "Euler by torchsde",
        "sde_euler",
        "euler",
        "The library torchsde solves the same equation, and from the same random numbers it "
        "arrives at the same samples.",
    ),
    Row(
        "Heun by torchdiffeq",
        "flow_heun2",
        "heun2",
        "The probability flow adds no noise on its way: the starting noise alone decides which "
        "samples appear.",
        flow=True,
    ),
    Row(
        "RK45 by SciPy",
        "flow_rk45",
        "scipy_solver",
        "This is the same flow, but the solver chooses its own steps: large ones where the paths "
        "are nearly straight, small ones where they bend.",
        flow=True,
    ),
)
_Shown = tuple[Trajectory, Files]  # a path, and the files that show it
_COMPARED = ("sde_euler", "flow_heun2")
_EXPLORER_BYTES = 2e6
_EXPLORED = 16  # images in an explorer, at most
_FEWEST_FRAMES = 20  # in an explorer, where a single image is not too large for that
_PLOT_INCHES, _PLOT_DPI = (6.0, 4.0), 200  # letters that can be read in half a page's width


def write_gallery(
    out: str | os.PathLike[str],
    model: ScoreModel,
    *,
    score: Score | None = None,
    steps: int = 500,
    n: int = 5,
    seed: int = 0,
    progress: bool = False,
    dark: bool | None = None,
) -> list[Path]:
    """Solve with every sampler of the gallery and write its pictures, and a page with them all.

    Open `index.html` of the folder. If the gallery is interrupted by Ctrl-C, or a sampler fails,
    the page shows the samplers that are finished, and the exception's attribute `written` lists
    the files.

    Args:
        out: the folder; it is created if necessary.
        model: the score and its SDE. If it draws latents, its `decoder` makes images of them.
        score: solves with this score instead of the model's own, such as that of one class,
            `classifier_free(model, label=7)`.
        steps: the number of steps of every fixed-step sampler, and so of frames in its film;
            an adaptive sampler shows the steps that it chooses.
        n: how many samples to draw.
        seed: the seed of the noise; all samplers start from the same x(T).
        progress: show a progress bar for each sampler, with its name.
        dark: a page, plots and films in the dark theme, or in the light one. By default the
            reader's browser chooses: there are plots in both themes, and the films are dark.

    Returns:
        The files that were written; the page is the last one. Of several processes, which divide
        the samplers among themselves, the first one has the list, and the others an empty one.

    Raises:
        InputError: nothing can be written to `out`, a number is not positive, or the model's
            samples are neither images with one or three channels nor signals nor points.
    """
    for name, count in (("steps", steps), ("n", n)):
        whole_number(count, name)
    seed, model = checked_seed(seed), unwrapped(model)
    kind = kind_of_shape(model.shape) if model.decoder is None else IMAGES
    if kind is None:
        raise InputError(
            f"model.shape = {model.shape}: expected images with 1 or 3 channels, signals (C, L), "
            "points (D,), or a model with a decoder"
        )
    folder, decode = check_folder(out, "out"), model.decoder
    gallery = _Gallery(folder, kind, dark, decode, f"steps={steps}, n={n}, seed={seed}")
    try:
        x1 = model.sde.prior_sample((n, *model.shape), seed=seed, device=device_of(model))
        raw = kind != IMAGES or decode is not None
        if process_number() == 0:
            gallery.start((x1 if raw else 0.5 + x1 / (4 * model.sde.prior_std)).cpu())
        gallery.add_all(lambda row: _solved(row, model, score, x1, steps, seed, progress))
        if process_number() == 0:
            gallery.compare()
    except (DiffSDEError, KeyboardInterrupt) as stopped:
        stopped.written = gallery.finish()  # type: ignore[union-attr]
        raise
    return gallery.finish()


def _solved(
    row: Row,
    model: ScoreModel,
    score: Score | None,
    x1: Tensor,
    steps: int,
    seed: int,
    progress: bool,
) -> Trajectory:
    """The path, under the name that the page gives it."""
    kind = "ode" if row.flow else "sde"
    problem = PROBLEMS[kind](model.sde, model if score is None else score, model.shape)
    chooses = find_solver(row.method, kind).adaptive
    sol = solve(
        problem,
        x1,
        row.method,
        steps=None if chooses else steps,
        seed=seed,
        denoise=True,
        progress=row.title if progress else False,
    )
    return replace(sol.cpu(), method=row.title)


class _Gallery:
    """The part of a gallery that is finished.

    Args:
        folder: where its files are.
        kind: what the samples are.
        dark: the theme; None for both.
        decode: from latents to images; None where the states are images.
        settings: the arguments that make it again.
    """

    def __init__(
        self, folder: Path, kind: str, dark: bool | None, decode: Decode | None, settings: str
    ) -> None:
        self.folder, self.kind, self.dark = folder, kind, dark
        self.decode, self.settings = decode, settings
        self.noise = folder / "noise.png"
        self.rows: dict[Row, _Shown] = {}
        self.both: Files | None = None

    def start(self, x: Tensor) -> None:
        start = Trajectory(torch.zeros(1), x[None], "", shape=tuple(x.shape[1:]))
        plot_last_states(start, self.noise, dark=self.dark is not False, decode=self.decode)

    def add_all(self, solved: Callable[[Row], Trajectory]) -> None:
        """Solve, and write the files of each sampler; several processes divide the samplers."""

        def added(row: Row) -> _Shown:
            self._add(row, solved(row))
            return self.rows[row]

        self.rows = dict(zip(SHOWN, divided(SHOWN, added), strict=True))

    def _add(self, row: Row, sol: Trajectory) -> None:
        screen, name = self.dark is not False, row.name
        images, film = self.folder / f"{name}_images.png", self.folder / f"{name}.gif"
        (shown,) = decoded_all(sol, self.decode)
        plot_last_states(shown, images, dark=screen)
        animate(shown, film, dark=screen)
        plots, explorer = self._paths([sol], name), self._explorer([shown], name, row.title)
        files = {"images": [images], "film": [film], "plot": plots, "explorer": [explorer]}
        self.rows[row] = (sol, files)

    def compare(self) -> None:
        """Write the files of the section that compares the SDE with the flow."""
        rows = {row: sol for row, (sol, _) in self.rows.items() if row.name in _COMPARED}
        # Long names would lie over the paths.
        short = [replace(sol, method=row.method) for row, sol in rows.items()]
        shown = [one for sol in rows.values() for one in decoded_all(sol, self.decode)]
        explorer = self._explorer(shown, "sde_and_flow", "The reverse SDE and the flow")
        self.both = {"plot": self._paths(short, "sde_and_flow"), "explorer": [explorer]}

    def finish(self) -> list[Path]:
        """Write the page of what is finished, if anything is, and list all files.

        Of several processes, only the first one writes the page.
        """
        if not self.rows or process_number() != 0:
            return []
        page = self.folder / "index.html"
        text = gallery_page(
            self.rows,
            self.noise,
            self.both,
            kind=self.kind,
            samplers=len(SHOWN),
            dark=self.dark,
            made=f"diffsde.views.write_gallery(folder, model, {self.settings})",
        )
        with written_whole(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        groups = [files for _, files in self.rows.values()] + ([self.both] if self.both else [])
        pictures = [path for files in groups for paths in files.values() for path in paths]
        return [self.noise, *pictures, page]

    def _paths(self, sols: list[Trajectory], name: str) -> list[Path]:
        """The plot of every value's path in one theme, or in the light and the dark one."""
        themes = {"_paths.png": False, "_paths_dark.png": True}
        if self.dark is not None:
            themes = {"_paths.png": self.dark}
        for end, dark in themes.items():
            look = theme(dark)
            figure = look.figure(*_PLOT_INCHES)
            figure.set_dpi(_PLOT_DPI)
            axes = look.dress(figure.add_subplot())
            target = self.folder / f"{name}{end}"
            plot_paths(sols, target, envelope="both", scale="asinh", ax=axes, dark=dark)
        return [self.folder / f"{name}{end}" for end in themes]

    def _explorer(self, sols: list[Trajectory], name: str, title: str) -> Path:
        """An explorer of the first images, small enough to open on a phone."""
        image = math.prod(sols[0].shape) * 4 / 3  # bytes of one image in one frame
        room = int(_EXPLORER_BYTES / (_FEWEST_FRAMES * image))
        count = min(max(room, 1), _EXPLORED)
        size = len(sols) * (_EXPLORER_BYTES + 3 * image) / 1e6  # two frames fit, whatever the image
        few = [replace(sol, ys=sol.ys[:, :count]) for sol in sols]
        return write_html(few, self.folder / f"{name}.html", title=title, megabytes=size)
