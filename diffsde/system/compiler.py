"""Whether `torch.compile` works here: on a CPU it needs a C++ compiler."""

from __future__ import annotations

import os
import shutil

__all__ = ["has_compiler"]


def has_compiler() -> bool:
    """Whether the compiler that torch would call is installed: CXX if set, or g++ or clang++."""
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    return any(shutil.which(name) for name in wanted)
