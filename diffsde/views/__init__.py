r"""Views: trajectories as plots, films, pages and arrays.

This folder may import `scores` and the folders below it. Every plot returns its matplotlib
figure. With `path` it also writes the figure, in the format of the path's suffix. With `ax` it
draws into the caller's axes instead of a figure of its own. With `dark` it uses the dark theme.

    images        plot_images, film_strip
    paths         plot_paths: every coordinate against t
    path_axes     their scales: linear or asinh, t or log s(t)
    plane         plot_plane: points in the plane and the density in which they end
    signals       plot_signals: signals as lines; film strips of them
    laws          plot_bands, plot_marginals: the distribution at every t
    comparisons   plot_steps, plot_work_precision, plot_convergence, plot_losses
    animation     animate: a path as a film
    film_layout   which parts a film has, and where they stand
    film_fit      how large its images or signals are, and how many form a row
    film_parts    grids of images, lines of text, histograms
    film_plane    points in the plane
    film_signals  signals as lines
    film_view     what films of points and signals span, which follows the noise
    pace          how long each saved state is shown
    movies        GIF, animated PNG, MP4 and WebM files
    decoding      decoded: a path of latents as one of images
    arrays        to_numpy, to_xarray, from_xarray
    explorer      write_html: an interactive page for exploring paths
    last_states   the plot that fits the last states of a path
    gallery       write_gallery: every picture of the tutorial in one folder
    gallery_page  the page that shows them
    pages         HTML put together from markup, style and script
    notebook      explore: the explorer in a notebook; what a trajectory shows of itself
    shown_film    the film that a notebook plays
    shown_figure  the figure that a notebook shows once
    kinds         what states are: images, points in the plane or signals
    display       the shades, grids and frames that all views share
    figures       the axes and files that all plots share
    style         the light and the dark theme
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
