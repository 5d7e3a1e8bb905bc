"""What a normal number costs, beside one of NumPy's own generator.

    OMP_NUM_THREADS=1 python tests/benchmarks/noise.py

A row is a source of Brownian increments for a batch of states: nanoseconds for each number of W,
and their multiple of `Generator.standard_normal`, whose numbers have no address. Every source takes
its turn in each round, and the smallest time counts. The steps are off the dyadic grid, where a
path halves its intervals down to its resolution. With --device, the sources draw there; NumPy's
generator stays on the CPU.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import numpy
import torch

from diffsde import BrownianPath
from diffsde.noise.brownian import BoundBrownian, SequentialBrownian
from diffsde.system.clock import seconds_on
from diffsde.system.tables import aligned

TIMES = [0.0031 + k / 97 for k in range(21)]
Size = tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="where the sources draw")
    given = parser.parse_args()
    rounds, device = given.rounds, torch.device(given.device)
    lines = [["batch", "dtype", "source", "ns", "ratio"]]
    for size in ((1, 784), (64, 784), (8, 3 * 64 * 64)):
        for dtype in (torch.float32, torch.float64):
            lines += measured(size, dtype, device, rounds)
    print(aligned(lines))


def measured(size: Size, dtype: torch.dtype, device: torch.device, rounds: int) -> list[list[str]]:
    sources = sources_of(size, dtype, device)
    best = dict.fromkeys(sources, float("inf"))
    for _ in range(rounds):
        for name, walk in sources.items():
            started = seconds_on(device)
            walk()
            best[name] = min(best[name], seconds_on(device) - started)
    numbers = size[0] * size[1] * (len(TIMES) - 1)
    base = best["NumPy"]
    return [
        [str(size), str(dtype), name, f"{1e9 * seconds / numbers:.1f}", f"{seconds / base:.2f}"]
        for name, seconds in best.items()
    ]


def sources_of(
    size: Size, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], None]]:
    """For each source, a function that walks over all steps with it."""
    steps = partial(SequentialBrownian, 0, size, dtype=dtype, device=device)
    path = partial(BrownianPath(0).bind, size, dtype=dtype, device=device)
    return {
        "NumPy": partial(draw_with_numpy, size),
        "fixed steps, W": partial(walk, steps, area=False),
        "fixed steps, W and ∫W": partial(walk, steps, area=True),
        "path, W": partial(walk, path, area=False),
        "path, W and ∫W": partial(walk, path, area=True),
    }


def draw_with_numpy(size: Size) -> None:
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for _ in TIMES[1:]:
        generator.standard_normal(size)


def walk(make: Callable[[], BoundBrownian], area: bool) -> None:
    source = make()
    for start, end in itertools.pairwise(TIMES):
        source.increment(start, end, area)


if __name__ == "__main__":
    main()
