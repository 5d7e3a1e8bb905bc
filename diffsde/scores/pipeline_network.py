r"""A network of diffusers, called as networks are called here: (x, label), or (x, label, class).

diffusers calls a network (sample, timestep), with the classes as `class_labels`, and gets an
object whose `sample` is the output. A network that also learned a variance returns twice as many
channels, of which the first half counts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffsde.errors import InputError, how_to_load
from diffsde.system.wrapped import unwrapped

__all__ = ["PipelineNetwork"]

_CLASSES = {"UNet2DModel": "num_class_embeds", "DiTTransformer2DModel": "num_embeds_ada_norm"}


class PipelineNetwork(nn.Module):
    """A network of diffusers, or any function called (sample, timestep).

    Args:
        model: a `UNet2DModel`, a `DiTTransformer2DModel`, with or without wrappers such as
            `DataParallel`, or a function that returns a tensor or an object with `sample`.

    Attributes:
        classes: how many classes it knows; 0 if it takes no labels.
        label_dtype: the coarsest in which it is told the noise level, whatever its weights have,
            since bfloat16 would make 1000 of step 999.
    """

    label_dtype = torch.float32

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not callable(model):
            raise InputError(
                f"model = {model!r:.80}: expected a network, called (sample, timestep)"
                f"{how_to_load(model)}"
            )
        self.model = model
        inner = unwrapped(model)
        self.kind = type(inner).__name__
        self.settings: Any = getattr(inner, "config", None)
        self.classes = int(self._setting(_CLASSES.get(self.kind, "")) or 0)
        if self._setting("class_embed_type") is not None:
            raise InputError(
                f"class_embed_type = {self._setting('class_embed_type')!r}: expected None, since "
                "classes are numbered here; wrap the network in a function (sample, timestep)"
            )

    def _setting(self, name: str) -> Any:
        return getattr(self.settings, name, None)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(C, H, W) of one sample; None if the network does not say."""
        channels, size = self._setting("in_channels"), self._setting("sample_size")
        if channels is None or size is None:
            return None
        sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        return (channels, *sides)

    def forward(self, x: Tensor, label: Tensor, class_label: Tensor | None = None) -> Tensor:
        """The output, of x's shape (B, …), for labels of shape (B,)."""
        if self._setting("time_embedding_type") == "learned":
            label = label.round().long()
        output = self.model(x, label, **self._told(class_label, len(x), x.device))
        output = getattr(output, "sample", output)
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found[:, : x.shape[1]] if found.shape[1] == 2 * x.shape[1] else found

    def _told(self, label: Tensor | None, n: int, device: torch.device) -> dict[str, Tensor]:
        """The classes, as the network takes them."""
        if not self.classes:
            return {}
        if self.kind == "DiTTransformer2DModel":  # one more number stands for no class
            none = torch.full((n,), self.classes, device=device)
            return {"class_labels": none if label is None else torch.where(label < 0, none, label)}
        # On another device than the CPU the host does not wait for it; the table there has bounds.
        if label is None or (device.type == "cpu" and bool((label < 0).any())):
            raise InputError(
                "this network was trained with classes only, and has no score without one: give "
                f"label=, a number from 0 to {self.classes - 1}"
            )
        return {"class_labels": label}

    def description(self) -> dict[str, Any]:
        """What the network depends on beside its weights, for results on disk."""
        function = None if isinstance(self.model, nn.Module) else self.model
        return {"kind": self.kind, "settings": dict(self.settings or {}), "function": function}
