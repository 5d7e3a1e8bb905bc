r"""Modules inside of wrappers: `DataParallel`, `torch.compile` and the like hide what they wrap.

A wrapper of torch or peft computes what the module inside of it computes, but has none of its
attributes. So what a network or a model says of itself is asked of `unwrapped(module)`. Values
still come from the wrapper, which is there for a reason.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["inside", "unwrapped"]

# Under which name each class keeps what it wraps. The classes are known by name, because some of
# them are in packages that may not be installed, or that are slow to import.
_INSIDE = {
    ("torch", "OptimizedModule"): "_orig_mod",
    ("torch", "DataParallel"): "module",
    ("torch", "DistributedDataParallel"): "module",
    ("torch", "AveragedModel"): "module",
    ("peft", "PeftModel"): "base_model",
    ("peft", "BaseTuner"): "model",
}


def unwrapped(module: Any) -> Any:
    """The object itself, or the module within all its wrappers.

    Wrappers are `torch.compile`'s, `DataParallel`, `DistributedDataParallel`, `AveragedModel`,
    and peft's models, such as those of LoRA.
    """
    while (part := inside(module)) is not None:
        module = part
    return module


def inside(module: Any) -> nn.Module | None:
    """The module that a wrapper wraps; None if this is no wrapper."""
    if not isinstance(module, nn.Module):
        return None
    kinds = [(base.__module__.partition(".")[0], base.__name__) for base in type(module).__mro__]
    name = next((_INSIDE[kind] for kind in kinds if kind in _INSIDE), "")
    return module._modules.get(name)
