"""What each step from the tutorial's recipe to this package's brings, in equal seconds.

    python tests/benchmarks/ablation.py [--seconds 240] [--images 1000]

Each row adds one step to the row above it, and trains as many updates as fit into the same
seconds of one thread's processor time: counted from the first few updates, so that the
learning rate falls to its end; compiling is not counted. Scores: the denoising loss of a
thousand held-out images, with one noise and one spread of noise levels for all rows, and FID
and the confident share of samples by `sde_dpmpp_2m` in 20 evaluations, beside the FID of as
many training images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor

import diffsde
from diffsde.data.images import ImageData, load_images
from diffsde.equations.variance_exploding import VESDE
from diffsde.evaluation.scoring import evaluate
from diffsde.scores.model import ScoreModel
from diffsde.training.initial_model import initial_model
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image, training_loss
from diffsde.training.recipes import RECIPES, Recipe
from diffsde.training.run import Run
from diffsde.training.settled import settled

START = replace(RECIPES["mnist-tutorial"], averages=(), precision="float32", schedule="constant")
# What each step changes, in the order of the rows.
STEPS = {
    "the tutorial's": {},
    "bf16, compiled": {"precision": "bfloat16", "compile": True},
    "average of weights": {"averages": (0.99,)},
    "EDM's preconditioning, ResidualUNet": {"network": "ResidualUNet", "preconditioning": "edm"},
    "log-normal noise levels, EDM's weight": {"objective": "lognormal"},
    "learning rate 3e-3": {"learning_rate": 3e-3},
    "Muon": {"optimizer": "muon"},
    "falling learning rate": {"schedule": "trapezoid"},
}
PROBE = 6  # updates that tell how many fit into the seconds
# The loss that all rows are compared by.
JUDGE = replace(RECIPES["images"], level_mean=-0.3, level_std=1.1, sigma_data=0.33)
HELD_OUT = 1000  # images that judge


class _TimedRun(Run):
    """A run of a given number of updates."""

    updates: int

    @property
    def steps(self) -> int:
        return self.updates

    def count(self, seconds: float, batches: Iterator[Tensor]) -> None:
        """Set the number of updates to what fits into the seconds."""
        self.updates = 10_000  # the true number is not known yet, and these are warm-up
        self.update(next(batches))  # compiles
        self.update(next(batches))
        started = time.process_time()
        for _ in range(PROBE):
            self.update(next(batches))
        each = (time.process_time() - started) / PROBE
        self.updates = self.progress.step + round(seconds / each)


def batches(run: Run) -> Iterator[Tensor]:
    epoch = 0
    while True:
        yield from run.batches(epoch)
        epoch += 1


@dataclass(frozen=True)
class Row:
    """One trained row."""

    updates: int
    seconds: float
    model: ScoreModel


def trained(data: ImageData, recipe: Recipe, seconds: float) -> Row:
    recipe = settled(replace(recipe, held_out=HELD_OUT), data)
    run = _TimedRun.start(data, recipe, initial_model(data, recipe, VESDE()), Accelerator())
    assert isinstance(run, _TimedRun)
    drawn = batches(run)
    run.count(seconds, drawn)
    started = time.process_time()
    for _ in range(run.updates - run.progress.step):
        run.update(next(drawn))
    return Row(run.updates, time.process_time() - started, run.averaged())


def held_out_loss(model: ScoreModel, data: ImageData) -> float:
    noise = TrainingNoise(0, "held-out", numbers_per_image(data.shape, JUDGE))
    losses = []
    with torch.no_grad():
        for part in torch.arange(HELD_OUT).split(250):
            numbers = noise.draw(0, range(int(part[0]), int(part[-1]) + 1))
            x = data.batch(len(data.images) - HELD_OUT + part)
            losses.append(training_loss(model, x, JUDGE, numbers))
    return float(torch.stack(losses).mean())


def samples(model: ScoreModel, images: int) -> Tensor:
    problem = diffsde.ReverseSDE(model.sde, model, model.shape)
    start = model.sde.prior_sample((images, *model.shape), seed=0)
    solution = diffsde.solve(
        problem, start, "sde_dpmpp_2m", steps=19, clock="karras", seed=0, save="last",
        chunk=250, denoise=True,
    )  # fmt: skip
    return solution.final.clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)  # so that processor time is time
    data = load_images("mnist")
    recipe = START
    for name, changes in STEPS.items():
        recipe = replace(recipe, **changes)
        row = trained(data, recipe, args.seconds)
        found = evaluate(samples(row.model, args.images), bootstraps=2)
        print(
            f"{name:38} {row.updates:5} updates {row.seconds:5.0f} s  "
            f"loss {held_out_loss(row.model, data):7.2f}  FID {found.fid:6.1f} "
            f"(floor {found.floor:.1f})  confident {found.confident:6.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
