r"""Notebooks: what a trajectory shows of itself, and the explorer inside a page.

Everything here is plain HTML with its pictures inside, so it shows in Jupyter, marimo, Colab and
VS Code and survives the export of a notebook. Images are stored pixel by pixel; the browser
magnifies them.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.decoding import Decode
from diffsde.views.display import mosaic, shade_limits
from diffsde.views.explorer import explorer_page
from diffsde.views.images import pixels
from diffsde.views.kinds import IMAGES, SIGNALS, as_images, kind_of
from diffsde.views.paths import plot_paths
from diffsde.views.signals import plot_signals
from diffsde.views.style import LIGHT

__all__ = ["Explorer", "explore", "summary"]

_IMAGES = 16  # of the last state
_ROWS, _COLUMNS = 3, 8  # of the film strip
_TIMES, _PATHS = 200, 1000  # of the picture of paths
_HEIGHT = 190  # of all three, in screen pixels
_SIGNALS = 6  # of the last state


@dataclass(frozen=True, repr=False)
class Explorer:
    """The explorer of a path, which a notebook shows in a frame.

    Attributes:
        page: the whole page, HTML.
        height: of the frame, in screen pixels.
    """

    page: str
    height: int

    def __repr__(self) -> str:
        return f"Explorer({len(self.page) / 1e6:.2g} MB; to_html writes it to a file)"

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self.height}px;border:0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{style}"></iframe>'


def explore(
    sol: Trajectory | Sequence[Trajectory],
    *,
    title: str | None = None,
    megabytes: float = 5.0,
    height: int = 760,
    decode: Decode | None = None,
) -> Explorer:
    """The explorer of one trajectory or several, for a cell of a notebook.

    Args:
        sol, title, megabytes, decode: as `write_html` takes them; the notebook's file grows by
            as much.
        height: of the frame, in screen pixels; what does not fit can be scrolled to.

    Raises:
        InputError: as `write_html`, or the height is not a positive number.
    """
    if not 0 < height < math.inf:
        raise InputError(f"height = {height}: expected screen pixels, more than 0")
    page = explorer_page(sol, title=title, megabytes=megabytes, decode=decode)
    return Explorer(page, int(height))


def summary(sol: Trajectory) -> str:
    """A trajectory in HTML: its line, its last images or signals, a film strip of images and
    the paths, as far as there are any."""
    line = f"<div><code>{html.escape(repr(sol))}</code></div>"
    drawn = {IMAGES: _of_images, SIGNALS: _of_signals}.get(kind_of(sol) or "")
    pictures = [*(drawn(sol) if drawn else []), *_of_paths(sol)]
    row = "display:flex;flex-wrap:wrap;gap:16px;margin-top:8px"
    return f'{line}<div style="{row}">{"".join(pictures)}</div>' if pictures else line


def _of_images(sol: Trajectory) -> list[str]:
    last = pixels(as_images(sol.final, sol.shape)[:_IMAGES], *sol.data_range)
    few = _thinned(sol, _COLUMNS)
    shades = zip(few.ys, shade_limits(few, "envelope"), strict=True)
    strip = [pixels(as_images(y, sol.shape)[:_ROWS], *limits) for y, limits in shades]
    rows = np.stack(strip, 1).reshape(-1, *strip[0].shape[1:])
    times = f"t from {float(few.ts[0]):.3g} to {float(few.ts[-1]):.3g}"
    side = math.ceil(math.sqrt(len(last)))
    return [_sheet(last, side, "the last state"), _sheet(rows, len(few), times)]


def _of_signals(sol: Trajectory) -> list[str]:
    figure = LIGHT.figure(4.4, 2.5)
    axes = LIGHT.dress(figure.add_subplot())
    plot_signals(sol, n=_SIGNALS, ax=axes)
    return [_picture(_png_of(figure), "the last state")]


def _sheet(tiles: NDArray[np.float32], columns: int, caption: str) -> str:
    sheet = mosaic(tiles, columns, 1, to_rgb(LIGHT.paper))
    colours = np.round(255 * sheet).astype(np.uint8)
    grey = bool((colours == colours[..., :1]).all())
    return _picture(_png(colours[..., 0] if grey else colours), caption)


def _of_paths(sol: Trajectory) -> list[str]:
    """The picture of the paths, of a part of them where there are many; none of a single time."""
    count = sol.ys[0].numel() if len(sol) > 1 else 0
    if not count:
        return []
    figure = LIGHT.figure(4.4, 2.5)
    axes = LIGHT.dress(figure.add_subplot())
    plot_paths(_thinned(sol, _TIMES, _PATHS), ax=axes)
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    shown = f"{_PATHS:,} of {count:,} paths" if count > _PATHS else f"{count:,} paths"
    return [_picture(_png_of(figure), shown)]


def _thinned(sol: Trajectory, times: int, paths: int | None = None) -> Trajectory:
    """A path at a few of its times, from the first to the last, and a few of its coordinates."""
    kept = np.unique(np.linspace(0, len(sol) - 1, min(times, len(sol))).round().astype(int))
    states = sol.ys.detach()[kept]
    if paths is not None:
        values = states.reshape(len(kept), -1)
        some = np.linspace(0, values.shape[1] - 1, min(paths, values.shape[1])).astype(int)
        states = values[:, some, None]
    diffusion, std = (None if c is None else c[kept] for c in (sol.diffusion, sol.std))
    return Trajectory(sol.ts[kept], states, "", shape=sol.shape, diffusion=diffusion, std=std)


def _picture(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    style = f"height:{_HEIGHT}px;image-rendering:pixelated;max-width:none;margin:0"
    image = f'<img alt="{caption}" style="{style}" src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0">{image}<figcaption>{caption}</figcaption></figure>'


def _png_of(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=76)
    return picture.getvalue()


def _png(colours: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(colours).save(file, "png", optimize=True)
    return file.getvalue()
