r"""Training: denoising score matching.

Every objective here is a weighted error of the denoiser D at random times,

    loss  =  E  w(σ) ‖ D(a x(0) + s z, t) − x(0) ‖²,     σ = s / a,

summed over pixels; objectives differ in how t is drawn and in w (`OBJECTIVES`):

| name         | t                                | w(σ)             | source, arXiv         |
|--------------|----------------------------------|------------------|-----------------------|
| "uniform"    | uniform on [1e-5, T]             | 1/σ²             | 2011.13456, eq. 7     |
| "lognormal"  | ln σ ~ N(level_mean, level_std²) | 1/σ² + 1/σ_data² | 2206.00364, table 1   |
| "likelihood" | ln σ uniform over its range      | 1/σ²             | 2101.09258, sec. 4.3  |

With the first, the loss is that of `score_matching_loss`. The third is the bound on the
log-likelihood, λ(t) = g(t)², drawn by importance: since dσ²/dt = g²/a² for every linear
forward process, its times are those whose ln σ is uniform. A network that returns zero
scores the number of pixels in the first and the last, and about that in the second.

A run is a folder. It holds `model.safetensors`, the averaged network, ready for
`load_model`; `state.safetensors`, all that is needed to go on; `loss.csv` and
`loss.png`. Both safetensors files are replaced whole, after every epoch and when
the run is interrupted, so a stopped run can be used and resumed at any time.

The order of the images is a function of (seed, epoch), the times and the noise
come from a generator whose state is saved: a resumed run continues as if it had
never stopped.
"""

from __future__ import annotations

import copy
import csv
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from diffsde.checkpoint import build_model, describe_model, save_model
from diffsde.data import ImageData
from diffsde.errors import CheckpointError, InputError, TrainingError, name_list
from diffsde.networks import NETWORKS, make_network
from diffsde.plots import plot_losses
from diffsde.preconditioning import PRECONDITIONINGS, make_preconditioning
from diffsde.score import SMALLEST_TIME, ScoreModel
from diffsde.sde import SDE, VESDE, expand
from diffsde.tensorfile import read_tensors, write_tensors

__all__ = [
    "OBJECTIVES",
    "RECIPES",
    "SCHEDULES",
    "Objective",
    "Recipe",
    "learning_rate",
    "train",
    "training_loss",
]

