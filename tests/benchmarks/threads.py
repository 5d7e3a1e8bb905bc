"""What a busy core does to two threads, and what the command line's choice makes of it.

    python tests/benchmarks/threads.py --seed 0

Every row is a fresh process that times the same solve (`sample --n 4 --steps 20` without its
pictures); the table gives its seconds over those of one thread. Half of the rounds run beside
processes that keep all cores but one busy. Targets: the choice costs at most 1.3 beside them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TIMED = """
import sys, time
CHOICE
import diffsde
seed = int(sys.argv[1])
model = diffsde.load_pretrained("mnist")
x = model.sde.prior_sample((4, *model.shape), seed=seed)
flow = diffsde.ReverseSDE(model.sde, model, model.shape)
for steps in (2, 20):
    started = time.perf_counter()
    diffsde.solve(flow, x, "euler", steps=steps, seed=seed)
print(time.perf_counter() - started)
"""
USED = "from diffsde.system.threads import use_threads; use_threads({})"
SET = "import torch; torch.set_num_threads({})"
CORES = os.cpu_count() or 1
ROWS = {
    "1 thread": SET.format(1),
    f"{CORES} threads, spinning": SET.format(CORES),
    f"{CORES} threads, sleeping": USED.format(CORES),
    "chosen": USED.format(""),
}


def seconds(choice: str, seed: int) -> float:
    """What the solve takes in a fresh process."""
    unset = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", TIMED.replace("CHOICE", choice), str(seed)],
        env={name: value for name, value in os.environ.items() if name not in unset},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many processes that only compute."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':24}{'alone':>8}{'beside':>8}")
    medians = []
    for busy in (0, max(1, CORES - 1)):
        with busy_cores(busy):
            turns = [[seconds(row, options.seed) for row in ROWS.values()]
                     for _ in range(options.rounds)]  # fmt: skip
        medians.append([statistics.median(times) for times in zip(*turns, strict=True)])
    for name, *times in zip(ROWS, *medians, strict=True):
        ratios = (time / column[0] for time, column in zip(times, medians, strict=True))
        print(f"{name:24}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
