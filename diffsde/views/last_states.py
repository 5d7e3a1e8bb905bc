r"""The last states of a path, in the plot that fits them."""

from __future__ import annotations

from matplotlib.figure import Figure

from diffsde.solvers.trajectory import Trajectory
from diffsde.views.decoding import Decode
from diffsde.views.figures import PathLike
from diffsde.views.images import plot_images
from diffsde.views.kinds import IMAGES, PLANE, common_kind
from diffsde.views.plane import plot_plane
from diffsde.views.signals import plot_signals

__all__ = ["plot_last_states"]


def plot_last_states(
    sol: Trajectory,
    path: PathLike,
    *,
    zoom: int | None = None,
    dark: bool = False,
    decode: Decode | None = None,
) -> Figure:
    """The last states as `plot_images`, `plot_plane` or `plot_signals` shows them.

    Args:
        zoom, decode: of images, as `plot_images` takes them.

    Raises:
        InputError: the states are neither images nor signals nor points.
    """
    kind = IMAGES if decode is not None else common_kind([sol])
    if kind == IMAGES:
        return plot_images(sol, path, zoom=zoom, dark=dark, decode=decode)
    return (plot_plane if kind == PLANE else plot_signals)(sol, path, dark=dark)
