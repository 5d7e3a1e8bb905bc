"""What a user's own class computes: the code of its methods, as a description.

A class of an installed package is known by its name. One of a script, a notebook or a function
may have another meaning under the same name tomorrow. So its methods are read: their bytecode,
their defaults, and the values that they take from outside, in closures and as globals.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any

__all__ = ["code_of_class", "is_installed", "reads_mode"]

_CALLED = {"__call__", "__getattr__", "__getattribute__"}  # other special methods compute nothing
_STDLIB = Path(sysconfig.get_path("stdlib"))

Describe = Callable[[Any, str], Any]


def is_installed(owner: Any) -> bool:
    """Whether a class or a function belongs to an installed package, so that its name says all."""
    root = str(getattr(owner, "__module__", None)).partition(".")[0]
    if "<" in getattr(owner, "__qualname__", ""):
        return False  # a lambda, or made within a function, from what that was given
    if root in ("diffsde", "torch") or root in sys.builtin_module_names:
        return True
    file = Path(getattr(sys.modules.get(root), "__file__", None) or "")
    return _STDLIB in file.parents or bool({"site-packages", "dist-packages"} & {*file.parts})


def reads_mode(cls: type) -> bool:
    """Whether the modules of a class may compute other numbers in training than in evaluation."""
    return any(
        not is_installed(base) or "training" in _names(member)
        for base in _bases(cls)
        for member in vars(base).values()
    )


def code_of_class(cls: type, name: str, describe: Describe) -> dict[str, Any]:
    """The methods and constants of a class and of its bases, where their names do not say all."""
    found: dict[str, Any] = {}
    for base in _bases(cls):
        if is_installed(base):
            continue
        for key, member in vars(base).items():
            own_name = key.startswith("__") and key.endswith("__")
            if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)):
                continue  # a place for an attribute
            if key in _CALLED or not (own_name or key.startswith("_abc_")):
                where = f"{base.__qualname__}.{key}"
                found[where] = _of_member(member, f"{name}.{key}", describe)
    return found


def _bases(cls: type) -> Iterator[type]:
    """The class and what it inherits from, without torch's base of all modules."""
    return (base for base in cls.__mro__ if base.__module__ != "torch.nn.modules.module")


def _of_member(member: Any, name: str, describe: Describe) -> Any:
    if isinstance(member, property):
        parts = (member.fget, member.fset)
        return [_of_member(part, name, describe) for part in parts if part is not None]
    if isinstance(member, cached_property):
        return _of_member(member.func, name, describe)
    function = getattr(member, "__func__", member)
    if isinstance(function, FunctionType):
        return _of_function(function, name, describe, ())
    return describe(member, name)


def _of_function(
    function: FunctionType, name: str, describe: Describe, within: tuple[FunctionType, ...]
) -> Any:
    if is_installed(function) or function in within:
        return f"{function.__module__}.{function.__qualname__}"
    outside = _outside(function)

    def of_value(value: Any, key: str) -> Any:
        if isinstance(value, FunctionType):
            return _of_function(value, f"{name}.{key}", describe, (*within, function))
        return (
            value.__name__ if isinstance(value, ModuleType) else describe(value, f"{name}: {key}")
        )

    return {
        "code": _of_code(function.__code__),
        "outside": {key: of_value(value, key) for key, value in sorted(outside.items())},
    }


def _outside(function: FunctionType) -> dict[str, Any]:
    """Defaults, and the values that a function finds in closures and globals, by name."""
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    found = {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    found |= {f"default {key}": value for key, value in (function.__kwdefaults__ or {}).items()}
    found |= {key: cell.cell_contents for key, cell in cells if key != "__class__"}
    loaded = {
        i.argval for c in _nested(code) for i in dis.get_instructions(c) if "GLOBAL" in i.opname
    }
    values = function.__globals__
    return found | {key: values[key] for key in loaded if key in values}


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _of_code(code: CodeType) -> list[Any]:
    constants = [_of_code(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _constant(value: Any) -> str:
    # The order of a set is another in each process.
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _names(member: Any) -> set[str]:
    """The names that a method uses."""
    function = getattr(member, "__func__", member)
    if not isinstance(function, FunctionType):
        return set()
    return {name for code in _nested(function.__code__) for name in code.co_names}
