from .brownian import BoundBrownian as BoundBrownian, SequentialBrownian as SequentialBrownian
from .brownian_path import BrownianPath as BrownianPath
from .normal import NormalTable as NormalTable
