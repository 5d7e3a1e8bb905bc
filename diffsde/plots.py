r"""Plots: what a solve did, as figures.

Every function returns its matplotlib figure; with `path` it also writes it, in the format
that the suffix names, and with `ax` it draws into the caller's axes instead of a figure of
its own.

    images        plot_images, film_strip
    paths         plot_paths
    laws          plot_bands, plot_marginals
    comparisons   plot_steps, plot_work_precision, plot_convergence, plot_losses
"""

from diffsde.comparison_plots import (
    plot_convergence,
    plot_losses,
    plot_steps,
    plot_work_precision,
)
from diffsde.image_plots import film_strip, plot_images
from diffsde.law_plots import plot_bands, plot_marginals
from diffsde.path_plots import plot_paths

__all__ = [
    "film_strip",
    "plot_bands",
    "plot_convergence",
    "plot_images",
    "plot_losses",
    "plot_marginals",
    "plot_paths",
    "plot_steps",
    "plot_work_precision",
]
