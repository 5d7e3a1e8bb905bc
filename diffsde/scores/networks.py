r"""Networks by the names that checkpoints and recipes use.

A network is any `torch.nn.Module` called as `(x, label)` with x of shape (B, *shape) and
label of shape (B,). A preconditioning says what these two are and what the output means.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from diffsde.equations.forward import SDE
from diffsde.errors import InputError, name_list
from diffsde.scores.level_unet import LevelUNet
from diffsde.scores.mlp import MLP
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet

__all__ = ["NETWORKS", "make_network", "shape_arguments"]

NETWORKS: dict[str, type[nn.Module]] = {
    "ScoreUNet": ScoreUNet,
    "ResidualUNet": ResidualUNet,
    "LevelUNet": LevelUNet,
    "MLP": MLP,
}


def make_network(name: str, sde: SDE, **config: Any) -> nn.Module:
    """A network by name, built with its arguments; networks that divide by s(t) get the SDE."""
    if name not in NETWORKS:
        raise InputError(f"no network {name!r}: {name_list(name, NETWORKS)}")
    cls = NETWORKS[name]
    return ScoreUNet(sde, **config) if cls is ScoreUNet else cls(**config)


def shape_arguments(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The arguments with which the network of this name takes samples of that shape.

    Those of the network's own `arguments(shape)`, or in_channels.

    Raises:
        InputError: it does not take such samples.
    """
    cls: Any = NETWORKS[name]
    if getattr(cls, "axes", None) not in (None, len(shape)):
        raise InputError(
            f"network = {name!r} with samples of shape {shape}: it takes {cls.axes} axes, as "
            "images have; choose network = 'MLP', as the recipe 'points' does"
        )
    if hasattr(cls, "arguments"):
        found: dict[str, Any] = cls.arguments(shape)
        return found
    return {"in_channels": shape[0]}
