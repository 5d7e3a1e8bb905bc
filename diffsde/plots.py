"""Plots."""
from __future__ import annotations
import os
from collections.abc import Sequence
from matplotlib.figure import Figure
from diffsde.files import written_whole

def plot_losses(losses: Sequence[tuple[int, float]], path: str | os.PathLike[str] | None = None) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*losses))
    axes.set(xlabel="update", ylabel="loss", yscale="log")
    if path is not None:
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return figure
