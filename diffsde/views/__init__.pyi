from .animation import animate as animate
from .arrays import from_xarray as from_xarray
from .arrays import to_numpy as to_numpy
from .arrays import to_xarray as to_xarray
from .comparisons import (
    plot_convergence as plot_convergence,
)
from .comparisons import (
    plot_losses as plot_losses,
)
from .comparisons import (
    plot_steps as plot_steps,
)
from .comparisons import (
    plot_work_precision as plot_work_precision,
)
from .explorer import write_html as write_html
from .gallery import gallery as gallery
from .images import film_strip as film_strip
from .images import plot_images as plot_images
from .laws import plot_bands as plot_bands
from .laws import plot_marginals as plot_marginals
from .paths import plot_paths as plot_paths
from .style import DARK as DARK
from .style import LIGHT as LIGHT
from .style import Theme as Theme
