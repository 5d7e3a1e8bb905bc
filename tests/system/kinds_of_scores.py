"""Every kind of score that the package makes, and what users make, each with its variations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE
from diffsde.equations.schedule import ScheduleSDE
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE, SubVPSDE
from diffsde.scores import (
    classifier_free,
    classifier_guided,
    deblurring,
    inpainting,
    linear_inverse,
    super_resolution,
)
from diffsde.scores.denoisers import from_denoiser, to_denoiser
from diffsde.scores.diffusers import from_diffusers
from diffsde.scores.exact import GaussianScore, MixtureScore
from diffsde.scores.level_unet import LevelUNet
from diffsde.scores.model import ScoreModel
from diffsde.scores.precision import ByNoiseLevel, Way
from diffsde.scores.preconditioning import EDM, PRECONDITIONINGS
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet

SHAPE = (1, 8, 8)


def model(
    seed: int = 0, sde: SDE | None = None, preconditioning: Any = "edm", **network: Any
) -> ScoreModel:
    torch.manual_seed(seed)
    settings = {"channels": (8, 32), "blocks": (1, 1, 1), "embed_dim": 8, "classes": 10}
    body = ResidualUNet(**{**settings, **network})
    return ScoreModel(body, sde or VESDE(), SHAPE, preconditioning).eval()


def levels(**settings: Any) -> ScoreModel:
    torch.manual_seed(0)
    settings = {"fine_channels": 8, "fine_blocks": 1, "sigma_data": 0.5, **settings}
    body = LevelUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, **settings)
    return ScoreModel(body, VESDE(), SHAPE, "denoised").eval()


def with_mean(mean: float) -> ScoreModel:
    made = model()
    made.sde.centre(torch.full(SHAPE, mean))
    return made


def tutorial(**settings: Any) -> ScoreModel:
    torch.manual_seed(0)
    network = ScoreUNet(VESDE(), channels=(32, 32, 32, 32), embed_dim=8, **settings)
    return ScoreModel(network, VESDE(), (1, 28, 28))


def divided(low: float, high: float, swapped: bool = False) -> ScoreModel:
    made = model()
    ways = [Way().of(made).network, Way(bfloat16=True).of(made).network]
    inside, outside = reversed(ways) if swapped else ways
    made.network = ByNoiseLevel(inside, outside, (low, high))
    return made


def compiled_in_place() -> ScoreModel:
    made = model()
    made.network.compile()
    return made


class Logits(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class Operator(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        return self.dropout(y)


def hidden_buffer(value: float) -> nn.Module:
    made = Operator(1.0)
    made.register_buffer("hidden", torch.tensor(value), persistent=False)
    return made


def mapped(**settings: Any) -> Any:
    """A linear inverse whose operator is a module."""
    operator = Operator(settings.pop("factor", 2.0))
    y = torch.full((1, *SHAPE), settings.pop("y", 0.5))
    return linear_inverse(model(), settings.pop("sde", VESDE()), operator, y, **settings)


def painted(known: int = 4, image: float = 0.5, seed: int = 0) -> Any:
    mask = torch.zeros(1, *SHAPE)
    mask[..., :known] = 1
    return inpainting(model(seed), VESDE(), torch.full((1, *SHAPE), image), mask)


def smaller(factor: int) -> Any:
    return super_resolution(model(), VESDE(), torch.full((1, 1, 4, 4), 0.5), factor)


def blurred(value: float) -> Any:
    image, kernel = torch.full((1, *SHAPE), 0.5), torch.full((3, 3), value)
    return deblurring(model(), VESDE(), image, kernel)


def discrete(prediction: str = "epsilon", beta: float = 0.02, sde: SDE | None = None) -> Any:
    alphas = (1 - torch.linspace(1e-4, beta, 50, dtype=torch.float64)).cumprod(0)
    scheduler = SimpleNamespace(
        alphas_cumprod=alphas, config=SimpleNamespace(prediction_type=prediction)
    )
    return from_diffusers(Operator(1.0), scheduler, sde)


def azula(dim: int = 4, sigma_min: float = 0.01) -> Any:
    from azula.denoise import KarrasDenoiser
    from azula.noise import VESchedule

    from diffsde.scores.azula import from_azula

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(dim)
            self.linear = nn.Linear(dim, dim)

        def forward(self, x: Tensor, t: Tensor, **_: Any) -> Tensor:
            return self.linear(x)

    return from_azula(KarrasDenoiser(Backbone(), VESchedule(sigma_min=sigma_min)))


def to_azula_and_back(std: float) -> Any:
    from diffsde.scores.azula import from_azula, to_azula

    return from_azula(to_azula(gaussian(0.0, std), VESDE()))


def gaussian(mean: float = 0.0, std: float = 0.5, sde: SDE | None = None) -> GaussianScore:
    return GaussianScore(sde or VESDE(), torch.full(SHAPE, mean), std)


def mixture(mean: float = 0.5, std: float = 0.2, weight: float = 0.5) -> MixtureScore:
    means = torch.stack([torch.full(SHAPE, mean), torch.zeros(SHAPE)])
    return MixtureScore(VESDE(), means, std, [weight, 1 - weight])


def closed_over(k: float) -> nn.Module:
    class Own(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return k * x

    return Own()


def helped(k: float) -> nn.Module:
    def times(x: Tensor) -> Tensor:
        return k * x

    class Own(nn.Module):
        @torch.no_grad()
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return times(x)

    return Own()


def rewritten(plus: bool) -> nn.Module:
    if plus:

        class Own(nn.Module):
            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                return x + 1
    else:

        class Own(nn.Module):  # type: ignore[no-redef]
            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                return x - 1

    return Own()


def constant(k: float) -> nn.Module:
    class Own(nn.Module):
        factor = k

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.factor * x

    return Own()


class SaysItself(nn.Module):
    """A function within a module that says what it is."""

    def __init__(self, k: float, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.k, self.function = k, lambda x: k * x
        self.bias = nn.Parameter(torch.randn(1))

    def description(self) -> dict[str, Any]:
        return {"times": self.k}

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.function(x)


class Labelled(ScoreModel):
    """A user's model of one class, as `sample_images` takes it."""

    label = 3

    def forward(self, x: Tensor, t: Any, class_label: Any = None) -> Tensor:
        return super().forward(x, t, self.label)


