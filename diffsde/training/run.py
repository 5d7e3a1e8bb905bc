"""A training run: its networks, averages and optimisers, and one update of them."""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffsde.data.samples import Samples
from diffsde.errors import InputError, TrainingError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.system.autocast import has_autocast
from diffsde.system.compiler import has_compiler
from diffsde.system.digest import digest
from diffsde.system.host import on_host
from diffsde.system.launch import agreed
from diffsde.training.accelerators import batch_parts
from diffsde.training.losses import fastest_precision, loss_of_images
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image
from diffsde.training.optimizers import AveragedNetwork, load_moments, make_optimizers, moments
from diffsde.training.recipes import Recipe, extended, learning_rate
from diffsde.training.run_folder import State
from diffsde.training.run_state import Progress, RunState, not_a_run, pop_prefixed
from diffsde.training.settled import as_before, settled
from diffsde.training.teacher import Teacher

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Run"]

_CHUNK = 250  # held-out samples in one pass


class Run:
    """A training run: everything that changes from one update to the next.

    Attributes:
        model: the model in training.
        digest: of the training samples and labels.
        divided: the same model, its network wrapped by accelerate to share gradients among
            processes; `steppers` are the wrapped `optimizers`.
        parts: the positions of a batch that this process works on, in turn.
        clipped: gradients shortened since the last log entry.
        stop: set by Ctrl-C or SIGTERM.
    """

    def __init__(
        self,
        data: Samples,
        recipe: Recipe,
        model: ScoreModel,
        accelerator: Accelerator,
        teacher: ScoreModel | None,
    ) -> None:
        _check_precision(recipe, accelerator.device)
        self.data, self.recipe, self.accelerator = data, recipe, accelerator
        self.digest = data.digest()
        self.model = model.to(accelerator.device)
        self.model.data = data.name
        self.teacher = None if teacher is None else Teacher(teacher, model, data)
        self.averages = [AveragedNetwork(model.network, decay) for decay in recipe.averages]
        self.optimizers = make_optimizers(model.network, recipe)
        self.progress = Progress()
        self.clipped = 0
        self.stop = threading.Event()
        width = numbers_per_image(data.shape, recipe)
        self.noise = TrainingNoise(recipe.seed, "training", width)
        self.held_out_noise = TrainingNoise(recipe.seed, "held-out", width)
        accelerator.gradient_accumulation_steps = recipe.accumulate
        self.parts = batch_parts(recipe, accelerator)
        self._compile()
        self._divide()

    def _compile(self) -> None:
        if not self.recipe.compile or not _can_compile():
            return
        self.model.network.compile()
        if self.teacher is not None:
            self.teacher.model.network.compile()

    def _divide(self) -> None:
        network, *self.steppers = self.accelerator.prepare(self.model.network, *self.optimizers)
        if network is not self.model.network:
            network.classes = self.model.classes  # the wrapper does not pass it on
        self.divided = self._model_of(network)

    # -- beginning ---------------------------------------------------------------

    @classmethod
    def start(
        cls,
        data: Samples,
        recipe: Recipe,
        model: ScoreModel,
        accelerator: Accelerator,
        teacher: ScoreModel | None = None,
    ) -> Run:
        """A new run, before its first update."""
        if teacher is not None and recipe.coupling != "independent":
            raise InputError(
                f"coupling = {recipe.coupling!r} with a teacher: expected one of them, because a "
                "teacher knows the mean image given x(t) for independent noise only"
            )
        if recipe.precision == "auto":
            model.to(accelerator.device)
            # Every process measures, but all must use the same: the first one's.
            found = fastest_precision(model, data, recipe, batch_parts(recipe, accelerator)[0])
            recipe = replace(recipe, precision=agreed(found))
        return cls(data, recipe, model, accelerator, teacher)

    @classmethod
    def load(
        cls, path: Path, data: Samples, recipe: Recipe | None, accelerator: Accelerator
    ) -> Run:
        """The run whose state is in that file.

        Raises:
            CheckpointError: the file is damaged or not a run's state.
            InputError: the data or the recipe are not the run's.
        """
        state = RunState.read(path)
        if state.images != tuple(data.samples.shape):
            raise InputError(
                f"{path} was trained on samples of shape {state.images}, not "
                f"{tuple(data.samples.shape)}: resume with the data set that it began with"
            )
        given = as_before(recipe or state.recipe, state.recipe)
        parts = accelerator.num_processes * given.accumulate
        recipe = extended(state.recipe, settled(given, data, parts), path)
        run = cls(data, recipe, state.model, accelerator, state.teacher)
        if state.data is None:
            warnings.warn(
                f"{path} is of an older version, which did not write down on what it was trained: "
                "whether these are the same samples is not checked",
                stacklevel=2,
            )
        elif state.data not in _digests(data, recipe):
            raise InputError(
                f"{path} was trained on other samples or labels of the same shape: resume with the "
                "data set that it began with"
            )
        try:
            run._load_rest(state.rest)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise not_a_run(path, error) from error
        run.progress = state.progress
        return run

    def _load_rest(self, tensors: dict[str, Tensor]) -> None:
        for i, average in enumerate(self.averages):
            average.load_state_dict(pop_prefixed(tensors, f"average{i}."))
        for i, optimizer in enumerate(self.optimizers):
            load_moments(optimizer, pop_prefixed(tensors, f"optimizer{i}."))
        if tensors:
            raise ValueError(f"unknown tensors {sorted(tensors)[:3]}")

    # -- one update --------------------------------------------------------------

    @property
    def held_out(self) -> int:
        """How many samples, the last ones, are set aside."""
        return int(self.recipe.held_out)

    @property
    def train_samples(self) -> int:
        return len(self.data) - self.held_out

    @property
    def steps_per_epoch(self) -> int:
        return self.train_samples // self.recipe.batch_size

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def batches(self, epoch: int) -> list[Tensor]:
        """The indices of the epoch's batches, a function of (seed, epoch)."""
        order = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
        shuffled = torch.randperm(self.train_samples, generator=order, device="cpu")
        size = self.recipe.batch_size
        return list(shuffled[: self.steps_per_epoch * size].split(size))

    def update(self, index: Tensor, *, due: bool = False) -> tuple[bool, bool]:
        """Make one update on the samples with these indices.

        Args:
            index: (batch_size,).
            due: whether this process finds it is time to save the run.

        Returns:
            Whether any process was asked to stop, and whether any finds it is time to save.
        """
        self._set_learning_rate()
        loss, stopping, saving = self._add_gradients(index, due)
        self._clip(loss, index)
        for stepper in self.steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        for average in self.averages:
            average.update_parameters(self.model.network)
        self.progress.pending.append(loss)
        self.progress.step += 1
        return stopping, saving

    def _set_learning_rate(self) -> None:
        rate = learning_rate(self.recipe, self.progress.step, self.steps)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate

    def _add_gradients(self, index: Tensor, due: bool) -> tuple[float, bool, bool]:
        """Differentiate the loss of every part of the batch.

        Returns:
            The mean loss over all processes, and what `update` returns.
        """
        losses = []
        for positions in self.parts:
            with self.accelerator.accumulate(self.divided.network):
                part = index[positions.start : positions.stop]
                device = self.accelerator.device
                numbers = self.noise.draw(self.progress.step, positions, device)
                loss = loss_of_images(
                    self.divided, self.data, part, self.recipe, numbers, self.teacher
                )
                self.accelerator.backward(loss)
            losses.append(loss.detach())
        wishes = losses[0].new_tensor([float(self.stop.is_set()), float(due)])
        own = torch.cat([torch.stack(losses).mean()[None], wishes])
        mean_loss, stopping, saving = self.accelerator.reduce(own, "mean").tolist()
        return mean_loss, stopping > 0, saving > 0

    def _clip(self, loss: float, index: Tensor) -> None:
        """Shorten a gradient that is far longer than usual.

        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        at = self.progress
        parameters = list(self.model.network.parameters())
        norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"at update {at.step} the loss is {loss} and its gradient's norm {norm}, on the "
                f"batch that begins with samples {index[:4].tolist()}: lower the learning rate "
                f"({self.recipe.learning_rate:g}). The last saved state is from before this"
            )
        longest = self.recipe.clip * at.norm
        if longest and norm > longest:
            nn.utils.clip_grads_with_norm_(parameters, longest, on_host(norm))
            norm = longest
            self.clipped += 1
        at.norm = norm if at.step == 0 else 0.99 * at.norm + 0.01 * norm

    # -- what is kept ------------------------------------------------------------

    def _candidates(self) -> list[nn.Module]:
        return [average.module for average in self.averages] or [self.model.network]

    def averaged(self) -> ScoreModel:
        """The model with the best averaged weights, in evaluation mode."""
        best = 0
        if self.progress.held_out:
            losses = self.progress.held_out[-1][1]
            best = losses.index(min(losses))
        return self._model_of(self._candidates()[best]).eval()

    def _model_of(self, network: nn.Module) -> ScoreModel:
        model = self.model
        found = ScoreModel(network, model.sde, model.shape, model.preconditioning, model.data_range)
        found.data = model.data
        return found

    def measure_held_out(self) -> None:
        """Record the loss of every average on the held-out samples, always with the same noise."""
        if not self.held_out:
            return
        models = [self._model_of(network).eval() for network in self._candidates()]
        with torch.no_grad():
            losses = [self._held_out_loss(model) for model in models]
        self.progress.held_out.append((self.progress.step, losses))

    def _held_out_loss(self, model: ScoreModel) -> float:
        """The mean over all held-out samples, which the processes divide among themselves."""
        n, accelerator = self.held_out, self.accelerator
        total = torch.zeros((), device=accelerator.device)
        for first in range(0, n, _CHUNK)[accelerator.process_index :: accelerator.num_processes]:
            positions = range(first, min(first + _CHUNK, n))
            index = self.train_samples + torch.arange(positions.start, positions.stop, device="cpu")
            numbers = self.held_out_noise.draw(0, positions, accelerator.device)
            loss = loss_of_images(model, self.data, index, self.recipe, numbers, self.teacher)
            total += loss * len(positions)
        mean: float = accelerator.reduce(total, "sum").item() / n
        return mean

    def state(self) -> State:
        """Everything needed to resume the run."""
        rest: dict[str, Tensor] = {}
        for i, average in enumerate(self.averages):
            rest |= {f"average{i}.{k}": v for k, v in average.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            rest |= {f"optimizer{i}.{k}": v for k, v in moments(optimizer).items()}
        shape = tuple(self.data.samples.shape)
        teacher = self._taught_by()
        run = RunState(self.recipe, self.model, teacher, shape, self.digest, self.progress, rest)
        return run.contents()

    def _taught_by(self) -> ScoreModel | None:
        return None if self.teacher is None else self.teacher.model

    def card(self) -> dict[str, Any]:
        """What the model's file says about its training."""
        at, teacher = self.progress, self.teacher
        return {
            "data": self.data.name,
            "recipe": asdict(self.recipe),
            "teacher": None
            if teacher is None
            else {**describe_model(teacher.model), "digest": teacher.digest},
            "updates": at.step,
            "seconds": round(at.seconds),
            "loss": at.losses[-1][1] if at.losses else None,
            "held_out_loss": min(at.held_out[-1][1]) if at.held_out else None,
        }


def _digests(data: Samples, recipe: Recipe) -> list[str]:
    """The digests of runs on these data: labels that are not used need not be the same."""
    unused = [] if recipe.classes else [digest([data.samples])]
    return [data.digest(), *unused]


def _check_precision(recipe: Recipe, device: torch.device) -> None:
    if recipe.precision == "bfloat16" and not has_autocast(device):
        raise InputError(
            f"precision = 'bfloat16' on {device.type}, for which torch has no autocast: choose "
            "'float32', or 'auto', which is float32 there. A run that began in bfloat16 goes on "
            "where there is autocast, such as on a CPU (ACCELERATE_USE_CPU=true)"
        )


def _can_compile() -> bool:
    if has_compiler():
        return True
    warnings.warn("no C++ compiler was found: training continues uncompiled", stacklevel=2)
    return False
