r"""The range of the data: which numbers stand for black and for white.

A model has one, (0, 1) if nothing else is said; the models of many libraries live in (−1, 1).
States, scores and observations are in the model's own range. What is shown, scored against
images or counted in bits is in [0, 1], and goes from one to the other here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffsde.errors import InputError

__all__ = ["UNIT", "Range", "checked_range", "from_unit", "to_unit"]

Range = tuple[float, float]
"""The value of black and the value of white."""

UNIT: Range = (0.0, 1.0)


def checked_range(value: Any) -> Range:
    """The range as two floats.

    Raises:
        InputError: it is not two finite numbers, the lower first.
    """
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        numbers = [v for v in value if isinstance(v, (int, float)) and math.isfinite(v)]
        if len(numbers) == 2 and numbers[0] < numbers[1]:
            return float(numbers[0]), float(numbers[1])
    raise InputError(
        f"data_range = {value!r:.60}: expected the values of black and of white, the lower first, "
        "such as (0, 1) or (-1, 1)"
    )


def to_unit(x: Tensor, data_range: Range) -> Tensor:
    """Values in the range as values in [0, 1]; neither is clamped."""
    low, high = data_range
    return x if data_range == UNIT else (x - low) / (high - low)


def from_unit(x: Tensor, data_range: Range) -> Tensor:
    """Values in [0, 1] as values in the range; neither is clamped."""
    low, high = data_range
    return x if data_range == UNIT else low + (high - low) * x
