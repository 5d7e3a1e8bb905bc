r"""Descriptions: everything on which an object's numbers depend, in types that JSON can hold.

A result on disk is taken up again only by what made it, so it carries the description of that,
or its digest. Two objects with one description compute the same numbers; one built twice has
the same description twice. These are described:

- numbers, texts, tensors and arrays, every bit of them, and containers of what is described;
- a `torch.nn.Module`: its class, its parameters, buffers and parts, and all its other attributes;
- another object of a class that is written in Python: its class and its attributes;
- bound methods and `functools.partial` of what is described;
- a class by its name, and by its code unless a package installed it; an installed package's
  function by its name;
- an object with a method `description()`, by what this returns instead of its attributes. A
  module's tensors and parts are added to it.

Anything else is refused, a function above all: nothing tells two functions apart.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffsde.errors import InputError
from diffsde.system.code import code_of_class, is_installed, reads_mode
from diffsde.system.digest import digest
from diffsde.system.wrapped import inside

__all__ = [
    "described",
    "described_settings",
    "differences",
    "digest_of",
    "digest_of_score",
    "surroundings",
]

_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, PurePath, range, slice)
_INTERNAL = {*vars(nn.Module()), "_compiled_call_impl"}  # attributes of every module
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def described(value: Any, name: str) -> Any:
    """The description of an object.

    Args:
        value: the object.
        name: what an error text calls it.

    Raises:
        InputError: it, or a part of it, cannot be described.
    """
    return _described(value, name, ())


def digest_of(value: Any, name: str) -> str:
    """16 hexadecimal digits of an object's description.

    Raises:
        InputError: it cannot be described.
    """
    text = json.dumps(described(value, name), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_score(score: Any) -> str:
    """The name of a score's class, and the digest of its description.

    Raises:
        InputError: it cannot be described.
    """
    return f"{type(score).__name__} {digest_of(score, 'score')}"


def described_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each of the settings described, by its name.

    Raises:
        InputError: one cannot be described.
    """
    return {name: described(value, name) for name, value in settings.items()}


def differences(found: Any, wanted: Mapping[str, Any]) -> str:
    """How the description in a file differs from that of what would go on with it.

    Returns:
        The end of a clause "the file holds results …"; empty if they are the same.
    """
    if not isinstance(found, dict):
        return "of nothing that is described"
    if missing := sorted(wanted.keys() - found.keys()):
        return (
            "of an older version, which did not write down all that they depend on "
            f"({', '.join(missing)})"
        )
    different = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if different in (["flow"], ["model"], ["score"]):
        return f"of another {different[0]}"
    return f"with other {', '.join(different)}" if different else ""


def surroundings() -> dict[str, Any]:
    """What the numbers depend on beside the arguments of a call."""
    from diffsde import __version__

    devices = [name for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)]
    return {
        "diffsde": __version__,
        "default_dtype": str(torch.get_default_dtype()),
        "autocast": {name: str(torch.get_autocast_dtype(name)) for name in devices},
        "float32_products": torch.get_float32_matmul_precision(),
    }


def _described(value: Any, name: str, within: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if id(value) in within:
        return {"within": len(within) - within.index(id(value))}
    for kinds, rule in _RULES:
        if isinstance(value, kinds):
            return rule(value, name, (*within, id(value)))
    if callable(getattr(type(value), "description", None)):
        return {"class": _class_name(type(value)), "own": _own(value, name, (*within, id(value)))}
    if dataclasses.is_dataclass(value) or _is_plain(value):
        return _of_object(value, name, (*within, id(value)))
    return _refuse(value, name)


def _refuse(value: Any, name: str) -> Any:
    kind = "function" if isinstance(value, FunctionType) else type(value).__name__
    raise InputError(
        f"{name} = {value!r:.100}, a {kind}, cannot be described, so results on disk could be "
        "taken for those of another: keep none (leave path or out away), or put it into a "
        "torch.nn.Module with a method description() that returns all that its numbers depend on"
    )


def _own(value: Any, name: str, within: tuple[int, ...]) -> Any:
    return _described(value.description(), f"{name}.description()", within)


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# -- a rule for each kind: called with the value, its name, and what it is within -----------


def _of_number(value: Any, name: str, within: tuple[int, ...]) -> Any:
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
        return int(number)  # 3.0 is 3 to whatever takes it
    return number if isinstance(number, (bool, int, float, str)) else repr(number)


def _of_tensor(value: Tensor, name: str, within: tuple[int, ...]) -> Any:
    try:
        bits = digest([value])
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: the numbers of this {type(value).__name__} cannot be read ({error}), so "
            "results on disk could be taken for those of another: leave path or out away"
        ) from error
    return {"tensor": bits, "shape": list(value.shape), "dtype": str(value.dtype)}


def _of_weight(value: Tensor | None, name: str, within: tuple[int, ...]) -> Any:
    """A tensor of a module: its layout in memory decides how it is summed."""
    found = _described(value, name, within)
    if value is not None and not value.is_contiguous():
        found["strides"] = list(value.stride())
    return found


