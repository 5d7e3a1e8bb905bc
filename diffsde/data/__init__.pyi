from .images import (
    DATASETS as DATASETS,
    ImageData as ImageData,
    cache_folder as cache_folder,
    load_images as load_images,
)
