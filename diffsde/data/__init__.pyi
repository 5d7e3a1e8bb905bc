from .images import (
    DATASETS as DATASETS,
)
from .images import (
    ImageData as ImageData,
)
from .images import (
    cache_folder as cache_folder,
)
from .images import (
    load_images as load_images,
)
