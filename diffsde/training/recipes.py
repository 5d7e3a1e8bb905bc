"""Recipes: how to train, as data that is saved with a run and set on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from diffsde.data.samples import Samples
from diffsde.equations.named import SDES
from diffsde.errors import InputError, name_list
from diffsde.scores.networks import NETWORKS
from diffsde.scores.preconditioning import PRECONDITIONINGS
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_matching import SMALLEST_TIME
from diffsde.system.numbers import plain
from diffsde.training.coupling import COUPLINGS
from diffsde.training.objectives import OBJECTIVES

__all__ = [
    "OPTIMIZERS",
    "RECIPES",
    "SCHEDULES",
    "WARM_UP",
    "Recipe",
    "extended",
    "learning_rate",
    "usual_recipe",
]

OPTIMIZERS = ("adam", "muon")
_PRECISIONS = ("auto", "float32", "bfloat16")

WARM_UP = 200  # updates over which the learning rate rises from zero
_MOST_AVERAGES = 16  # each is a copy of the network
_SEEDS = 2**32
_EXTENDABLE = ("epochs", "accumulate")  # what may change when a run is resumed
_POSITIVE = (
    "smallest_time",
    "epochs",
    "batch_size",
    "accumulate",
    "learning_rate",
    "level_std",
)


def _constant(_progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _trapezoid(progress: float) -> float:
    # Flat at first, so that a run can go on until its length is chosen, by --epochs.
    return min(1.0, (1 - progress) / 0.3)


# The learning rate as a share of its maximum, a function of the share of updates made.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "trapezoid": _trapezoid,
}


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the tutorial's network and loss.

    Attributes:
        network: a name from `NETWORKS`: "MLP" for points and signals.
        sde: a name from `SDES`, the forward process if `train` is given none.
        preconditioning: a name from `PRECONDITIONINGS`: what the network's output means.
        sigma_data: root mean square of the data, for preconditioning and loss; 0: measured, or
            that of the model that a run starts from.
        objective: a name from `OBJECTIVES`: how noise levels are drawn and weighted.
        smallest_time: lower bound of t; for likelihoods, the ε at which they are wanted.
        level_mean, level_std: mean and std of ln σ, for the objectives "lognormal" and
            "flow-logit-normal", where they are those of logit t on straight lines.
        coupling: which noise goes with which image: "independent", or "optimal" for optimal
            transport within each part of a batch that a process works on. The network then has a
            probability flow but no reverse SDE, so it needs preconditioning "coupled-flow" and a
            flow's objective.
        dequantise: learn images (k + u) / 256 instead of k / 255, where k is a pixel's level, 0
            to 255, and u is uniform on [0, 1): for the likelihood of dequantised images.
        mirror: mirror half of the images, left to right: for photographs, not for digits.
        optimizer: "adam", or "muon": Muon for the hidden weight matrices and Adam for the
            rest.
        epochs: passes through the training samples; may be changed when a run is resumed.
        batch_size: samples in one update, over all processes. For a set of fewer than 1,000
            samples it is cut to what there is, with a warning.
        accumulate: parts into which each process splits its share of a batch, to save memory;
            may be changed when a run is resumed.
        learning_rate: its maximum.
        schedule: a name from `SCHEDULES`; each begins with a short warm-up.
        averages: decays of exponential moving averages of the weights; the one with the
            lowest held-out loss is kept. Empty for none.
        clip: a gradient longer than this many times its running mean is shortened; 0: never.
        held_out: share of the training samples set aside to choose among the averages, below
            1; or their number, from 1.
        seed: seed of initial weights, order of images, times and noise; 0 to 2³² − 1.
        precision: "float32", "bfloat16" (autocast), or "auto": whichever is faster here, and
            float32 on a device for which torch has no autocast.
        classes: how many classes the network knows; 0: it takes no class labels.
        class_dropout: share of images whose label is dropped, so that the network learns
            the score without a class too.
        blocks: numbers of blocks of "ResidualUNet" or "LevelUNet" before, in and after its inner
            part. Empty for the defaults, or those of the model that a run starts from, which may
            have fewer inner blocks.
        width, depth: of "MLP": width of its layers and number of its blocks. 0 for the defaults,
            or those of the model that a run starts from.
        waves: frequencies of `PixelWaves`, which the network is given beside the image, for
            likelihoods; only for "ResidualUNet" and "LevelUNet".
        compile: compile the network: faster updates, after a minute at the start. Without a
            C++ compiler the run continues uncompiled, with a warning.

    Raises:
        InputError: a value has another type or is out of range.
    """

    network: str = "ScoreUNet"
    sde: str = "VESDE"
    preconditioning: str = "score"
    sigma_data: float = 0.0
    objective: str = "uniform"
    smallest_time: float = SMALLEST_TIME
    level_mean: float = -1.0
    level_std: float = 1.4
    coupling: str = "independent"
    dequantise: bool = False
    mirror: bool = False
    optimizer: str = "adam"
    epochs: int = 50
    batch_size: int = 128
    accumulate: int = 1
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    averages: tuple[float, ...] = (0.999,)
    clip: float = 10.0
    held_out: float = 0.02
    seed: int = 0
    precision: str = "auto"
    classes: int = 0
    class_dropout: float = 0.2
    blocks: tuple[int, ...] = ()
    width: int = 0
    depth: int = 0
    waves: tuple[int, ...] = ()
    compile: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = plain(getattr(self, field.name))
            if isinstance(field.default, tuple) and isinstance(value, (list, tuple)):
                value = tuple(map(plain, value))
            object.__setattr__(self, field.name, value)
            _check_type(field.name, getattr(self, field.name), type(field.default))
        self._check_numbers()
        self._check_network()
        for name, valid in _CHOICES.items():
            value = getattr(self, name)
            if value not in valid:
                raise InputError(f"{name} = {value!r}: {name_list(str(value), valid)}")
        self._check_coupling()

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            self._check(name, getattr(self, name) > 0, "a positive number")
        for name in ("clip", "held_out", "classes", "sigma_data"):
            self._check(name, getattr(self, name) >= 0, "zero or more")
        whole = self.held_out < 1 or self.held_out == int(self.held_out)
        self._check("held_out", whole, "a share below 1, or a whole number")
        self._check("seed", 0 <= self.seed < _SEEDS, f"0 to {_SEEDS - 1}")
        self._check("class_dropout", 0 <= self.class_dropout <= 1, "a share, 0 to 1")
        good = all(type(a) in (int, float) and 0 <= a < 1 for a in self.averages)
        self._check("averages", good, "numbers from 0 to below 1")
        few = len(self.averages) <= _MOST_AVERAGES
        self._check("averages", few, f"at most {_MOST_AVERAGES} of them")

    def _check_network(self) -> None:
        for name, most, largest in (("blocks", 3, 64), ("waves", 16, 65536)):
            values = getattr(self, name)
            good = len(values) <= most
            good &= all(type(value) is int and 1 <= value <= largest for value in values)
            self._check(name, good, f"at most {most} whole numbers, 1 to {largest}")
            residual = [n for n, cls in NETWORKS.items() if issubclass(cls, ResidualUNet)]
            if values and self.network not in residual:
                expected = " or ".join(residual)
                raise InputError(f"{name} = {values} with {self.network}: expected {expected}")
        self._check("blocks", len(self.blocks) in (0, 3), "three numbers, or none")
        for name, most in (("width", 8192), ("depth", 64)):
            value = getattr(self, name)
            self._check(name, 0 <= value <= most, f"0 to {most}")
            if value and self.network != "MLP":
                raise InputError(f"{name} = {value} with {self.network}: expected MLP")
        network: Any = NETWORKS.get(self.network)
        if hasattr(network, "pixel_levels"):
            what = f"with {self.network}, which returns means of levels k / 255"
            good = self.preconditioning == network.preconditioning
            self._check("preconditioning", good, f"{network.preconditioning!r} {what}")
            self._check("dequantise", not self.dequantise, f"False {what}")
        if self.waves and self.preconditioning in ("score", "flow", "coupled-flow"):
            raise InputError(
                f"waves = {self.waves} with preconditioning {self.preconditioning!r}: expected "
                "one that gives the network the noise level, such as 'edm'"
            )

    def _check_coupling(self) -> None:
        coupled = self.preconditioning == "coupled-flow"
        if coupled != (self.coupling != "independent"):
            raise InputError(
                f"coupling = {self.coupling!r} with preconditioning = {self.preconditioning!r}: "
                "'optimal' and 'coupled-flow' go together, and neither with anything else, because "
                "what is learned from coupled noise is a flow and not a score"
            )
        if coupled and not self.objective.startswith("flow"):
            raise InputError(
                f"coupling = {self.coupling!r} with objective {self.objective!r}: expected 'flow' "
                "or 'flow-logit-normal'"
            )
        if coupled and self.classes:
            raise InputError(
                f"coupling = {self.coupling!r} with classes = {self.classes}: expected no classes, "
                "since the noise that is paired with a class would not be normal"
            )

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise InputError(f"{name} = {getattr(self, name)}: expected {expected}")


