from .brownian import (
    BoundBrownian as BoundBrownian,
)
from .brownian import (
    BrownianPath as BrownianPath,
)
from .brownian import (
    SequentialBrownian as SequentialBrownian,
)
from .seeds import NormalTable as NormalTable
