"""Optimisers and averages of weights: what an update does with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diffsde.errors import InputError
from diffsde.training.recipes import Recipe

__all__ = ["AveragedNetwork", "load_moments", "make_optimizers", "moments"]

_Tensors = tuple[Tensor, ...] | list[Tensor]


class AveragedNetwork(AveragedModel):
    """An exponential moving average of a network's weights.

    It starts as a plain mean, without the initial weights: after n updates the next weights
    count with the share 1 − min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, multi_avg_fn=self._lerp)
        self.decay = decay

    @torch.no_grad()
    def _lerp(self, averages: _Tensors, current: _Tensors, _: Tensor | int) -> None:
        n = int(self.n_averaged)  # torch hands over a copy on the device, which would be waited for
        torch._foreach_lerp_(averages, current, 1 - min(self.decay, (1 + n) / (10 + n)))


def make_optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam for everything, or Muon for the hidden weight matrices and Adam for the rest."""
    parameters = dict(network.named_parameters())
    adam_betas = (0.9, 0.99) if recipe.optimizer == "muon" else (0.9, 0.999)
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(parameters.values(), recipe.learning_rate, adam_betas)]
    # Muon is meant for maps between hidden layers, not for the first, the last or the embedding.
    hidden = [
        name
        for name, p in parameters.items()
        if p.dim() == 2 and not name.startswith(("first", "last", "embed"))
    ]
    if not hidden:
        raise InputError(
            f"optimizer = 'muon' found no weight matrices in {recipe.network}: choose 'adam'"
        )
    muon = torch.optim.Muon(
        [parameters.pop(name) for name in hidden],
        lr=recipe.learning_rate,
        weight_decay=0.0,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, torch.optim.Adam(parameters.values(), recipe.learning_rate, adam_betas)]


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser for each parameter, by "index.name"."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


_MOMENTS = {"Adam": ("step", "exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}


def load_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Load what `moments` returned into an optimiser.

    Args:
        optimizer: an optimiser of the same parameters.
        saved: the moments; none if they were saved before the first update.

    Raises:
        ValueError: these are not the moments of its parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    expected = {
        f"{i}.{name}": () if name == "step" else tuple(p.shape)
        for i, p in enumerate(parameters)
        for name in _MOMENTS[type(optimizer).__name__]
    }
    found = {key: tuple(tensor.shape) for key, tensor in saved.items()}
    if found and found != expected:
        wrong = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        raise ValueError(f"the moments {wrong[:3]} do not fit this {type(optimizer).__name__}")
    for key, tensor in saved.items():
        if not tensor.is_floating_point():
            raise ValueError(f"the moment {key} has dtype {tensor.dtype}, expected float32")
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
