from .brownian import (
    BoundBrownian as BoundBrownian,
    BrownianPath as BrownianPath,
    SequentialBrownian as SequentialBrownian,
)
from .seeds import NormalTable as NormalTable