_WARM_UP = 200  # updates over which the learning rate rises from zero
_LOG_EVERY = 50  # updates averaged into one line of loss.csv
_PRECISIONS = ("auto", "float32", "bfloat16")
_OPTIMIZERS = ("adam", "muon")
_EXTENDABLE = ("epochs",)  # what may change when a run is resumed


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the tutorial's network and loss.

    Attributes:
        network: a name from `NETWORKS`.
        preconditioning: a name from `PRECONDITIONINGS`: what the network's output means.
        sigma_data: root mean square of the data, for preconditioning and loss (MNIST: 0.33).
        objective: a name from `OBJECTIVES`: how noise levels are drawn and weighted.
        level_mean, level_std: of ln σ, for the objective "lognormal".
        optimizer: "adam", or "muon": Muon for the weight matrices inside the network, Adam
            for the rest (needs torch ≥ 2.9).
        epochs: passes through the training images; may be changed when a run is resumed.
        batch_size: images in one update.
        learning_rate: at its highest.
        schedule: a name from `SCHEDULES`, all after a short warm-up.
        averages: decays of exponential moving averages of the weights; the one with the
            lowest held-out loss is kept. Empty for none.
        clip: a gradient longer than this many times its running mean is shortened; 0: never.
        held_out: training images kept apart, to choose among the averages.
        seed: of initial weights, order of images, times and noise.
        precision: "float32", "bfloat16" (autocast), or "auto": whichever is faster here.
        classes: how many classes of images the network is told of; 0: it takes no labels.
        class_dropout: share of images whose class is not told, so that the network knows
            the score without a class too.
        compile: compile the network: faster updates for a minute at the start. Without a C++
            compiler the run goes on uncompiled, with a warning.
    """

    network: str = "ScoreUNet"
    preconditioning: str = "score"
    sigma_data: float = 0.33
    objective: str = "uniform"
    level_mean: float = -1.0
    level_std: float = 1.4
    optimizer: str = "adam"
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    averages: tuple[float, ...] = (0.999,)
    clip: float = 10.0
    held_out: int = 1000
    seed: int = 0
    precision: str = "auto"
    classes: int = 0
    class_dropout: float = 0.2
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "averages", tuple(self.averages))
        for name in ("epochs", "batch_size", "learning_rate", "level_std", "sigma_data"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)}: expected a positive number")
        for name in ("clip", "held_out", "classes"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: expected zero or more")
        if not all(0 <= average < 1 for average in self.averages):
            raise InputError(f"averages = {self.averages}: expected numbers from 0 to below 1")
        if not 0 <= self.class_dropout <= 1:
            raise InputError(f"class_dropout = {self.class_dropout}: expected a share, 0 to 1")
        for name, valid in _CHOICES.items():
            value = getattr(self, name)
            if value not in valid:
                raise InputError(f"{name} = {value!r}: {name_list(str(value), valid)}")


def _constant(_progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _trapezoid(progress: float) -> float:
    # A run whose end is not known yet is trained flat; its end is then chosen by --epochs.
    return min(1.0, (1 - progress) / 0.3)


# The share of the highest learning rate, against the share of the updates done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "trapezoid": _trapezoid,
}


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of update `step` out of `steps`."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    return recipe.learning_rate * warm * SCHEDULES[recipe.schedule](step / steps)


# -- objectives --------------------------------------------------------------------


def _uniform_times(
    _recipe: Recipe, sde: SDE, count: int, generator: torch.Generator | None
) -> Tensor:
    return SMALLEST_TIME + (sde.T - SMALLEST_TIME) * torch.rand(count, generator=generator)


def _lognormal_times(
    recipe: Recipe, sde: SDE, count: int, generator: torch.Generator | None
) -> Tensor:
    log_level = recipe.level_mean + recipe.level_std * torch.randn(count, generator=generator)
    low, high = _log_level_range(sde)
    return sde.time_of_noise_level(log_level.clamp(low, high).exp())


def _loguniform_times(
    _recipe: Recipe, sde: SDE, count: int, generator: torch.Generator | None
) -> Tensor:
    low, high = _log_level_range(sde)
    return sde.time_of_noise_level(
        (low + (high - low) * torch.rand(count, generator=generator)).exp()
    )


def _log_level_range(sde: SDE) -> tuple[float, float]:
    ends = sde.noise_level(torch.tensor([SMALLEST_TIME, sde.T], dtype=torch.float64)).log()
    return float(ends[0]), float(ends[1])


def _noise_weight(_recipe: Recipe, sigma: Tensor) -> Tensor:
    return 1 / sigma**2


def _edm_weight(recipe: Recipe, sigma: Tensor) -> Tensor:
    return 1 / sigma**2 + 1 / recipe.sigma_data**2


class Objective(NamedTuple):
    """How times are drawn, (recipe, sde, count, generator) -> (count,), and the weight w(σ)."""

    times: Callable[[Recipe, SDE, int, torch.Generator | None], Tensor]
    weight: Callable[[Recipe, Tensor], Tensor]


OBJECTIVES: dict[str, Objective] = {
    "uniform": Objective(_uniform_times, _noise_weight),
    "lognormal": Objective(_lognormal_times, _edm_weight),
    "likelihood": Objective(_loguniform_times, _noise_weight),
}

_CHOICES: dict[str, Any] = {
    "network": NETWORKS,
    "preconditioning": PRECONDITIONINGS,
    "objective": OBJECTIVES,
    "optimizer": _OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": _PRECISIONS,
}

RECIPES: dict[str, Recipe] = {
    "mnist-tutorial": Recipe(),
    "mnist": Recipe(
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


def training_loss(
    model: ScoreModel,
    x: Tensor,
    recipe: Recipe,
    generator: torch.Generator | None = None,
    class_label: Tensor | None = None,
) -> Tensor:
    """The recipe's objective on a batch x of shape (B, C, H, W): a scalar, in pixels.

    Class labels are (B,); a share of them, the recipe's class_dropout, is not told.
    """
    objective = OBJECTIVES[recipe.objective]
    t = objective.times(recipe, model.sde, len(x), generator)
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    if class_label is not None:
        dropped = torch.rand(len(x), generator=generator) < recipe.class_dropout
        class_label = class_label.masked_fill(dropped, -1)
    mean, std = model.sde.marginal_prob(x, t)
    error = model.denoise(mean + std * z, t, class_label) - x
    weighted: Tensor = (
        expand(objective.weight(recipe, model.sde.noise_level(t)), x) * error.square()
    )
    return weighted.flatten(1).sum(1).mean()


# -- training ----------------------------------------------------------------------


def train(
    out: str | os.PathLike[str],
    data: ImageData,
    recipe: Recipe | None = None,
    *,
    sde: SDE | None = None,
    start_from: ScoreModel | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
) -> ScoreModel:
    """Train a network and return the model with its averaged weights.

    Args:
        out: folder of the run, made if need be.
        data: the training images.
        recipe: how to train; when resuming, that of the run is used if left out.
        sde: the forward process, the tutorial's VE SDE by default.
        start_from: a trained model to begin from, instead of fresh weights: its network,
            SDE and preconditioning are the run's, and must be the recipe's by name.
        resume: go on with the run in `out`.
        tensorboard: log the loss there too (needs the extra `tensorboard`).
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the update under way, when the run is saved.
        TrainingError: the loss is no longer finite, `out` holds another run, or cannot be
            written to.
        CheckpointError: there is nothing to resume from, or it is damaged.
    """
    folder = Path(out)
    state = folder / "state.safetensors"
    if resume:
        run = _Run.load(state, data, recipe)
    elif state.exists():
        raise TrainingError(
            f"{folder} already holds a run: resume it (--resume), or choose another folder"
        )
    else:
        run = _Run.start(data, recipe or Recipe(), sde or VESDE(), start_from)
    writer = _tensorboard_writer(folder) if tensorboard else None
    try:
        run.go_on(folder, writer, progress)
    finally:
        if writer is not None:
            writer.close()
    return run.averaged()


class _Run:
    """A training run: everything that changes from one update to the next."""

    def __init__(self, data: ImageData, recipe: Recipe, model: ScoreModel) -> None:
        if len(data.images) - recipe.held_out < recipe.batch_size:
            raise InputError(
                f"{len(data.images)} images, {recipe.held_out} of them held out, are less than "
                f"one batch of {recipe.batch_size}: choose a smaller batch_size or held_out"
            )
        if recipe.classes and _class_count(data) > recipe.classes:
            raise InputError(
                f"{data.name} has {_class_count(data)} classes, the recipe {recipe.classes}: "
                "set classes to as many"
            )
        self.data, self.recipe, self.model = data, recipe, model
        self.averages = [
            AveragedModel(model.network, avg_fn=None, multi_avg_fn=_average_fn(decay, self))
            for decay in recipe.averages
        ]
        self.optimizers = _optimizers(model.network, recipe)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step = 0
        self.seconds = 0.0
        self.norm = 0.0  # running mean of the gradient's norm
        self.losses: list[tuple[int, float]] = []
        self.held_out: list[tuple[int, list[float]]] = []
        self.pending: list[float] = []
        if recipe.compile and _can_compile():
            model.network.compile()

    # -- beginning ---------------------------------------------------------------

    @classmethod
    def start(
        cls, data: ImageData, recipe: Recipe, sde: SDE, begin: ScoreModel | None = None
    ) -> _Run:
        if begin is None:
            model = _fresh_model(data, recipe, sde)
        else:
            model = _begun_model(begin, data, recipe)
        if model.sde.data_mean is None:
            model.sde.centre(data.mean())
        if recipe.precision == "auto":
            recipe = replace(recipe, precision=_fastest_precision(model, data, recipe))
        return cls(data, recipe, model)

    @classmethod
    def load(cls, path: Path, data: ImageData, recipe: Recipe | None) -> _Run:
        tensors, notes = read_tensors(path)
        saved, model, trained_on = _read_notes(notes, path)
        if trained_on != list(data.images.shape):
            raise InputError(
                f"{path} was trained on images of shape {tuple(trained_on)}, not "
                f"{tuple(data.images.shape)}: resume with the data set it began with"
            )
        try:
            model.sde.centre(tensors.pop("data_mean"))
            run = cls(data, _extended(saved, recipe or saved, path), model)
            run._load_tensors(tensors)
            run.step, run.seconds, run.norm = notes["step"], notes["seconds"], notes["norm"]
            run.losses = [(step, loss) for step, loss in notes["losses"]]
            run.held_out = [(step, losses) for step, losses in notes["held_out"]]
            run.pending = notes["pending"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise _not_a_run(path, error) from error
        return run

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.network.load_state_dict(part("network."))
        for i, average in enumerate(self.averages):
            average.load_state_dict(part(f"average{i}."))
        for i, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimizer{i}.").items():
                index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])

    # -- the loop ----------------------------------------------------------------

    @property
    def train_images(self) -> int:
        return len(self.data.images) - self.recipe.held_out

    @property
    def steps_per_epoch(self) -> int:
        return self.train_images // self.recipe.batch_size

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def go_on(self, folder: Path, writer: Any, progress: bool) -> None:
        started = time.perf_counter() - self.seconds
        bar = tqdm(total=self.steps, initial=self.step, unit="update", disable=not progress)
        with bar, _stop_requested() as stop:
            while self.step < self.steps:
                epoch, first = divmod(self.step, self.steps_per_epoch)
                for index in self._batches(epoch)[first:]:
                    self._update(index)
                    bar.update()
                    self._log(bar, writer)
                    if stop.is_set():
                        break
                self.seconds = time.perf_counter() - started
                self.save(folder)
                if stop.is_set():
                    raise KeyboardInterrupt

    def _batches(self, epoch: int) -> list[Tensor]:
        """The epoch's batches of indices, a function of (seed, epoch)."""
        order = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
        shuffled = torch.randperm(self.train_images, generator=order)
        size = self.recipe.batch_size
        return list(shuffled[: self.steps_per_epoch * size].split(size))

    def _update(self, index: Tensor) -> None:
        rate = learning_rate(self.recipe, self.step, self.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        batch = _batch(self.data, self.recipe, index)
        loss = _loss(self.model, batch, self.recipe, self.generator)
        loss.backward()
        self._clip(loss.item(), index)
        for optimizer in self.optimizers:
            optimizer.step()
        for average in self.averages:
            average.update_parameters(self.model.network)
        self.pending.append(loss.item())
        self.step += 1

    def _clip(self, loss: float, index: Tensor) -> None:
        """Shorten a gradient that is far longer than usual; stop at one that is not finite."""
        parameters = list(self.model.network.parameters())
        norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"at update {self.step} the loss is {loss} and its gradient's norm {norm}, on the "
                f"batch that begins with images {index[:4].tolist()}: lower the learning rate "
                f"({self.recipe.learning_rate:g}). The last saved state is from before"
            )
        longest = self.recipe.clip * self.norm
        if longest and norm > longest:
            nn.utils.clip_grads_with_norm_(parameters, longest, torch.tensor(norm))
            norm = longest
        self.norm = norm if self.step == 0 else 0.99 * self.norm + 0.01 * norm

    def _log(self, bar: tqdm, writer: Any) -> None:
        if len(self.pending) < _LOG_EVERY and self.step < self.steps:
            return
        loss = sum(self.pending) / len(self.pending)
        self.losses.append((self.step, loss))
        self.pending = []
        bar.set_postfix(loss=f"{loss:.2f}")
        trivial = math.prod(self.model.shape)
        if loss > 1.2 * trivial and self.step > _WARM_UP:
            warnings.warn(
                f"the loss is {loss:.0f} at update {self.step}, more than the {trivial} of a "
                "network that returns zero: lower the learning rate",
                stacklevel=2,
            )
        if writer is not None:
            writer.add_scalar("loss", loss, self.step)

    # -- what is kept ------------------------------------------------------------

    def _candidates(self) -> list[nn.Module]:
        return [average.module for average in self.averages] or [self.model.network]

    def averaged(self) -> ScoreModel:
        """The model with the best averaged weights, in evaluation mode."""
        best = 0
        if self.held_out:
            losses = self.held_out[-1][1]
            best = losses.index(min(losses))
        return self._model_of(self._candidates()[best])

    def _model_of(self, network: nn.Module) -> ScoreModel:
        model = self.model
        return ScoreModel(network, model.sde, model.shape, model.preconditioning).eval()

    def _measure_held_out(self) -> None:
        """Append the loss of every average on the images kept apart, always with one noise."""
        if not self.recipe.held_out:
            return
        losses = []
        with torch.no_grad():
            for network in self._candidates():
                generator = torch.Generator().manual_seed(self.recipe.seed)
                total = 0.0
                for index in torch.arange(self.train_images, len(self.data.images)).split(250):
                    batch = _batch(self.data, self.recipe, index)
                    loss = _loss(self._model_of(network), batch, self.recipe, generator)
                    total += loss.item() * len(index)
                losses.append(total / self.recipe.held_out)
        self.held_out.append((self.step, losses))

    def save(self, folder: Path) -> None:
        """Write model, state and losses; what was saved before stays whole if that fails."""
        self._measure_held_out()
        tensors, notes = self._state()
        try:
            write_tensors(folder / "state.safetensors", tensors, notes)
            save_model(self.averaged(), folder / "model.safetensors", **self._card())
            self._write_losses(folder)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{folder}: the run could not be saved at update {self.step} ({error}). What was "
                "saved before is whole: make room or allow writing there, then resume (--resume)"
            ) from error

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on."""
        tensors = {f"network.{k}": v for k, v in self.model.network.state_dict().items()}
        for i, average in enumerate(self.averages):
            tensors |= {f"average{i}.{k}": v for k, v in average.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{i}.{j}.{k}": v for k, v in moments.items()}
        tensors["generator"] = self.generator.get_state()
        tensors["data_mean"] = self.model.sde.data_mean
        notes = {
            "recipe": asdict(self.recipe),
            "model": describe_model(self.model),
            "images": list(self.data.images.shape),
            "step": self.step,
            "seconds": self.seconds,
            "norm": self.norm,
            "losses": self.losses,
            "held_out": self.held_out,
            "pending": self.pending,
        }
        return tensors, notes

    def _card(self) -> dict[str, Any]:
        return {
            "data": self.data.name,
            "recipe": asdict(self.recipe),
            "updates": self.step,
            "seconds": round(self.seconds),
            "loss": self.losses[-1][1] if self.losses else None,
            "held_out_loss": min(self.held_out[-1][1]) if self.held_out else None,
        }

    def _write_losses(self, folder: Path) -> None:
        with (folder / "loss.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("update", "loss"), *self.losses])
        if self.losses:
            plot_losses(self.losses, folder / "loss.png")


def _class_count(data: ImageData) -> int:
    if data.labels is None:
        raise InputError(f"{data.name} has no labels to tell the network: set classes = 0")
    return int(data.labels.max()) + 1


class _Batch(NamedTuple):
    images: Tensor
    classes: Tensor | None  # of the images, if the network is told of them


def _batch(data: ImageData, recipe: Recipe, index: Tensor) -> _Batch:
    told = data.labels if recipe.classes else None
    return _Batch(data.batch(index), None if told is None else told[index])


def _average_fn(decay: float, run: _Run) -> Any:
    """An exponential moving average that begins as a plain mean, free of the initial weights."""

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], _: int) -> None:
        weight = 1 - min(decay, (1 + run.step) / (10 + run.step))
        torch._foreach_lerp_(averages, current, weight)

    return update


def _optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam for all; or Muon for the weight matrices inside the network and Adam for the rest."""
    parameters = dict(network.named_parameters())
    adam_betas = (0.9, 0.99) if recipe.optimizer == "muon" else (0.9, 0.999)
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(parameters.values(), recipe.learning_rate, adam_betas)]
    if not hasattr(torch.optim, "Muon"):
        raise InputError(
            f"optimizer = 'muon' needs torch ≥ 2.9, and this is {torch.__version__}: "
            "upgrade torch or choose 'adam'"
        )
    # Muon is for maps between hidden layers: not for the first, the last or the embedding.
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


