from .images import (
    ImageData as ImageData,
    as_data as as_data,
    load_data as load_data,
    load_images as load_images,
)
from .named_sets import DATASETS as DATASETS, cache_folder as cache_folder
from .samples import ArrayData as ArrayData, Samples as Samples
