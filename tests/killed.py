"""Train in child processes and kill them, for `test_kill`.

    python -m tests.killed FOLDER KILLS

Everything is imported and there is only one thread, so that a child is a cheap fork. Prints the
number of kills, and how many of them fell amid the writing of a file.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from diffsde.training import loop
from diffsde.training.loop import train
from diffsde.training.run_folder import RunFolder
from tests import launched

# A state after every update: much of the time goes into writing, so kills fall there too.
RECIPE = replace(launched.RECIPE, epochs=8)
loop._SAVE_EVERY = 1


def short_training(folder: Path) -> None:
    """Start the run, or resume it."""
    resume = bool(RunFolder(folder, 1).states())
    start = None if resume else launched.small_model(RECIPE.classes)
    train(
        folder, launched.images(), RECIPE, start_from=start, resume=resume, progress=False,
        save_minutes=0,
    )  # fmt: skip


def forked(folder: Path) -> int:
    """Start a process that trains, and return its number."""
    process = os.fork()
    if process:
        return process
    try:
        short_training(folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(folder: Path, kills: int) -> None:
    started = time.perf_counter()
    _, status = os.waitpid(forked(folder / "whole"), 0)
    seconds = time.perf_counter() - started
    chance = random.Random(0)
    done = amid = failed = 0
    # As often as needed: when a run ends, another is started in a new folder.
    runs = 0
    while done < kills:
        cut = folder / f"cut{runs}"
        before = set(cut.glob(".*"))
        process = forked(cut)
        time.sleep(chance.uniform(0, 0.3 * seconds))
        # Every second kill waits for the next write, which chance alone would hit too rarely.
        until = time.perf_counter() + (seconds if done % 2 else 0)
        while time.perf_counter() < until and not set(cut.glob(".*")) - before:
            time.sleep(1e-4)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            done += 1
            amid += bool(set(cut.glob(".*")) - before)
            continue
        failed += os.waitstatus_to_exitcode(status) != 0
        runs += 1
    for run in range(runs + 1):
        _, status = os.waitpid(forked(folder / f"cut{run}"), 0)
        failed += os.waitstatus_to_exitcode(status) != 0
    print(f"{done} kills of {runs + 1} trainings, {amid} amid a write, {failed} failures")
    print(f"one whole training: {seconds:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
