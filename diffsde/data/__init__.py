r"""Data: images to learn from.

This folder may import `system` and `errors`.

    images         `ImageData` and `load_images`
    named_sets     MNIST, which ships with the package, and its relatives
    image_folder   a folder of image files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
