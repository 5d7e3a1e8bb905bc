from .animation import animate as animate
from .arrays import from_xarray as from_xarray, to_numpy as to_numpy, to_xarray as to_xarray
from .comparisons import (
    plot_convergence as plot_convergence,
    plot_losses as plot_losses,
    plot_steps as plot_steps,
    plot_work_precision as plot_work_precision,
)
from .decoding import decoded as decoded, image_shape as image_shape
from .explorer import write_html as write_html
from .gallery import write_gallery as write_gallery
from .images import film_strip as film_strip, plot_images as plot_images
from .laws import plot_bands as plot_bands, plot_marginals as plot_marginals
from .notebook import Explorer as Explorer, explore as explore
from .paths import plot_paths as plot_paths
from .plane import plot_plane as plot_plane
from .shown_film import ShownFilm as ShownFilm
from .signals import plot_signals as plot_signals
from .style import DARK as DARK, LIGHT as LIGHT, Theme as Theme
