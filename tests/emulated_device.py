"""An accelerator to test on where there is none.

A tensor of the emulated device keeps its numbers on the CPU, but behaves as one of CUDA in what
matters:

- it cannot be mixed with CPU tensors of one or more axes, as torch forbids on CUDA;
- `numpy()` and `from_numpy` do not reach it;
- each look at a number from the host (`item`, `float`, `bool`, `tolist`) and each copy to the host
  is counted as a synchronisation, and each copy from the host as a transfer, with its bytes;
- each operation that computes or copies there is counted as a launch; views are none;
- what it is told can be captured and replayed, as by a CUDA graph: see `EmulatedCapture`.

    with Emulated() as device:
        model = device.module(model)  # its parameters and buffers, in place
        sol = solve(…, device.tensor(x), …)
        device.synchronisations, device.transfers, device.transferred_bytes, device.launches
        device.cpu(sol.final)  # what it holds

`Emulated(float64=False)` plays a device that has no float64, as Apple's: there a tensor of float64
is refused by a TypeError, whatever makes it.

It cannot tell speed, memory, or kernels that round otherwise: those need a real device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("lazy", 0)  # a kind of device that torch knows and no build uses

COUNTS: Counter[str] = Counter()
_TAPE: list[tuple[Any, Any, Any, Any]] | None = None  # what is being captured
_REFUSED: set[torch.dtype] = set()  # what the device does not have

# Operations whose result, or its shape, the host must know.
_LOOKING = (
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
)
# Operations that may take tensors of both sides.
_CROSSING = ("aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense")
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_ALLOCATING = ("aten::_local_scalar_dense", "aten::empty", "aten::empty_like", "aten::new_empty")
_JOINING = ("aten::stack", "aten::cat")  # these take not even a number of the other side


class OnDevice(Tensor):
    """A tensor that says it is on the device."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        if inner.dtype in _REFUSED:
            raise TypeError(f"the device has no {inner.dtype}: use float32 instead")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        _count("synchronisations")
        return self.inner.tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class Emulated:
    """The device, while it is there."""

    device = DEVICE

    def __init__(self, float64: bool = True) -> None:
        self.refused = set() if float64 else {torch.float64, torch.complex128}

    def __enter__(self) -> Emulated:
        _REFUSED.update(self.refused)
        self._modes = (_Dispatch(), _Constructors())
        for mode in self._modes:
            mode.__enter__()
        self.reset()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        _REFUSED.clear()

    def reset(self) -> None:
        COUNTS.clear()

    @property
    def synchronisations(self) -> int:
        return COUNTS["synchronisations"]

    @property
    def launches(self) -> int:
        return COUNTS["launches"]

    @property
    def transfers(self) -> int:
        return COUNTS["transfers"]

    @property
    def transferred_bytes(self) -> int:
        return COUNTS["bytes"]

    def tensor(self, x: Tensor) -> OnDevice:
        return OnDevice(x.detach().clone())

    def cpu(self, x: Tensor) -> Tensor:
        return x.inner if isinstance(x, OnDevice) else x

    def module(self, module: nn.Module) -> nn.Module:
        """Move a module's parameters and buffers, in place."""
        for part in module.modules():
            for name, p in part._parameters.items():
                if p is not None:
                    moved = nn.Parameter(self.tensor(p), requires_grad=p.requires_grad)
                    part._parameters[name] = moved
            for name, b in part._buffers.items():
                if b is not None:
                    part._buffers[name] = self.tensor(b)
        return module


