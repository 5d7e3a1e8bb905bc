r"""The axes of path plots: where values and times stand.

A variance-exploding path begins near ±30 and ends as an image in [0, 1], which is a sixtieth of
a linear axis. Two choices bring the end into view, one for each axis:

- `scale="asinh"`: values are linear as far as the data reach and logarithmic beyond;
- `clock="log_std"`: the axis is s(t), logarithmic, instead of t. Where the noise grows like σᵗ,
  t is nearly as good; where s(t) = t, as for EDM, everything that one wants to see has t near 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from torch import Tensor

from diffsde.equations.counted import largest_magnitude
from diffsde.errors import InputError, name_list
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.figures import Array, asinh_axis, time_axis, times_of, values_of

__all__ = ["PathAxes", "largest"]

_SCALES, _CLOCKS = ("linear", "asinh"), ("t", "log_std")
_FEW_DECADES = 3.5
_ROOM = 2.0  # above the largest value on a logarithmic axis, where the legend is


_Values = TypeVar("_Values", NDArray[np.float32], NDArray[np.float64])


class PathAxes:
    """Where the values and the times of some trajectories stand.

    Args:
        sols: the trajectories; the first one's times set the axis.
        scale, clock: as in `plot_paths`.

    Attributes:
        linear: up to which magnitude the value axis is linear; None if all of it is.
        by_std: whether the other axis is s(t), logarithmic, instead of t.

    Raises:
        InputError: a name is unknown, or a trajectory has no s(t) to be drawn against.
    """

    def __init__(self, sols: Sequence[Trajectory], scale: str, clock: str) -> None:
        for name, given, known in (("scale", scale, _SCALES), ("clock", clock, _CLOCKS)):
            if given not in known:
                raise InputError(f"{name} = {given!r}: {name_list(str(given), known)}")
        self.first, self.by_std = sols[0], clock == "log_std"
        self.linear = _data_extent(sols) if scale == "asinh" else None
        if self.by_std:
            for sol in sols:
                _check_std(sol)

    @property
    def even(self) -> bool:
        """Whether both axes are linear."""
        return self.linear is None and not self.by_std

    def prepare(self, axes: Axes, top: float) -> None:
        """Give axes these scales, with room for ±top."""
        time_axis(axes, self.first)
        if self.by_std:
            places = self.places(self.first)
            axes.set_xscale("log")
            axes.set_xlim(places[0], places[-1])
            digits = (1, 2, 5) if np.ptp(np.log10(places)) < _FEW_DECADES else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=digits, numticks=20))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("s(t), standard deviation of the noise")
        if self.linear is not None:
            top *= _ROOM
            asinh_axis(axes.yaxis, self.linear, top)
        axes.set_ylim(-top, top)
        axes.set_ylabel("x(t)")

    def places(self, sol: Trajectory) -> Array:
        """Where the states stand, those without a place left out: (T′,)."""
        return (_numbers(sol.std) if self.by_std else times_of(sol))[self.present(sol)]

    def present(self, sol: Trajectory) -> slice | NDArray[np.bool_]:
        """The index of the states that have a place: those with noise, if s(t) is the axis."""
        noisy = _numbers(sol.std) > 0 if self.by_std else np.ones(1, bool)
        return slice(None) if noisy.all() else noisy

    def values(self, sol: Trajectory) -> NDArray[np.float32]:
        """Every coordinate of every sample: (T′, P)."""
        return values_of(sol)[self.present(sol)]

    def spaced_places(self, places: Array) -> Array:
        """Places as lengths on the axis."""
        return np.log(places) if self.by_std else places

    def spaced_values(self, values: _Values) -> _Values:
        """Values as lengths on the axis."""
        return values if self.linear is None else np.arcsinh(values / self.linear)


def largest(states: Tensor) -> float:
    """The largest finite magnitude; 0 if there is none."""
    found = largest_magnitude(states)
    if np.isfinite(found):
        return found
    return largest_magnitude(states.detach().nan_to_num(posinf=0, neginf=0))


def _data_extent(sols: Sequence[Trajectory]) -> float:
    """Half the largest magnitude of the data, which are at one end of a path or the other."""
    ends = [min(largest(s.ys[0]), largest(s.ys[-1])) for s in sols]
    return 0.5 * max(ends) or 1.0


def _check_std(sol: Trajectory) -> None:
    if sol.std is None:
        raise InputError(
            f"clock = 'log_std': the trajectory of {sol.method!r} has no s(t), because its "
            "equation comes from no forward SDE; take clock='t'"
        )
    slopes = np.diff(_numbers(sol.std))
    if not (slopes > 0).all() and not (slopes < 0).all():
        raise InputError("clock = 'log_std': s(t) does not rise or fall throughout; take clock='t'")


def _numbers(curve: Tensor | None) -> Array:
    assert curve is not None  # checked when the axes were chosen
    numbers: Array = curve.detach().double().cpu().numpy()
    return numbers