def labelled(label: int) -> Labelled:
    found = model()
    made = Labelled(found.network, found.sde, found.shape, found.preconditioning).eval()
    made.label = label
    return made


def free(label: Any, guidance: float = 3.0, seed: int = 0) -> Any:
    return classifier_free(model(seed), label, guidance)


def guided(label: Any = 3, scale: float = 1.0, seed: int = 0) -> Any:
    return classifier_guided(model(), Logits(seed), label, scale=scale)


NETWORKS: dict[str, Callable[[], Any]] = {
    "model": model,
    "other weights": lambda: model(1),
    "no classes": lambda: model(classes=0),
    "waves": lambda: model(waves=(1, 2), sigma_data=0.5),
    "other waves": lambda: model(waves=(1, 3), sigma_data=0.5),
    "waves of other data": lambda: model(0, None, EDM(0.33), waves=(1, 2), sigma_data=0.33),
    "levels": levels,
    "levels up to more noise": lambda: levels(upto=0.2),
    "double": lambda: model().double(),
    "half": lambda: model().bfloat16(),
    "channels last": lambda: tutorial().to(memory_format=torch.channels_last),
    "tutorial": tutorial,
    "tutorial, other scale": lambda: tutorial(scale=20.0),
    "another shape": lambda: ScoreModel(model().network, VESDE(), (1, 12, 12), "edm"),
    "mean": lambda: with_mean(0.1),
    "other mean": lambda: with_mean(0.2),
    "compiled": lambda: torch.compile(model()),
    "compiled network": compiled_in_place,
    "of one class": lambda: labelled(3),
    "of another class": lambda: labelled(7),
    **{
        f"preconditioning {name}": partial(model, 0, None, name)
        for name in PRECONDITIONINGS
        if name != "edm"
    },
    "sigma_data": lambda: model(0, None, EDM(0.33)),
}
PROCESSES: dict[str, Callable[[], Any]] = {
    f"process {i}": partial(model, 0, sde)
    for i, sde in enumerate(
        [VESDE(9.0), VESDE(T=0.9), VESDE(eps=1e-4), VPSDE(), VPSDE(0.2), VPSDE(0.1, 10.0),
         SubVPSDE(), EDMSDE(), EDMSDE(T=70.0), ScheduleSDE(torch.exp), ScheduleSDE(torch.expm1),
         ScheduleSDE(torch.exp, torch.exp), ScheduleSDE(torch.exp, T=2.0)]
    )
}  # fmt: skip
WAYS: dict[str, Callable[[], Any]] = {
    "bfloat16": lambda: Way(bfloat16=True).of(model()),
    "last": lambda: Way(channels_last=True).of(model()),
    "bfloat16, last": lambda: Way(bfloat16=True, channels_last=True).of(model()),
    "way compiled": lambda: Way(compiled=True).of(model()),
    "bfloat16, compiled": lambda: Way(bfloat16=True, compiled=True).of(model()),
    "band": lambda: divided(-1.0, 0.0),
    "other band": lambda: divided(-1.0, 0.5),
    "band the other way": lambda: divided(-1.0, 0.0, swapped=True),
}
GUIDED: dict[str, Callable[[], Any]] = {
    "label 3": lambda: free(3),
    "label 7": lambda: free(7),
    "label 7 of other weights": lambda: free(7, seed=1),
    "labels": lambda: free(torch.tensor([3, 7])),
    "labels swapped": lambda: free(torch.tensor([7, 3])),
    "guidance 1": lambda: free(3, 1.0),
    "guidance 0": lambda: free(3, 0.0),
    "guided way": lambda: classifier_free(Way(bfloat16=True).of(model()), 3, 3.0),
    "classifier": guided,
    "classifier, other label": lambda: guided(7),
    "classifier, stronger": lambda: guided(scale=2.0),
    "other classifier": lambda: guided(seed=1),
    "partial 3": lambda: partial(model(), class_label=3),
    "partial 7": lambda: partial(model(), class_label=7),
    "method": lambda: model().forward,
    "other method": lambda: model().denoise,
    "linear": mapped,
    "linear, other factor": lambda: mapped(factor=3.0),
    "linear, other y": lambda: mapped(y=0.6),
    "linear, other noise": lambda: mapped(noise=0.02),
    "linear, other std": lambda: mapped(data_std=0.3),
    "linear, other iterations": lambda: mapped(iterations=4),
    "linear, other process": lambda: mapped(sde=VESDE(9.0)),
    "inpainting": painted,
    "inpainting, other mask": lambda: painted(3),
    "inpainting, other image": lambda: painted(image=0.6),
    "inpainting, other weights": lambda: painted(seed=1),
    "super-resolution": lambda: smaller(2),
    "super-resolution, other factor": lambda: smaller(4),
    "deblurring": lambda: blurred(0.1),
    "deblurring, other kernel": lambda: blurred(0.2),
}
DENOISERS: dict[str, Callable[[], Any]] = {
    "denoiser": lambda: from_denoiser(Operator(1.0), VESDE()),
    "other denoiser": lambda: from_denoiser(Operator(2.0), VESDE()),
    "denoiser, other process": lambda: from_denoiser(Operator(1.0), VPSDE()),
    "hidden buffer": lambda: from_denoiser(hidden_buffer(1.0), VESDE()),
    "other hidden buffer": lambda: from_denoiser(hidden_buffer(2.0), VESDE()),
    "dropout in training": lambda: from_denoiser(WithDropout(), VESDE()).train(),
    "dropout in evaluation": lambda: from_denoiser(WithDropout(), VESDE()).eval(),
    "there and back": lambda: from_denoiser(to_denoiser(gaussian(), VESDE()), VESDE()),
    "other there and back": lambda: from_denoiser(to_denoiser(gaussian(0.1), VESDE()), VESDE()),
    "diffusers": discrete,
    "diffusers, other prediction": lambda: discrete("v_prediction"),
    "diffusers, other levels": lambda: discrete(beta=0.03),
    "diffusers, other process": lambda: discrete(sde=VESDE()),
}
AZULA: dict[str, Callable[[], Any]] = {
    "azula": azula,
    "azula, other network": lambda: azula(5),
    "azula, other schedule": lambda: azula(sigma_min=0.02),
    "to azula and back": lambda: to_azula_and_back(0.5),
    "other to azula and back": lambda: to_azula_and_back(0.6),
}
EXACT: dict[str, Callable[[], Any]] = {
    "gaussian": gaussian,
    "gaussian, other mean": lambda: gaussian(0.1),
    "gaussian, other std": lambda: gaussian(std=0.6),
    "gaussian, other process": lambda: gaussian(sde=VESDE(9.0)),
    "mixture": mixture,
    "mixture, other mean": lambda: mixture(0.6),
    "mixture, other std": lambda: mixture(std=0.3),
    "mixture, other weights": lambda: mixture(weight=0.6),
}
OWN: dict[str, Callable[[], Any]] = {
    "closure 2": lambda: closed_over(2.0),
    "closure 3": lambda: closed_over(3.0),
    "helper 2": lambda: helped(2.0),
    "helper 3": lambda: helped(3.0),
    "rewritten": lambda: rewritten(plus=True),
    "rewritten otherwise": lambda: rewritten(plus=False),
    "constant 2": lambda: constant(2.0),
    "constant 3": lambda: constant(3.0),
    "says itself": lambda: SaysItself(2.0),
    "says itself otherwise": lambda: SaysItself(3.0),
    "says itself, other weights": lambda: SaysItself(2.0, seed=1),
}
KINDS = {**NETWORKS, **PROCESSES, **WAYS, **GUIDED, **DENOISERS, **EXACT, **OWN}