class EmulatedCapture:
    """What the device is told, as a CUDA graph holds it; see `diffsde.system.captures`."""

    def __init__(self) -> None:
        self._tape: list[tuple[Any, Any, Any, Any]] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within this context it is told nothing but what can be captured, and forgets it.

        Who waits for the device is refused, too.
        """
        global _TAPE
        _TAPE, accelerator = [], torch.accelerator
        try:
            with (
                mock.patch.object(accelerator, "is_available", return_value=True),
                mock.patch.object(accelerator, "current_accelerator", return_value=DEVICE),
                mock.patch.object(accelerator, "synchronize", side_effect=_waited),
            ):
                yield
        finally:
            self._tape, _TAPE = _TAPE, None
        for _, _, _, out in self._tape:
            for tensor in _tensors_in([out]):
                tensor.fill_(-77)  # a CUDA device has not computed it

    def replay(self) -> None:
        """Do it again, from and to the same places."""
        COUNTS["launches"] += 1
        for func, args, kwargs, out in self._tape:
            found = func(*args, **kwargs)
            if not _writes_to_first(func):
                for old, new in zip(_tensors_in([out]), _tensors_in([found]), strict=True):
                    old.copy_(new)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """`torch.tensor(…, device=…)` and `new_tensor` make their tensor on the CPU and move it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor and isinstance(args[0], OnDevice):
            return args[0].inner.new_tensor(*args[1:], **kwargs).to(DEVICE)
        made = func in (torch.tensor, torch.as_tensor)
        if made and _is_ours(kwargs.get("device") or torch.get_default_device()):
            plain = not (args and isinstance(args[0], Tensor))
            if _TAPE is not None and plain:  # which torch copies where no mode sees it
                raise RuntimeError(f"{func.__name__} on a device that is being captured")
            kwargs["device"] = "cpu"
            if args and isinstance(args[0], Tensor):
                return args[0].to(device=DEVICE, dtype=kwargs.get("dtype"))
            return func(*args, **kwargs).to(DEVICE)
        return func(*args, **kwargs)


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _dispatch(func, args, kwargs):
    tensors = [*_tensors_in(args), *_tensors_in(kwargs.values())]
    ours = [t for t in tensors if isinstance(t, OnDevice)]
    others = [t for t in tensors if not isinstance(t, OnDevice)]
    name = func._schema.name
    if ours:
        _check_mixture(func, args, others)
        _count_looks(name, args, others)
    on_device = bool(ours)
    if kwargs.get("device") is not None:
        on_device = _is_ours(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu")}
        if name == "aten::_to_copy" and on_device:
            _count_transfers(others)
        elif name == "aten::_to_copy":
            _count("synchronisations", len(ours))
    if on_device and not func.is_view and name not in _ALLOCATING:
        COUNTS["launches"] += 1
    inner, named = _inner(args), {name: _inner(value) for name, value in kwargs.items()}
    out = func(*inner, **named)
    if _TAPE is not None and on_device and not func.is_view and name not in _ALLOCATING:
        _TAPE.append((func, inner, named, out))
    if _writes_to_first(func):
        return args[0] if func._schema.returns else None  # `_foreach_add_` and its kin give nothing
    return _placed(out) if on_device else out


# By hand, since torch's own `tree_map` takes most of the time of a test.


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors_in(value)


def _inner(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)([_inner(part) for part in value])
    return value.inner if isinstance(value, OnDevice) else value


def _placed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_placed(part) for part in value)
    return OnDevice(value) if _is_plain(value) else value


def _writes_to_first(func) -> bool:
    """Whether it works in place; `__rshift__`, which ends as such names do, does not."""
    arguments = func._schema.arguments
    return bool(arguments) and arguments[0].is_write


def _is_plain(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, OnDevice)


def _check_mixture(func, args, others: list[Tensor]) -> None:
    name = func._schema.name
    bad = [t for t in others if t.dim() > 0]  # numbers of the host are taken as numbers
    if name in _CROSSING:
        bad = []
    elif name in _INDEXING:
        bad = [] if isinstance(args[0], OnDevice) else [args[0]]  # indices may be the host's
    elif name in _JOINING:
        bad = others
    elif _writes_to_first(func):
        bad = bad or [t for t in _tensors_in(args[:1]) if not isinstance(t, OnDevice)]
    if bad:
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, found the device and cpu "
            f"(cpu of shapes {[tuple(t.shape) for t in bad]})"
        )


def _count_looks(name: str, args, others: list[Tensor]) -> None:
    """Count what an operation on tensors of the device asks of the host, and takes from it."""
    masked = name in _INDEXING and any(
        isinstance(t, OnDevice) and t.dtype == torch.bool for t in args[1]
    )
    taken = name == "aten::copy_" and not isinstance(args[0], OnDevice)
    if name in _LOOKING or masked or taken:
        _count("synchronisations")
    elif name == "aten::copy_" or name in _INDEXING:
        _count_transfers(others)


def _waited(_: Any) -> None:
    _count("synchronisations")


def _count(what: str, times: int = 1) -> None:
    if _TAPE is not None and times:
        raise RuntimeError(f"{what} of a device that is being captured")
    COUNTS[what] += times


def _count_transfers(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        _count("transfers")
        COUNTS["bytes"] += tensor.numel() * tensor.element_size()
