"""A long run in one process: does memory grow, do files stay open?

    python -m tests.benchmarks.soak --rounds 400

A round is that of `tests/whole/test_soak.py`: a solve by each of nine solvers of all families,
a trajectory written and read, a plot and a film. Prints memory, open files, threads and figures
during the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from pathlib import Path

import matplotlib.pyplot as plt

from tests.launched import small_model
from tests.whole.test_soak import SOLVES, one_of_each, open_files, resident


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
    tenth = max(1, len(held) // 10)
    growth = statistics.median(held[-tenth:]) - statistics.median(held[tenth : 2 * tenth])
    print(f"from the second tenth of the rounds to the last, memory grew by {growth:.2f} MiB")


if __name__ == "__main__":
    main()