def _fresh_model(data: ImageData, recipe: Recipe, sde: SDE) -> ScoreModel:
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        classes = {"classes": recipe.classes} if recipe.classes else {}
        network = make_network(recipe.network, sde, in_channels=data.shape[0], **classes)
    preconditioning = make_preconditioning(recipe.preconditioning, recipe.sigma_data)
    return ScoreModel(network, copy.deepcopy(sde), data.shape, preconditioning)


def _begun_model(begin: ScoreModel, data: ImageData, recipe: Recipe) -> ScoreModel:
    _check_begins(begin, data, recipe)
    model = copy.deepcopy(begin).train().requires_grad_(True)
    if recipe.classes != model.classes:
        model.network = _told_of_classes(model, recipe)
    return model


def _told_of_classes(model: ScoreModel, recipe: Recipe) -> nn.Module:
    """The model's network with its weights, and an embedding of classes that says nothing yet."""
    if model.classes or not recipe.classes:
        raise InputError(
            f"start_from knows {model.classes} classes, and the recipe has {recipe.classes}: "
            "set classes to as many"
        )
    config = {**describe_model(model)["network"]["args"], "classes": recipe.classes}
    network = make_network(recipe.network, model.sde, **config)
    network.load_state_dict(network.state_dict() | model.network.state_dict())
    return network


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


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that an update is never left half done.

    A second Ctrl-C interrupts at once. Signals reach the main thread only: elsewhere
    the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _can_compile() -> bool:
    if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++"):
        return True
    warnings.warn("no C++ compiler was found: training goes on uncompiled", stacklevel=2)
    return False


