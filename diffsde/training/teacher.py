r"""A teacher: a trained model whose denoised images are learned instead of the images.

Denoising score matching teaches a denoiser the clean image x(0), because the denoiser sought
is its mean, E[x(0) | x(t)]. So is the mean of what a better-informed denoiser says,

    E[x(0) | x(t)]  =  E[ E[x(0) | x(t), class] | x(t) ],

which varies less about it: of all the doubt about an image, only that about its class is left.
A network that is not told classes learns the same from a teacher that is, with far less
noise in its gradient, and as well as the teacher knows the answer. Source: the variance
of the target is the subject of arXiv 2302.00670; the law of total expectation does the rest.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from diffsde.data.images import ImageData
from diffsde.errors import InputError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.training.objectives import Target

__all__ = ["Teacher"]


class Teacher:
    """A model that is not trained, for the images it is asked about.

    Args:
        model: copied to where the pupil is. If it knows classes, it is told each image's.
        pupil: the model that is trained, of the same image shape and forward process.
        data: the training images, with labels if the teacher knows classes.

    Raises:
        InputError: these do not fit together.
    """

    def __init__(self, model: ScoreModel, pupil: ScoreModel, data: ImageData) -> None:
        for name in ("shape", "sde"):
            given, wanted = (describe_model(m)[name] for m in (model, pupil))
            if given != wanted:
                raise InputError(
                    f"the teacher has {name} {given}, the model that is trained {wanted}: choose "
                    "a teacher of the same"
                )
        if model.classes:
            data.check_classes(model.classes)
        self.data = data
        place = next(pupil.network.parameters()).device
        self.model = copy.deepcopy(model).to(place).eval().requires_grad_(False)

    def target(self, index: Tensor) -> Target:
        """(x(t), t) -> what the denoiser is to say of the images of those indices, (B, C, H, W)."""

        def denoised(x: Tensor, t: Tensor) -> Tensor:
            told = None
            if self.model.classes:
                told = self.data.known_labels()[index].to(x.device)
            with torch.no_grad():
                return self.model.denoise(x, t, told)

        return denoised
