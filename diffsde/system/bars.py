r"""Progress bars: widgets in a notebook that can show them, text everywhere else."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["load_tqdm"]


def load_tqdm() -> Any:
    """The class `tqdm`, imported when a bar is needed and before anything that imports it.

    tqdm warns in red where a notebook has no ipywidgets, and shows text then. That works as well,
    so nobody needs the warning.
    """
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm
