r"""Models without wrappers: what is saved, copied and trained, whatever surrounded it.

`DataParallel`, `torch.compile` and the like change how a network is evaluated, not what it is.
Adapters, such as those of LoRA, change its weights, so they are merged into them.
"""

from __future__ import annotations

import copy

from torch import nn

from diffsde.errors import InputError, how_to_load
from diffsde.scores.model import ScoreModel
from diffsde.system.one_line import one_line
from diffsde.system.wrapped import unwrapped

__all__ = ["plain_model"]


def plain_model(model: ScoreModel) -> ScoreModel:
    """The model itself if nothing wraps it or its network, else one without the wrappers.

    It shares the weights, except where adapters had to be merged into them.

    Raises:
        InputError: it is not a `ScoreModel`.
    """
    model = unwrapped(model)
    if not isinstance(model, ScoreModel):
        raise InputError(
            f"model = {one_line(model)}: expected a ScoreModel, such as load_model returns, or "
            f"ScoreModel(network, sde, shape, preconditioning){how_to_load(model)}"
        )
    network = _merged(unwrapped(model.network))
    if network is model.network:
        return model
    twin = copy.copy(model)
    twin._modules = dict(model._modules)  # a copied module shares its table of parts
    twin.network = network
    return twin


def _merged(network: nn.Module) -> nn.Module:
    """The network itself if it has no adapters, else a copy with their changes in its weights."""
    if not any(map(_is_adapter, network.modules())):
        return network
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if _is_adapter(layer):
            # peft's own merge_and_unload takes the method config() of our networks for a table.
            layer.merge()
            network.set_submodule(name, layer.get_base_layer())
    return network


def _is_adapter(module: nn.Module) -> bool:
    return any(base.__name__ == "BaseTunerLayer" for base in type(module).__mro__)
