r"""A teacher: a trained model whose denoised images are learned instead of the images.

Denoising score matching fits a denoiser to the clean images x(0), because the ideal denoiser
is their mean, E[x(0) | x(t)]. The output of a denoiser that knows the class has the same mean,

    E[x(0) | x(t)]  =  E[ E[x(0) | x(t), class] | x(t) ],

and varies less about it: only the uncertainty about the class is left. So a network without
class labels learns the same from a teacher with them, with far less noise in its gradient, and
as accurately as the teacher is right. Source: arXiv 2302.00670 studies the variance of the
target; the rest is the law of total expectation.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from diffsde.data.samples import Samples
from diffsde.errors import InputError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.wrapped import plain_model
from diffsde.system.description import digest_of_score
from diffsde.training.objectives import Target

__all__ = ["Teacher"]


class Teacher:
    """A frozen model that provides the targets of training.

    Args:
        model: a trained model; it is copied to the pupil's device. If it knows classes, it is
            given the class of each image.
        pupil: the model in training, with the same image shape and forward process.
        data: the training images, with labels if the teacher knows classes.

    Attributes:
        digest: of the model's description, by which a training card tells teachers apart.

    Raises:
        InputError: these do not fit together.
    """

    def __init__(self, model: ScoreModel, pupil: ScoreModel, data: Samples) -> None:
        model = plain_model(model)
        for name in ("shape", "sde"):
            given, wanted = (describe_model(m)[name] for m in (model, pupil))
            if given != wanted:
                raise InputError(
                    f"the teacher has {name} {given}, the model to be trained {wanted}: choose "
                    "a teacher with the same"
                )
        if model.classes:
            data.check_classes(model.classes)
        self.data = data
        place = next(pupil.network.parameters()).device
        self.model = copy.deepcopy(model).to(place).eval().requires_grad_(False)
        self.digest = digest_of_score(self.model)

    def target(self, index: Tensor) -> Target:
        """The targets for the images with these indices: a function of (x(t), t)."""

        def denoised(x: Tensor, t: Tensor) -> Tensor:
            labels = None
            if self.model.classes:
                labels = self.data.known_labels()[index].to(x.device)
            with torch.no_grad():
                return self.model.denoise(x, t, labels)

        return denoised
