"""Images a second in training, compared with the tutorial's own loop.

    python tests/benchmarks/training.py

The ways are timed in turn for several rounds, so that any other load on the machine affects all
of them alike; printed are the median over rounds and the median of the paired ratios. The
tutorial's loop uses float32, a data loader with one PIL image at a time, and Adam. The share of
the data is the time to draw a batch over the time of an update; that of the noise likewise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from diffsde.data.images import load_images
from diffsde.data.named_sets import cache_folder
from diffsde.equations.variance_exploding import VESDE
from diffsde.scores.model import ScoreModel
from diffsde.scores.score_matching import score_matching_loss
from diffsde.scores.score_unet import ScoreUNet
from diffsde.system.clock import seconds_on
from diffsde.training.initial_model import initial_model
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image
from diffsde.training.recipes import RECIPES, Recipe
from diffsde.training.run import Run
from diffsde.training.settled import settled

BATCH = 128


def tutorial_loop() -> Callable[[], None]:
    """One update of the tutorial's loop, with its own data loader."""
    sde = VESDE()
    model = ScoreModel(ScoreUNet(sde), sde, (1, 28, 28))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    load_images("mnist")  # fills the cache that torchvision reads
    data = datasets.MNIST(cache_folder(), transform=transforms.ToTensor())
    batches = _for_ever(DataLoader(data, batch_size=BATCH, shuffle=True))

    def update() -> None:
        loss = score_matching_loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def _for_ever(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    while True:
        for x, _ in loader:
            yield x


def ours(recipe: Recipe, memory_format: torch.memory_format | None = None) -> Callable[[], None]:
    """One update of this package's loop, with weights in a memory format if one is given."""
    data = load_images("mnist")
    recipe = settled(replace(recipe, batch_size=BATCH), data)
    run = Run.start(data, recipe, initial_model(data, recipe, VESDE()), Accelerator())
    if memory_format is not None:
        run.model.network.to(memory_format=memory_format)
    batches = iter(run.batches(0) * 20)
    return lambda: run.update(next(batches))


def data_share(updates: int) -> float:
    """Seconds to draw one batch of images."""
    data = load_images("mnist")
    order = torch.randperm(len(data.images)).split(BATCH)
    started = time.perf_counter()
    for index in order[:updates]:
        data.batch(index)
    return (time.perf_counter() - started) / updates


def noise_share(updates: int) -> float:
    """Seconds to draw the random numbers of one batch."""
    noise = TrainingNoise(0, "training", numbers_per_image((1, 28, 28), Recipe()))
    started = time.perf_counter()
    for step in range(updates):
        noise.draw(step, range(BATCH))
    return (time.perf_counter() - started) / updates


WAYS: dict[str, Callable[[], Callable[[], None]]] = {
    "tutorial's loop, float32": tutorial_loop,
    "ScoreUNet, float32": lambda: ours(replace(RECIPES["mnist-tutorial"], precision="float32")),
    "ScoreUNet, bfloat16": lambda: ours(replace(RECIPES["mnist-tutorial"], precision="bfloat16")),
    "ScoreUNet, bfloat16, channels last": lambda: ours(
        replace(RECIPES["mnist-tutorial"], precision="bfloat16"), torch.channels_last
    ),
    "ScoreUNet, bfloat16, compiled": lambda: ours(
        replace(RECIPES["mnist-tutorial"], precision="bfloat16", compile=True)
    ),
    "ResidualUNet, bfloat16": lambda: ours(
        replace(RECIPES["images"], precision="bfloat16", compile=False)
    ),
    "ResidualUNet, bfloat16, compiled": lambda: ours(
        replace(RECIPES["images"], precision="bfloat16", compile=True)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8)
    args = parser.parse_args()
    updates = {name: make() for name, make in WAYS.items()}
    device = torch.accelerator.current_accelerator()
    for update in updates.values():  # compile, and warm up
        update()
        update()
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(args.rounds):
        for name, update in updates.items():
            started = seconds_on(device)
            for _ in range(args.updates):
                update()
            seconds[name].append((seconds_on(device) - started) / args.updates)
    base = seconds["tutorial's loop, float32"]
    share, noise = data_share(100), noise_share(100)
    for name, times in seconds.items():
        ratio = statistics.median(b / t for b, t in zip(base, times, strict=True))
        middle = statistics.median(times)
        drawn = (
            ""
            if times is base
            else (f", data {share / middle:6.2%} and noise {noise / middle:6.2%} of an update")
        )
        print(f"{name:34} {BATCH / middle:6.0f} images/s, {ratio:5.2f} × the tutorial's{drawn}")


if __name__ == "__main__":
    main()
