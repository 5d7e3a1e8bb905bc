r"""Arrays: a trajectory as NumPy arrays or as an `xarray.Dataset`, and back.

xarray is the extra of that name: `pip install 'diffsde[xarray]'`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsde.equations.ranges import UNIT, checked_range
from diffsde.errors import InputError
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.packages import optional_package

if TYPE_CHECKING:
    import xarray

__all__ = ["from_xarray", "to_numpy", "to_xarray"]

_AXES = {2: ("channel", "position"), 3: ("channel", "row", "column")}  # of signals and images


def to_numpy(sol: Trajectory) -> dict[str, NDArray[Any]]:
    """The arrays of a trajectory by name, ready for `numpy.savez(path, **to_numpy(sol))`."""
    named = {"ts": sol.ts, "ys": sol.ys, "diffusion": sol.diffusion, "std": sol.std}
    named |= {"denoised": sol.denoised, "evaluations": sol.evaluations}
    return {k: v.detach().cpu().numpy() for k, v in named.items() if v is not None}


def to_xarray(sol: Trajectory) -> xarray.Dataset:
    """A trajectory as a dataset: `states` with dimensions (t, sample, channel, row, column).

    Signals have the dimensions (t, sample, channel, position), and other states axis_0, axis_1, …
    after t and sample.
    `diffusion`, `std` and `evaluations` have the dimension t; the method, the kind,
    the costs and the shape are attributes.

    Raises:
        InputError: xarray is not installed.
    """
    xr = optional_package("xarray", "xarray")
    arrays = to_numpy(sol)
    rest = sol.ys.dim() - 2
    axes = _AXES.get(rest) or tuple(f"axis_{k}" for k in range(rest))
    over = {"ys": ("t", "sample", *axes), "denoised": ("t", "sample", *axes)}
    variables = {
        "states" if name == "ys" else name: (over.get(name, ("t",)), array)
        for name, array in arrays.items()
        if name != "ts"
    }
    notes = {"method": sol.method, "shape": list(sol.shape), **asdict(sol.stats)}
    notes |= {} if sol.kind is None else {"kind": sol.kind}  # NetCDF has no None
    notes |= {} if sol.clock is None else {"clock": sol.clock}
    notes["data_range"] = list(sol.data_range)
    coordinates = {"t": arrays["ts"], "sample": numpy.arange(sol.ys.shape[1])}
    dataset: xarray.Dataset = xr.Dataset(variables, coordinates, notes)
    return dataset


def from_xarray(dataset: xarray.Dataset) -> Trajectory:
    """The trajectory in a dataset made by `to_xarray`, or read back from a file of one.

    Raises:
        InputError: the dataset lacks something that `to_xarray` writes.
    """
    missing = [k for k in ("t", "states") if k not in dataset]
    missing += [k for k in ("method", "shape", "nfe") if k not in dataset.attrs]
    if missing:
        raise InputError(f"the dataset lacks {', '.join(missing)}: was it made by to_xarray?")

    def tensor(name: str) -> Tensor | None:
        return torch.from_numpy(dataset[name].values.copy()) if name in dataset else None

    notes = dataset.attrs
    stats = Stats(
        int(notes["nfe"]), int(notes["steps"]), int(notes["rejected"]), float(notes["seconds"])
    )
    return Trajectory(
        torch.from_numpy(dataset["t"].values.copy()),
        torch.from_numpy(dataset["states"].values.copy()),
        str(notes["method"]),
        stats,
        tuple(int(n) for n in numpy.atleast_1d(notes["shape"])),
        tensor("diffusion"),
        tensor("std"),
        tensor("denoised"),
        tensor("evaluations"),
        notes.get("kind"),
        checked_range([float(v) for v in notes.get("data_range", UNIT)]),
        notes.get("clock"),
    )
