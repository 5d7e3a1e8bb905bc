"""The cost of an image in training and in sampling, by its size: counted and measured.

    python tests/benchmarks/scaling.py            # operations and memory, counted
    python tests/benchmarks/scaling.py --memory   # and the memory that this machine uses
    python tests/benchmarks/scaling.py --time     # and its time

Counts are taken on tensors without data, so any size takes no time: floating-point operations
by torch's counter, and the bytes that the backward pass keeps with bfloat16 autocast. Memory is
the peak of the process, as Linux reports it. Both are what one more image in a batch adds. Times
are medians over updates; that of the noise is for drawing an image's numbers in training.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import numbers_per_image
from diffsde.training.recipes import Recipe

BATCH = 4

# (name, channels of the image, its side in pixels, a function that makes the network)
Case = tuple[str, int, int, Callable[[], nn.Module]]
CASES: list[Case] = [
    ("ScoreUNet", 1, 28, ScoreUNet),
    ("ResidualUNet", 1, 28, ResidualUNet),
    *[
        ("ResidualUNet", 3, side, lambda: ResidualUNet(in_channels=3))
        for side in (32, 64, 128, 256)
    ],
    *[
        ("ResidualUNet (256, 768)", 3, side, lambda: ResidualUNet(
            in_channels=3, channels=(256, 768), blocks=(2, 8, 2), embed_dim=768
        ))
        for side in (32, 64, 128, 256)
    ],
]  # fmt: skip


def update(network: nn.Module, x: Tensor, label: Tensor, dtype: torch.dtype) -> Tensor:
    """A loss, after a forward pass as in training."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        return network(x, label).square().sum()


def counted(case: Case) -> tuple[int, float, float, float]:
    """Parameters; operations forward, and forward and backward; bytes kept, for one image."""
    # The cost of one more image does not contain the copies of weights that autocast keeps.
    counts = [_counted(case, batch) for batch in (2, 3)]
    forward, whole, kept = (b - a for a, b in zip(*counts, strict=True))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in case[3]().parameters())
    return parameters, forward, whole, kept


def _counted(case: Case, batch: int) -> tuple[int, int, int]:
    _, channels, side, make = case
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with FakeTensorMode():
        network = make()
        x, label = torch.empty(batch, channels, side, side), torch.empty(batch)
        with FlopCounterMode(display=False) as forward, saved_tensors_hooks(keep, lambda t: t):
            loss = update(network, x, label, torch.bfloat16)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    first, second = forward.get_total_flops(), backward.get_total_flops()
    return first, first + second, sum(size for _, size in kept.values())


def held(case: Case, batches: tuple[int, int] = (8, 24)) -> float:
    """Bytes that each further image in a batch adds to the peak memory of this process."""
    _, channels, side, make = case
    network, peaks = make(), []
    for batch in batches:
        x, label = torch.randn(batch, channels, side, side), torch.rand(batch)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        update(network, x, label, torch.bfloat16).backward()
        peaks.append(int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]))
    return 1024 * (peaks[1] - peaks[0]) / (batches[1] - batches[0])


def timed(case: Case, dtype: torch.dtype, updates: int = 5) -> float:
    """Seconds of the forward and backward pass for each image."""
    _, channels, side, make = case
    network = make()
    x, label = torch.randn(BATCH, channels, side, side), torch.rand(BATCH)
    seconds = []
    for _ in range(updates + 1):
        started = time.perf_counter()
        update(network, x, label, dtype).backward()
        seconds.append((time.perf_counter() - started) / BATCH)
    return statistics.median(seconds[1:])


def noise_seconds(case: Case) -> float:
    """Seconds to draw the random numbers of one image."""
    _, channels, side, _ = case
    noise = TrainingNoise(0, "training", numbers_per_image((channels, side, side), Recipe()))
    seconds = []
    for step in range(6):
        started = time.perf_counter()
        noise.draw(step, range(16))
        seconds.append((time.perf_counter() - started) / 16)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    head = "| network | image | parameters | forward, GFLOP | update, GFLOP | kept, bf16, MB |"
    if args.memory:
        head += " measured, MB |"
    if args.time:
        head += " float32, ms | bf16, ms | noise, ms |"
    print(head)
    print("|" + "---|" * (head.count("|") - 1))
    for case in CASES:
        name, channels, side, _ = case
        parameters, forward, whole, kept = counted(case)
        row = (
            f"| {name} | {channels}×{side}×{side} | {parameters / 1e6:.2f} M "
            f"| {forward / 1e9:.3g} | {whole / 1e9:.3g} | {kept / 1e6:.3g} |"
        )
        small = parameters < 1e7 and side <= 64  # the others take minutes on a CPU
        if args.memory and small:
            row += f" {held(case) / 1e6:.3g} |"
        if args.time and small:
            found = [timed(case, dtype) for dtype in (torch.float32, torch.bfloat16)]
            row += "".join(f" {1000 * t:.3g} |" for t in [*found, noise_seconds(case)])
        print(row, flush=True)


if __name__ == "__main__":
    main()
