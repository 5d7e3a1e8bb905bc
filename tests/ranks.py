"""Launches of several processes, as cheap forks of one in which everything is imported.

    python -m tests.ranks FOLDER KILLS

It runs `COMMANDS` with 1, 2 and 3 processes, each with its output in the folder of that number;
kills one of two at random moments of an evaluation, so often, and goes on until it is done; and
lets one of two fail. It prints how the processes ended; what they said is in the file `said`.
"""

from __future__ import annotations

import math
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch

from diffsde.analysis.ensembles import ensemble
from diffsde.cli import app
from diffsde.errors import SolveError
from diffsde.evaluation import samplers
from diffsde.evaluation.metrics import load_torchmetrics
from diffsde.scores.checkpoint import save_model
from diffsde.solvers.trajectory import Trajectory
from diffsde.system import launch
from diffsde.system.tensorfile import write_tensors
from tests.launched import images, small_model

EVALUATE = (
    "evaluate --steps 2 --n 600 --dataset DATA --features tests.ranks:features --bootstraps 2 "
    "--out OUT/evaluation"
)
COMMANDS = (
    "sample --method euler --method heun2 --steps 3 --n 5 --chunk 2 --label random "
    "--out OUT/samples",
    "explore --method dopri5 --steps 4 --n 2 --label random --estimates --out OUT/page.html",
    "likelihood --dataset DATA --n 50 --steps 2 --chunk 8 --out OUT/likelihood.safetensors",
    "work-precision --method heun2 --method dopri5 --budget 8 --n 2 --out OUT/flow",
)
LONG = (
    EVALUATE,
    "work-precision --method euler --method srk --budget 6 --clock t --clock karras --n 1 "
    "--out OUT/sde",
    "gallery --steps 3 --n 1 --dark --out OUT/gallery",
)


def features(x: torch.Tensor) -> torch.Tensor:
    """A few features of images."""
    return x.flatten(1)[:, ::8]


def prepare(folder: Path) -> None:
    """Write a small model and small data to the folder."""
    save_model(small_model(classes=3), folder / "model.safetensors")
    pixels = images(400).images[:, 0].numpy()
    numpy.savez(folder / "data.npz", train_images=pixels[:250], test_images=pixels[250:])


def run(command: str, out: Path) -> None:
    """Run a command with the model and the data in the folder above `out`."""
    words = command.replace("OUT", str(out)).replace("DATA", str(out.parent / "data.npz"))
    sys.argv = ["diffsde", *words.split(), "--model", str(out.parent / "model.safetensors")]
    app.main()


def summarise(out: Path) -> None:
    """Write the statistics of an ensemble whose chunks cannot be divided evenly."""
    found = ensemble(small_model().flow(), 22, "heun2", chunk=3, steps=4, save=3)
    tensors = {name: getattr(found, name) for name in ("ts", "mean", "std", "quantiles")}
    if launch.process_number() == 0:
        write_tensors(out / "ensemble.safetensors", tensors, {"nfe": found.stats.nfe})


def everything(out: Path, count: int) -> None:
    """Run what is compared; of what takes long, only a part with three processes."""
    for command in (*COMMANDS, *LONG[: None if count < 3 else 0]):
        run(command, out)
    summarise(out)


# -- launching ----------------------------------------------------------------------------


def forked(count: int, work: Callable[[], None], said: Path) -> list[int]:
    """Start the processes of a launch, whose words go to that file; return their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    sizes = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    started = []
    for rank in range(count):
        process = os.fork()
        if process:
            started.append(process)
            continue
        named = {**common, **sizes, "RANK": rank, "LOCAL_RANK": rank}
        os.environ.update({name: str(value) for name, value in named.items()})
        _end_after(work, said)
    return started


def _end_after(work: Callable[[], None], said: Path) -> None:
    code = 1
    try:
        with said.open("a", buffering=1) as file:
            sys.stdout = sys.stderr = file
            try:
                work()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(code)


def ended(processes: list[int]) -> Iterator[tuple[int, int]]:
    """Wait for the processes; each with its exit code, in the order in which they end."""
    left = set(processes)
    while left:
        process, status = os.wait()
        left.discard(process)
        yield process, os.waitstatus_to_exitcode(status)


# -- scenarios ----------------------------------------------------------------------------


def same(folder: Path) -> None:
    for count in (1, 2, 3):
        out = folder / str(count)
        out.mkdir()
        work = partial(everything, out, count)
        codes = [code for _, code in ended(forked(count, work, folder / "said"))]
        print(count, "processes:", *codes)


def kill(folder: Path, kills: int) -> None:
    """Kill one of two at random moments; whoever launched them then ends the other one."""
    chance, done, slowest, out = random.Random(0), 0, 0.0, folder / "killed"
    out.mkdir()
    whole = _seconds_of_a_whole_one(folder)
    while True:
        processes = forked(2, lambda: run(EVALUATE, out), folder / "said")
        if done < kills:
            time.sleep(chance.uniform(0, 0.8 * whole))
            os.kill(chance.choice(processes), signal.SIGKILL)
        codes, seconds = _ended_as_by_a_launcher(processes)
        killed = -signal.SIGKILL in codes
        print("killed:" if killed else "whole:", *codes)
        if not killed:
            assert done == kills or codes == [0, 0]
        done, slowest = done + killed, max(slowest, seconds if killed else 0)
        if done == kills and not killed:
            break
    print(f"{done} kills, after each of which the other one ended within {slowest:.1f} s")


def _seconds_of_a_whole_one(folder: Path) -> float:
    started, out = time.perf_counter(), folder / "whole"
    out.mkdir()
    list(ended(forked(2, lambda: run(EVALUATE, out), folder / "said")))
    return time.perf_counter() - started


def _ended_as_by_a_launcher(processes: list[int]) -> tuple[list[int], float]:
    """The exit codes, and how long it took from the first failure to the end of all."""
    codes, failed = {}, math.inf
    for process, code in ended(processes):
        codes[process] = code
        if code and failed == math.inf:
            failed = time.perf_counter()
            for other in set(processes) - set(codes):
                os.kill(other, signal.SIGTERM)
    return [codes[process] for process in processes], time.perf_counter() - failed


def fail(folder: Path) -> None:
    """The second process fails in its work; the first one, which waits for it, must not go on."""
    out = folder / "failed"
    out.mkdir()

    def work() -> None:
        if os.environ["RANK"] == "1":
            samplers._Chunks._drawn = _refused  # type: ignore[method-assign]
        run(EVALUATE, out)

    processes = forked(2, work, folder / "said")
    codes = dict(ended(processes))
    print("codes:", *(codes[process] for process in processes))


def _refused(*_: object) -> Any:
    raise SolveError("no room on this device", Trajectory(torch.zeros(0), torch.zeros(0), ""))


def main(folder: Path, kills: int) -> None:
    load_torchmetrics()  # which takes longer than anything that the processes do
    prepare(folder)
    same(folder)
    kill(folder, kills)
    fail(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