def _check_type(name: str, value: Any, expected: type) -> None:
    good = type(value) is expected
    if expected is float:
        # A whole number of a thousand digits does not fit into a float.
        good = type(value) in (int, float) and -1e300 < value < 1e300
    if not good:
        raise InputError(f"{name} = {value!r:.80}: expected {_TYPES[expected]}")


_TYPES = {
    bool: "True or False",
    float: "a finite number",
    int: "a whole number",
    str: "a name",
    tuple: "a tuple of numbers",
}
_CHOICES: dict[str, Any] = {
    "network": NETWORKS,
    "preconditioning": PRECONDITIONINGS,
    "objective": OBJECTIVES,
    "sde": SDES,
    "coupling": COUPLINGS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": _PRECISIONS,
}

RECIPES: dict[str, Recipe] = {
    "mnist-tutorial": Recipe(),
    "images": Recipe(
        network="ResidualUNet",
        preconditioning="edm",
        objective="lognormal",
        optimizer="muon",
        learning_rate=3e-3,
        schedule="trapezoid",
        averages=(0.998, 0.9995),
        compile=True,
    ),
}
RECIPES["mnist"] = replace(
    RECIPES["images"],
    epochs=30,
    level_mean=-0.3,  # where digits are decided
    level_std=1.2,
    held_out=1000,
    classes=10,
    class_dropout=0.1,
    blocks=(1, 6, 1),
)
RECIPES["points"] = Recipe(
    network="MLP",
    preconditioning="edm",
    objective="lognormal",
    batch_size=256,
    epochs=100,
    learning_rate=2e-3,
    averages=(0.995,),
    precision="float32",
)
RECIPES["mnist-likelihood"] = replace(
    RECIPES["images"],
    network="LevelUNet",
    preconditioning="denoised",
    objective="likelihood",
    smallest_time=2e-7,  # noise of a ninth of a level, at which no level is in doubt
    waves=(8, 16, 32, 64, 128, 256, 512, 1024),
)
RECIPES["mnist-flow"] = replace(
    RECIPES["images"],
    sde="StraightSDE",
    preconditioning="flow",
    objective="flow-logit-normal",
    level_mean=0.0,
    level_std=1.0,
)


def usual_recipe(data: Samples) -> Recipe:
    """The recipe for data of this kind: the tutorial's for images, "points" for all others."""
    return Recipe() if len(data.shape) == 3 else RECIPES["points"]


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at update `step` of `steps`."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return recipe.learning_rate * warm * SCHEDULES[recipe.schedule](step / steps)


def extended(saved: Recipe, given: Recipe, path: Path) -> Recipe:
    """The saved recipe with the given one's values where they may change.

    Raises:
        InputError: anything else differs.
    """
    for name in (entry.name for entry in fields(Recipe)):
        old, new = getattr(saved, name), getattr(given, name)
        if old != new and name not in _EXTENDABLE:
            raise InputError(
                f"{path} was trained with {name} = {old!r}, not {new!r}: resume without "
                f"that option (only {', '.join(_EXTENDABLE)} may change), or start a new run"
            )
    return replace(saved, **{name: getattr(given, name) for name in _EXTENDABLE})
