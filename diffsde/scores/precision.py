r"""Ways to evaluate a network: its precision, its memory format, compiled or not.

A bfloat16 number has 8 significant bits. Layers that are cheap and affect much stay in
float32: the first convolution and the last two, which make the image; 1 × 1 convolutions,
through which everything passes from one scale to the other; and linear layers, which carry
the noise level.

The remaining error does harm where a path commits to one kind of image or another. There
the noise is about as strong as the largest variation among the data (σ² is near the first
eigenvalues of their covariance), and a small error grows (Biroli et al., arXiv 2402.18491).
`ByNoiseLevel` evaluates one network there, which can be exact, and a faster one elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffsde.equations.counted import says_of
from diffsde.scores.model import ScoreModel
from diffsde.system.autocast import autocast
from diffsde.system.captures import being_captured
from diffsde.system.parameters import device_of
from diffsde.system.wrapped import unwrapped

__all__ = ["ByNoiseLevel", "Replayed", "Way"]

# The weights become constants, which are cast and laid out once, not at every evaluation.
_COMPILER_OPTIONS: dict[str, Any] = {"freezing": True}


@dataclass(frozen=True)
class Way:
    """One way to evaluate a network."""

    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        parts = ["bfloat16" if self.bfloat16 else "float32"]
        parts += ["channels last"] if self.channels_last else []
        parts += ["compiled"] if self.compiled else []
        return ", ".join(parts)

    def of(self, model: ScoreModel) -> ScoreModel:
        """The model, evaluated this way; for plain float32, the model itself."""
        if self == Way():
            return model
        faster = copy.deepcopy(unwrapped(model))
        network = _Network(faster.network, self)
        if self.bfloat16:
            _keep_exact(faster)
        faster.network = network
        if self.compiled:
            faster.network = _compiled(network)
        return faster


def _compiled(network: nn.Module) -> nn.Module:
    """The network compiled; on CUDA all that one evaluation launches is captured as a graph."""
    device = device_of(network)
    if device is not None and device.type == "cuda":
        return Replayed(cast(nn.Module, torch.compile(network, mode="reduce-overhead")))
    return cast(nn.Module, torch.compile(network, options=_COMPILER_OPTIONS))


class _Around(nn.Module):
    """A module that calls a network, and says of itself what the network says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, default in (("classes", 0), ("label_dtype", None), ("pixel_levels", 0)):
            setattr(self, name, says_of(network, name, default))


class Replayed(_Around):
    """A network whose evaluations replay a CUDA graph.

    A graph writes each output where the last one was, and solvers remember several. So an output
    is copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output, of the first input's shape."""
        if being_captured():  # a graph holds no other graph
            plain: Tensor = unwrapped(self.network)(*inputs)
            return plain
        torch.compiler.cudagraph_mark_step_begin()  # the last output is not needed any more
        output: Tensor = self.network(*inputs)
        return output.clone()


class ByNoiseLevel(_Around):
    """One network for a band of noise levels, and another for all others.

    Args:
        inside: called if any label of the batch is in the band.
        outside: called otherwise.
        band: the lowest and the highest label of the band, both included.
    """

    def __init__(self, inside: nn.Module, outside: nn.Module, band: tuple[float, float]) -> None:
        super().__init__(inside)
        self.inside, self.outside, self.band = inside, outside, band

    def forward(self, x: Tensor, label: Tensor, *class_label: Tensor) -> Tensor:
        """The output, of x's shape (B, C, H, W), for labels of shape (B,)."""
        low, high = self.band
        in_band = bool(((low <= label) & (label <= high)).any())
        output: Tensor = (self.inside if in_band else self.outside)(x, label, *class_label)
        return output


class _Network(_Around):
    """A network that is called in another precision or memory format."""

    def __init__(self, network: nn.Module, way: Way) -> None:
        super().__init__(network)
        self.network, self.way = network, way
        if way.channels_last:
            network.to(memory_format=torch.channels_last)

    def description(self) -> dict[str, Any]:
        """How the network is called, for results on disk."""
        return {"way": self.way, "compiler": _COMPILER_OPTIONS if self.way.compiled else None}

    def forward(self, x: Tensor, label: Tensor, *class_label: Tensor) -> Tensor:
        if self.way.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(x.device, bfloat16=self.way.bfloat16):
            output: Tensor = self.network(x, label, *class_label)
        return output.to(x.dtype).contiguous()


def _keep_exact(model: ScoreModel) -> None:
    """Exclude linear layers, 1 × 1, the first and the last two convolutions from autocast."""
    called = _weighted_layers(model)
    linear = [module for module in called if isinstance(module, nn.Linear)]
    others = [module for module in called if not isinstance(module, nn.Linear)]
    pointwise = [module for module in others if _is_pointwise(module)]
    for module in {*linear, *pointwise, *others[:1], *others[-2:]}:
        module.forward = _without_autocast(module.forward)


def _weighted_layers(model: ScoreModel) -> list[nn.Module]:
    """The layers with a matrix of weights, in the order in which one evaluation calls them."""
    called: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        called.append(module)

    weights = ((module, getattr(module, "weight", None)) for module in model.network.modules())
    weighted = [module for module, w in weights if isinstance(w, Tensor) and w.dim() > 1]
    hooks = [module.register_forward_hook(note) for module in weighted]
    with torch.no_grad():
        x = model.sde.prior_sample((1, *model.shape), seed=0, device=device_of(model))
        model(x, model.sde.T)
    for hook in hooks:
        hook.remove()
    return called


def _is_pointwise(module: nn.Module) -> bool:
    """Whether a convolution's kernel is one pixel."""
    # Our layers call it `kernel`, torch's `kernel_size`.
    kernel = getattr(module, "kernel", None) or getattr(module, "kernel_size", ())
    return kernel == 1 or (isinstance(kernel, tuple) and set(kernel) == {1})


def _without_autocast(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def exact(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        with autocast(x.device, bfloat16=False):
            return forward(x.float(), *rest, **named)

    exact.description = lambda: "without autocast"  # type: ignore[attr-defined]
    return exact
