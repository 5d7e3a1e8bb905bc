"""Digests that identify a model or a set of images.

Results on disk carry the digest of what produced them, so that nothing else reuses them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["digest", "digest_of_score"]


def digest(tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits of the shapes, the dtypes and every bit of the tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def digest_of_score(score: Any) -> str:
    """The name of a score's class, and the digest of its weights if it is a module."""
    weights = score.state_dict().values() if isinstance(score, nn.Module) else ()
    return f"{type(score).__name__} {digest(weights)}"
