"""What loading costs: the package and its command line, each over `import torch`.

    OMP_NUM_THREADS=1 python tests/benchmarks/imports.py

Every row is a fresh process. The rows take turns, so that whatever else the machine does falls
on all of them, and each row's time is the median over the rounds. Targets: 1.25 for
`import diffsde`, 1.4 for the command's help, version and completion.

With --cpu, CPU seconds instead of seconds: on a busy machine they are those of a quiet one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

COMMAND = "import sys; sys.argv[0] = 'diffsde'; from diffsde.cli.app import main; main()"


class Row(NamedTuple):
    """A program, its arguments, what the shell asks it to complete, and its target ratio."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    words: str = ""
    target: float | None = None


FLOOR = Row("import torch", "import torch")
ROWS = [
    FLOOR,
    Row("import diffsde", "import diffsde", target=1.25),
    *(
        Row(f"diffsde.{name}", f"import diffsde; diffsde.{name}")
        for name in ("SDE", "load_model", "solve", "list_solvers", "animate", "train", "evaluate")
    ),
    Row("diffsde --help", COMMAND, ("--help",), target=1.4),
    Row("diffsde --version", COMMAND, ("--version",), target=1.4),
    Row("diffsde sample --help", COMMAND, ("sample", "--help")),
    Row("diffsde train --help", COMMAND, ("train", "--help")),
    *(
        Row(f"{words}<TAB>", COMMAND, words=words, target=1.4)
        for words in ("diffsde sam", "diffsde sample --clock k", "diffsde sample --method eu")
    ),
]


def seconds(row: Row, clock: Callable[[], float]) -> float:
    """What one fresh process takes, on that clock."""
    environment = dict(os.environ)
    if row.words:
        last = str(len(row.words.split()) - 1)
        environment |= {
            "_DIFFSDE_COMPLETE": "complete_bash",
            "COMP_WORDS": row.words,
            "COMP_CWORD": last,
        }
    command = [sys.executable, "-c", row.program, *row.arguments]
    started = clock()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return clock() - started


def cpu_seconds() -> float:
    """The CPU seconds of all processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    clock = cpu_seconds if options.cpu else time.perf_counter
    for row in ROWS:  # fills the caches of files and of compiled modules
        seconds(row, clock)
    turns = [[seconds(row, clock) for row in ROWS] for _ in range(options.rounds)]
    medians = [statistics.median(times) for times in zip(*turns, strict=True)]
    floor = medians[ROWS.index(FLOOR)]
    print(f"{'':34}{'seconds':>8}{'ratio':>8}{'target':>8}")
    for row, median in zip(ROWS, medians, strict=True):
        target = "" if row.target is None else f"{row.target:g}"
        print(f"{row.name:34}{median:8.2f}{median / floor:8.2f}{target:>8}")


if __name__ == "__main__":
    main()
