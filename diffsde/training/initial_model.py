"""The model that a training run starts from: fresh weights, or those of a trained model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.data.samples import Samples
from diffsde.equations.forward import SDE
from diffsde.errors import InputError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.networks import NETWORKS, make_network, shape_arguments
from diffsde.scores.preconditioning import PRECONDITIONINGS, Preconditioning, make_preconditioning
from diffsde.scores.wrapped import plain_model
from diffsde.system.host import on_host
from diffsde.system.one_line import one_line
from diffsde.training.recipes import Recipe

__all__ = ["initial_model"]

_DROWNED = 5  # how many times larger than the data the last noise has to be


def initial_model(
    data: Samples, recipe: Recipe, sde: SDE, start_from: ScoreModel | None = None
) -> ScoreModel:
    """The recipe's model for these samples, with the data's mean in its prior.

    Args:
        data: the training samples.
        recipe: names the network and the preconditioning.
        sde: the forward process, of which the model gets a copy.
        start_from: a trained model to copy instead, of the kind that the recipe names.

    Raises:
        InputError: `start_from` is of another kind, the network does not take such samples, or
            the process has too little noise for them, or too much for the objective.
    """
    start_from = None if start_from is None else plain_model(start_from)
    process = sde if start_from is None else start_from.sde
    _check_noise(data, process)
    _check_levels(recipe, process)
    if start_from is None:
        model = _fresh_model(data, recipe, sde)
    else:
        model = _copied_model(start_from, data, recipe)
    model.data = data.name
    if model.sde.data_mean is None:
        model.sde.centre(data.mean())
    return model


def _fresh_model(data: Samples, recipe: Recipe, sde: SDE) -> ScoreModel:
    preconditioning = make_preconditioning(recipe.preconditioning, recipe.sigma_data)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        args = shape_arguments(recipe.network, data.shape) | _network_args(recipe, preconditioning)
        network = make_network(recipe.network, sde, **args)
    return ScoreModel(network, copy.deepcopy(sde), data.shape, preconditioning, data.data_range)


def _check_noise(data: Samples, sde: SDE) -> None:
    """Check that the last noise level drowns the data, as the prior takes for granted."""
    most = float(sde.noise_level(on_host(sde.T, torch.float64)))
    if data.spread() * _DROWNED > most:
        raise InputError(
            f"{data.name} has a standard deviation of {data.spread():.3g}, and the noise of "
            f"{one_line(sde)} ends at {most:.3g}, which does not hide it: learn the data divided "
            f"by {data.spread():.3g}, or give sde= a process with more noise"
        )


def _check_levels(recipe: Recipe, sde: SDE) -> None:
    """Check that noise levels can be drawn evenly in ln σ, if the recipe says so."""
    if sde.endless and recipe.objective == "likelihood":
        raise InputError(
            f"objective = 'likelihood' with {one_line(sde)}: it draws ln σ evenly up to T, where "
            "the noise level is infinite; give sde= a smaller T, such as 0.999"
        )


def _copied_model(start_from: ScoreModel, data: Samples, recipe: Recipe) -> ScoreModel:
    _check_start(start_from, data, recipe)
    model = copy.deepcopy(start_from).train().requires_grad_(True)
    part = describe_model(model)["network"]
    wanted = {**part["args"], **_network_args(recipe, model.preconditioning)}
    if wanted != part["args"]:
        # New parts of the network start at zero, so they change nothing yet.
        network = make_network(part["name"], model.sde, **wanted)
        weights = _among_new_blocks(model.network.state_dict(), part["args"], wanted)
        network.load_state_dict(network.state_dict() | weights)
        model.network = network
    return model


def _among_new_blocks(
    weights: Mapping[str, Tensor], given: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Rename the weights as in a network with more inner blocks.

    The new blocks are added in the middle, on both sides of the attention.
    """
    if "blocks" not in given:
        return dict(weights)
    old, new = given["blocks"][1], wanted["blocks"][1]
    renamed = {}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        if part == "middle":
            index, _, rest = rest.partition(".")
            later = new - old if int(index) > (old - 1) // 2 else 0
            name = f"middle.{int(index) + later}.{rest}"
        renamed[name] = tensor
    return renamed


def _network_args(recipe: Recipe, preconditioning: Preconditioning) -> dict[str, Any]:
    """The network's arguments that the recipe sets; the others keep their defaults."""
    args: dict[str, Any] = {}
    if recipe.classes:
        args["classes"] = recipe.classes
    if recipe.blocks:
        args["blocks"] = list(recipe.blocks)
    if recipe.width:
        args["width"] = recipe.width
    if recipe.depth:
        args["depth"] = recipe.depth
    if recipe.waves:
        args["waves"] = list(recipe.waves)
    if recipe.waves or hasattr(NETWORKS[recipe.network], "pixel_levels"):
        args["sigma_data"] = preconditioning.sigma_data
    return args


def _check_start(model: ScoreModel, data: Samples, recipe: Recipe) -> None:
    """Check that a run of this recipe can start from this model."""
    _check_kind(model, data, recipe)
    for name in ("classes", "waves"):
        given, wanted = getattr(model.network, name, None), getattr(recipe, name)
        if given and given != wanted:
            raise InputError(
                f"start_from has {name} = {given}, but the recipe has {wanted}: "
                "give the recipe the same"
            )
    for name in ("width", "depth"):
        given, wanted = getattr(model.network, name, 0), getattr(recipe, name)
        if wanted and given != wanted:
            raise InputError(f"start_from has {name} = {given}, not {wanted}: leave {name} out")
    if recipe.blocks:
        _check_blocks(model.network, recipe.blocks)


def _check_kind(model: ScoreModel, data: Samples, recipe: Recipe) -> None:
    pairs = {
        "shape": (model.shape, data.shape),
        "data_range": (model.data_range, data.data_range),
        "network": (type(model.network), NETWORKS[recipe.network]),
        "preconditioning": (
            type(model.preconditioning),
            PRECONDITIONINGS[recipe.preconditioning],
        ),
    }
    for name, (given, wanted) in pairs.items():
        if given != wanted:
            raise InputError(
                f"start_from has {name} {getattr(given, '__name__', given)}, but the recipe and "
                f"data have {getattr(wanted, '__name__', wanted)}: choose a model, recipe and data "
                "that agree"
            )


def _check_blocks(network: nn.Module, wanted: tuple[int, ...]) -> None:
    given: Any = network.blocks
    if given[::2] != wanted[::2] or given[1] > wanted[1]:
        raise InputError(
            f"start_from has blocks = {given}, but the recipe has {wanted}: only the number of "
            "inner blocks, the second one, may grow"
        )
