from .images import ImageData as ImageData, load_images as load_images
from .named_sets import DATASETS as DATASETS, cache_folder as cache_folder
