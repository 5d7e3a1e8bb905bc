"""Whole pictures are compared with those in `baseline/`.

Letters are left out, because their shapes and the space that they take differ between
releases of matplotlib. After an intended change, `python -m tests.views.test_pictures` draws
the baseline again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.testing.decorators import remove_ticks_and_titles

from diffsde.views.style import LIGHT
from tests.views.figures import (
    ALL,
    PAIRS,
    draw,
    every_figure,
)

BASELINE = Path(__file__).parent / "baseline"
# Root mean square over pixels, out of 255. Letters apart, matplotlib 3.9 to 3.11 differ by at
# most 0.3; the smallest fault in `BROKEN`, a missing dotted line, amounts to 0.95.
TOLERANCE = 0.5


def write_picture(figure: Figure, path: Path) -> Path:
    """Write the figure without its letters, at half the usual size."""
    remove_ticks_and_titles(figure)
    figure.supxlabel("")
    figure.set_layout_engine("none")  # it would leave room for letters
    for axes in figure.axes:
        axes.set(xlabel="", ylabel="")
        if (legend := axes.get_legend()) is not None:
            legend.remove()
    figure.savefig(path, dpi=50, metadata={"Software": None})
    return path


def baseline(name: str, dark: bool) -> Path:
    return BASELINE / f"{name}_{'dark' if dark else 'light'}.png"


@every_figure
@pytest.mark.parametrize("dark", [False, True])
def test_pictures_are_as_they_were(name: str, dark: bool, tmp_path: Path) -> None:
    figure = draw(name, dark)
    if matplotlib.__version_info__ < (3, 11) and any(axes.images for axes in figure.axes):
        pytest.skip("matplotlib before 3.11 puts images up to a pixel elsewhere")
    drawn = write_picture(figure, tmp_path / "drawn.png")
    difference = compare_images(str(baseline(name, dark)), str(drawn), TOLERANCE)
    assert difference is None, f"{difference}\nIs it intended? python -m tests.views.test_pictures"


def without(artists: str, number: int, axes: int = 0) -> Callable[[Figure], object]:
    return lambda figure: getattr(figure.axes[axes], artists)[number].remove()


def blank_one_image(figure: Figure) -> None:
    sheet = np.array(figure.axes[0].images[0].get_array())
    sheet[:28, -28:] = 0
    figure.axes[0].images[0].set_data(sheet)


def recolour_one_path(figure: Figure) -> None:
    paths = figure.axes[0].collections[0]
    paths.set_color([*4 * [paths.get_color()[0]], LIGHT.line(1)])


def lower_envelopes(figure: Figure) -> None:
    for line in figure.axes[0].lines:
        line.set_ydata(0.9 * np.asarray(line.get_ydata()))


BROKEN: list[tuple[str, str, Callable[[Figure], object]]] = [
    ("images", "an image is black", blank_one_image),
    ("film_strip", "an image is black", blank_one_image),
    ("paths", "no -σᵗ", without("lines", 2)),
    ("paths", "no s(t)", without("lines", 3)),
    ("paths", "envelopes a tenth too low", lower_envelopes),
    ("paths", "no paths", without("images", 0)),
    ("few_paths", "a path in another colour", recolour_one_path),
    ("overlaid", "no second trajectory", without("collections", 0)),
    ("asinh_paths", "a linear axis", lambda f: f.axes[0].set_yscale("linear")),
    ("asinh_paths", "no paths", without("images", 0)),
    ("paths_by_noise", "a linear axis", lambda f: f.axes[0].set_xscale("linear")),
    ("plane", "no density", without("images", 0)),
    ("plane", "no second trajectory", without("collections", 1)),
    ("relative_plane", "no ends", without("lines", 2)),
    ("signals", "a line less", without("lines", 3)),
    ("signals", "no zero", without("lines", 1)),
    ("signal_strip", "a line less", without("lines", -1)),
    ("bands", "no inner band", without("collections", 1)),
    ("bands", "no median", without("lines", 0)),
    ("marginals", "no density", without("collections", 0)),
    ("marginals", "a quantile less", without("lines", 0)),
    ("steps", "no evaluations", without("lines", 0, axes=1)),
    ("work_precision", "errors on a linear axis", lambda f: f.axes[0].set_yscale("linear")),
    ("work_precision", "a method less", without("lines", 1)),
    ("convergence", "no expected order", without("lines", 2)),
    ("losses", "losses on a linear axis", lambda f: f.axes[0].set_yscale("linear")),
    ("ensemble", "no outer band", without("collections", 0)),
    ("ensemble", "a path less", without("lines", -1)),
    ("evaluation", "no real images", without("lines", -1)),
    ("neighbours", "an image is black", blank_one_image),
]


@pytest.mark.parametrize(
    ("name", "fault", "breaks"), BROKEN, ids=[f"{n}: {f}" for n, f, _ in BROKEN]
)
def test_a_broken_picture_is_seen(
    name: str, fault: str, breaks: Callable[[Figure], object], tmp_path: Path
) -> None:
    figure = draw(name, dark=False)
    breaks(figure)
    drawn = write_picture(figure, tmp_path / "drawn.png")
    assert compare_images(str(baseline(name, False)), str(drawn), TOLERANCE), fault


def test_every_picture_is_broken_once() -> None:
    assert {name for name, _, _ in BROKEN} == ALL.keys() | PAIRS.keys()


if __name__ == "__main__":
    BASELINE.mkdir(exist_ok=True)
    for name, dark in itertools.product(ALL | PAIRS, (False, True)):
        write_picture(draw(name, dark), baseline(name, dark))