def _of_array(value: np.ndarray[Any, Any], name: str, within: tuple[int, ...]) -> Any:
    if value.dtype.hasobject:
        return {"array": [_described(v, name, within) for v in value.ravel().tolist()]}
    bits = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
    return {"array": bits, "shape": list(value.shape), "dtype": str(value.dtype)}


def _of_mapping(value: Mapping[Any, Any], name: str, within: tuple[int, ...]) -> Any:
    pairs = [
        [_described(key, name, within), _described(item, f"{name}[{key!r}]", within)]
        for key, item in value.items()
    ]
    return {"items": sorted(pairs, key=json.dumps)}


def _of_sequence(value: Sequence[Any], name: str, within: tuple[int, ...]) -> Any:
    return [_described(item, f"{name}[{i}]", within) for i, item in enumerate(value)]


def _of_set(value: Set[Any], name: str, within: tuple[int, ...]) -> Any:
    return {"set": sorted((_described(item, name, within) for item in value), key=json.dumps)}


def _of_class(value: type, name: str, within: tuple[int, ...]) -> Any:
    def part(member: Any, where: str) -> Any:
        return _described(member, where, within)

    return {"class": _class_name(value), "code": code_of_class(value, name, part)}


def _of_partial(value: functools.partial[Any], name: str, within: tuple[int, ...]) -> Any:
    parts = (value.func, value.args, value.keywords)
    return {"partial": _of_sequence(parts, name, within)}


def _of_method(value: MethodType, name: str, within: tuple[int, ...]) -> Any:
    cls = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
    of_class = getattr(cls, value.__name__, None)
    if getattr(of_class, "__func__", of_class) is not value.__func__:
        return _refuse(value.__func__, name)  # a function that only this object has
    return {"method": value.__name__, "of": _described(value.__self__, name, within)}


def _of_function(value: Any, name: str, within: tuple[int, ...]) -> Any:
    if callable(own := getattr(value, "description", None)):
        return {"function": value.__qualname__, "own": _described(own(), name, within)}
    place = sys.modules.get(str(value.__module__))
    same = getattr(place, value.__name__, None) is value
    if same and is_installed(value):
        return {"function": f"{value.__module__}.{value.__qualname__}"}
    return _refuse(value, name)


def _is_plain(value: Any) -> bool:
    """Whether all that an object holds is in its attributes, and nothing in memory of C's."""
    return hasattr(value, "__dict__") and type(value).__basicsize__ == _Plain.__basicsize__


class _Plain:
    pass


def _of_object(value: Any, name: str, within: tuple[int, ...]) -> Any:
    names = {*getattr(value, "__dict__", {}), *getattr(value, "__dataclass_fields__", {})}
    parts = {key: _described(getattr(value, key), f"{name}.{key}", within) for key in names}
    return {**_of_class(type(value), name, within), "attributes": parts}


def _of_module(module: nn.Module, name: str, within: tuple[int, ...]) -> Any:
    if "_orig_mod" in module._modules:  # torch.compile's wrapper
        return {"compiled": _described(module._modules["_orig_mod"], name, within)}
    for hooks in _HOOKS:
        if getattr(module, hooks):
            _refuse(next(iter(getattr(module, hooks).values())), f"{name}.{hooks}")
    if (wrapped := inside(module)) is not None:
        return {"wrapped": _described(wrapped, name, within)}
    found = _of_attributes(module, name, within)
    if reads_mode(type(module)):
        found["training"] = module.training
    if getattr(module, "_compiled_call_impl", None) is not None:
        found["compiled"] = True
    for kind, rule in (
        ("parameters", _of_weight),
        ("buffers", _of_weight),
        ("modules", _described),
    ):
        members: Mapping[str, Any] = getattr(module, f"_{kind}")
        found[kind] = {key: rule(part, f"{name}.{key}", within) for key, part in members.items()}
    return found


def _of_attributes(module: nn.Module, name: str, within: tuple[int, ...]) -> dict[str, Any]:
    """What a module is beside its tensors and parts."""
    cls = type(module)
    if callable(getattr(cls, "description", None)):
        return {"class": _class_name(cls), "own": _own(module, name, within)}
    attributes = {key: value for key, value in vars(module).items() if key not in _INTERNAL}
    parts = {key: _described(v, f"{name}.{key}", within) for key, v in attributes.items()}
    return {**_of_class(cls, name, within), "attributes": parts}


Rule = Callable[[Any, str, tuple[int, ...]], Any]
_RULES: tuple[tuple[Any, Rule], ...] = (
    (Enum, lambda value, name, within: {"enum": f"{_class_name(type(value))}.{value.name}"}),
    ((int, float, complex, bytes, np.generic), _of_number),
    (_NAMED, lambda value, name, within: {type(value).__name__: str(value)}),
    (Tensor, _of_tensor),
    (np.ndarray, _of_array),
    (nn.Module, _of_module),
    (type, _of_class),
    (functools.partial, _of_partial),
    (MethodType, _of_method),
    ((FunctionType, BuiltinFunctionType), _of_function),
    (Mapping, _of_mapping),
    ((list, tuple), _of_sequence),
    (Set, _of_set),
    (SimpleNamespace, _of_object),
)
