"""A day's work in one process: does memory grow, do files stay open?

    python -m tests.benchmarks.soak --rounds 400

A round is what `tests/test_soak.py` does: a solve by each of nine solvers of all families, a
trajectory written and read, a plot and a film. Prints memory, open files, threads and figures
as the rounds go by; memory's growth is a straight line fitted to the second half.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import numpy

from tests.launched import small_model
from tests.test_soak import SOLVES, one_of_each, open_files, resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    args = parser.parse_args()
    model, held = small_model(), []
    solves = len(SOLVES) + 1
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            one_of_each(model, Path(folder), seed=i)
            held.append(resident() / 2**20)
            if i % max(1, args.rounds // 10) == 0 or i == args.rounds - 1:
                print(
                    f"{(i + 1) * solves:6} solves: {held[-1]:7.1f} MiB, {open_files()} open files, "
                    f"{threading.active_count()} threads, {len(plt.get_fignums())} figures",
                    flush=True,
                )
    half = len(held) // 2
    growth = numpy.polyfit(numpy.arange(half, len(held)) * solves, held[half:], 1)[0]
    print(f"memory grows by {1000 * growth:.2f} MiB in a thousand solves")


if __name__ == "__main__":
    main()
