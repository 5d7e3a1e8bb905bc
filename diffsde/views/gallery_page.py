r"""The gallery's page: the pictures of a folder, with what they show.

It is put together from `gallery.html`, which has `gallery_row.html` for each sampler and
`gallery_both.html` at the end, and from `gallery.css`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.display import base_of_diffusion
from diffsde.views.kinds import IMAGES, PLANE, SIGNALS
from diffsde.views.pages import filled, page_part

__all__ = ["Row", "gallery_page"]


@dataclass(frozen=True)
class Row:
    """One sampler of the gallery, as it is shown.

    Attributes:
        title: the heading above its pictures; the film and the legend of the plot have it too.
        name: the start of its files' names.
        method: the solver's name.
        text: one sentence about what one sees.
        flow: whether it solves the probability flow instead of the reverse SDE.
    """

    title: str
    name: str
    method: str
    text: str
    flow: bool = False


_WORDS = {  # for samples, and for one of their numbers
    IMAGES: {"things": "images", "value": "pixel"},
    PLANE: {"things": "points", "value": "coordinate"},
    SIGNALS: {"things": "signals", "value": "value"},
}

Files = Mapping[str, Sequence[Path]]
"""The files of a row by what they are; plots in both themes are two, the light one first."""


def gallery_page(
    rows: Mapping[Row, tuple[Trajectory, Files]],
    noise: Path,
    both: Files | None,
    *,
    kind: str,
    samplers: int,
    dark: bool | None,
    made: str,
) -> str:
    """The page of all rows that are finished.

    Args:
        rows: the trajectory and the files of each finished sampler.
        noise: the picture of x(T).
        both: the files of the section that compares the SDE with the flow; None leaves it out.
        kind: what the samples are: images, points in the plane or signals.
        samplers: how many rows there were to be.
        dark: the theme; None leaves it to the reader's browser.
        made: the call that makes this gallery again.
    """
    sols = [sol for sol, _ in rows.values()]
    page = filled(
        page_part("gallery.html"),
        style=page_part("gallery.css"),
        scheme={None: "light dark", False: "light", True: "dark"}[dark],
        dark={None: "(prefers-color-scheme: dark)", False: "not all", True: "all"}[dark],
        samplers=str(samplers),
        stopped=_stopped(len(rows), samplers),
        noise=_screen(noise, "the noise that all samplers start from", dark),
        rows="\n".join(_row(row, *found, dark) for row, found in rows.items()),
        both="" if both is None else _both(sols[0], both),
        made=f"Made by <code>{html.escape(made)}</code>.",
    )
    return filled(page, **_WORDS[kind])  # which the rows have places for, too


def _stopped(finished: int, samplers: int) -> str:
    if finished == samplers:
        return ""
    return f'<p class="stopped">Stopped early: {finished} of {samplers} samplers are finished.</p>'


def _row(row: Row, sol: Trajectory, files: Files, dark: bool | None) -> str:
    return filled(
        page_part("gallery_row.html"),
        name=row.name,
        title=html.escape(row.title),
        kind="probability flow" if row.flow else "reverse SDE",
        text=html.escape(row.text),
        facts=_facts(row, sol),
        explorer=files["explorer"][0].name,
        film=_screen(files["film"][0], f"film of {row.title}", dark),
        images=_screen(files["images"][0], f"{{{{things}}}} by {row.title}", dark),
        plot=_plot(files["plot"], f"path of every {{{{value}}}} by {row.title}"),
        lines=_lines(sol),
    )


def _both(sol: Trajectory, files: Files) -> str:
    return filled(
        page_part("gallery_both.html"),
        explorer=files["explorer"][0].name,
        plot=_plot(files["plot"], "paths of the reverse SDE and of the flow"),
        lines=_lines(sol),
    )


def _facts(row: Row, sol: Trajectory) -> str:
    stats = sol.stats
    return (
        f"<span>{stats.steps:,} steps, {stats.nfe:,} evaluations of the network, "
        f"{stats.seconds:.1f} s</span> <span>Solver <code>{row.method}</code></span>"
    )


def _lines(sol: Trajectory) -> str:
    """What the lines of a plot are."""
    diffusion = "±g(t)" if base_of_diffusion(sol) is None else "±σᵗ"
    return (
        "The path of every {{value}}, from noise on the left to {{things}} on the right. "
        f"{diffusion} (dashed) is the diffusion coefficient, ±s(t) (dotted) the standard deviation "
        "of the noise."
    )


def _screen(picture: Path, what: str, dark: bool | None) -> str:
    """A film or images, on a background of their own; a film has a margin of its own."""
    theme = "light" if dark is False else "dark"
    kind = "film" if picture.suffix == ".gif" else "still"
    return f'<div class="screen {kind}" data-theme="{theme}">{_linked(picture, what)}</div>'


def _plot(versions: Sequence[Path], what: str) -> str:
    """A plot, of which the reader's theme shows one version."""
    if len(versions) == 1:
        return _linked(versions[0], what)
    day, night = versions
    return _linked(day, what, "by-day") + _linked(night, what, "by-night")


def _linked(picture: Path, what: str, kind: str = "") -> str:
    """A picture that opens in full; its size is given, so that the page does not jump."""
    with Image.open(picture) as image:
        width, height = image.size
    chosen = f' class="{kind}"' if kind else ""
    return (
        f'<a{chosen} href="{picture.name}"><img src="{picture.name}" alt="{html.escape(what)}" '
        f'width="{width}" height="{height}" loading="lazy"></a>'
    )
