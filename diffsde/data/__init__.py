r"""Data: images, points and signals to learn from.

This folder may import `system` and `errors`.

    images            `ImageData`, `load_images` and `load_data`
    samples           what data sets have in common; `ArrayData`, for points and signals
    named_sets        MNIST, which ships with the package, and its relatives
    image_folder      a folder of image files
    image_files       one image file
    array_files       NumPy's files
    torchvision_sets  torchvision's data sets
    hugging_face      data sets of the Hugging Face hub
    pictures          from Pillow's images to one tensor
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
