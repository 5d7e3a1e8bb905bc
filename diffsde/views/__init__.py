r"""Views: from a trajectory to something one looks at.

May import `solvers` and what lies below it. Every plot returns its matplotlib figure; with
`path` it also writes it, in the format that the suffix names, and with `ax` it draws into the
caller's axes instead of a figure of its own.

    images        plot_images, film_strip
    paths         plot_paths
    laws          plot_bands, plot_marginals
    comparisons   plot_steps, plot_work_precision, plot_convergence, plot_losses
    animation     animate: films
    arrays        to_numpy, to_xarray, from_xarray
    explorer      write_html: a page to look at paths in
    gallery       every picture of the tutorial on one page
    style         the light theme and the dark one
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
