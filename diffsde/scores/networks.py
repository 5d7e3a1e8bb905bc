r"""Networks by the names that checkpoints and recipes use.

A network is any `torch.nn.Module` called as `(x, label)` with x of shape (B, C, H, W) and
label of shape (B,). A preconditioning says what these two are and what the output means.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from diffsde.equations.forward import SDE
from diffsde.errors import InputError, name_list
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet

__all__ = ["NETWORKS", "make_network"]

NETWORKS: dict[str, type[nn.Module]] = {"ScoreUNet": ScoreUNet, "ResidualUNet": ResidualUNet}


def make_network(name: str, sde: SDE, **config: Any) -> nn.Module:
    """A network by name, built with its arguments; networks that divide by s(t) get the SDE."""
    if name not in NETWORKS:
        raise InputError(f"no network {name!r}: {name_list(name, NETWORKS)}")
    cls = NETWORKS[name]
    return ScoreUNet(sde, **config) if cls is ScoreUNet else cls(**config)
