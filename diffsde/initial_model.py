"""The model that a training run begins with: fresh weights, or those of a trained model."""

from __future__ import annotations

import copy
from typing import Any

import torch

from diffsde.checkpoint import describe_model
from diffsde.data import ImageData
from diffsde.errors import InputError
from diffsde.networks import NETWORKS, make_network
from diffsde.preconditioning import PRECONDITIONINGS, Preconditioning, make_preconditioning
from diffsde.recipes import Recipe
from diffsde.score import ScoreModel
from diffsde.sde import SDE

__all__ = ["initial_model"]


def initial_model(
    data: ImageData, recipe: Recipe, sde: SDE, start_from: ScoreModel | None = None
) -> ScoreModel:
    """The recipe's model for those images, its prior with the data's mean.

    Args:
        data: the training images.
        recipe: names the network and the preconditioning.
        sde: the forward process; left as it is, the model has a copy.
        start_from: a trained model to copy instead, if its kind is the recipe's.

    Raises:
        InputError: `start_from` is of another kind.
    """
    if start_from is None:
        model = _fresh_model(data, recipe, sde)
    else:
        model = _begun_model(start_from, data, recipe)
    if model.sde.data_mean is None:
        model.sde.centre(data.mean())
    return model


def _fresh_model(data: ImageData, recipe: Recipe, sde: SDE) -> ScoreModel:
    preconditioning = make_preconditioning(recipe.preconditioning, recipe.sigma_data)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        told = _told(recipe, preconditioning)
        network = make_network(recipe.network, sde, in_channels=data.shape[0], **told)
    return ScoreModel(network, copy.deepcopy(sde), data.shape, preconditioning)


def _begun_model(begin: ScoreModel, data: ImageData, recipe: Recipe) -> ScoreModel:
    _check_begins(begin, data, recipe)
    model = copy.deepcopy(begin).train().requires_grad_(True)
    part = describe_model(model)["network"]
    wanted = {**part["args"], **_told(recipe, model.preconditioning)}
    if wanted != part["args"]:
        # What is new to the network begins at zero: it says nothing yet.
        network = make_network(part["name"], model.sde, **wanted)
        network.load_state_dict(network.state_dict() | model.network.state_dict())
        model.network = network
    return model


def _told(recipe: Recipe, preconditioning: Preconditioning) -> dict[str, Any]:
    """Arguments of a network that is told more than the image and its noise level."""
    classes = {"classes": recipe.classes} if recipe.classes else {}
    if not recipe.waves:
        return classes
    return {**classes, "waves": list(recipe.waves), "sigma_data": preconditioning.sigma_data}


def _check_begins(model: ScoreModel, data: ImageData, recipe: Recipe) -> None:
    """An error if a run of this recipe cannot begin with this model."""
    pairs = {
        "shape": (model.shape, data.shape),
        "network": (type(model.network), NETWORKS[recipe.network]),
        "preconditioning": (
            type(model.preconditioning),
            PRECONDITIONINGS[recipe.preconditioning],
        ),
    }
    for name, (given, wanted) in pairs.items():
        if given != wanted:
            raise InputError(
                f"start_from has {name} {getattr(given, '__name__', given)}, the recipe and data "
                f"have {getattr(wanted, '__name__', wanted)}: choose a model, recipe and data "
                "that agree"
            )
    for name in ("classes", "waves"):
        given, wanted = getattr(model.network, name, None), getattr(recipe, name)
        if given and given != wanted:
            raise InputError(
                f"start_from has {name} = {given}, and the recipe {wanted}: "
                "give the recipe the same"
            )