def _loss(
    model: ScoreModel, batch: _Batch, recipe: Recipe, generator: torch.Generator | None
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        return training_loss(model, batch.images, recipe, generator, batch.classes)


def _fastest_precision(model: ScoreModel, data: ImageData, recipe: Recipe) -> str:
    """Time a few updates in either precision; the winner is recorded in the run."""
    batch = _batch(data, recipe, torch.arange(recipe.batch_size))
    seconds = {}
    for precision in ("float32", "bfloat16"):
        times = []
        for _ in range(4):
            started = time.perf_counter()
            generator = torch.Generator().manual_seed(0)
            _loss(model, batch, replace(recipe, precision=precision), generator).backward()
            times.append(time.perf_counter() - started)
        seconds[precision] = min(times[1:])
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda precision: seconds[precision])


def _extended(saved: Recipe, given: Recipe, path: Path) -> Recipe:
    """The saved recipe with what may change; an error if anything else differs."""
    for field in fields(Recipe):
        old, new = getattr(saved, field.name), getattr(given, field.name)
        measured = field.name == "precision" and new == "auto"
        if old != new and not measured and field.name not in _EXTENDABLE:
            raise InputError(
                f"{path} was trained with {field.name} = {old!r}, not {new!r}: resume without "
                f"that option (only {', '.join(_EXTENDABLE)} may change), or start a new run"
            )
    return replace(saved, **{name: getattr(given, name) for name in _EXTENDABLE})


def _read_notes(notes: Any, path: Path) -> tuple[Recipe, ScoreModel, list[int]]:
    """Recipe, model with fresh weights, and the shape of the images of a saved run."""
    try:
        return Recipe(**notes["recipe"]), build_model(notes["model"]), notes["images"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _not_a_run(path, error) from error


def _not_a_run(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: not the state of a training run ({type(error).__name__}: {error})"
    )


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tensorboard is not installed: pip install 'diffsde[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
