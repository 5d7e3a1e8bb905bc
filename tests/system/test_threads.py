"""How many threads: the rule on given numbers, and a fresh process that chooses."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from diffsde.system.threads import CpuTimes, free_cores, quota, thread_count, times_of_cores

STAT = """cpu  300 0 30 600 70 0 0 0 50 0
cpu0 100 0 10 200 30 0 0 0 50 0
cpu1 150 5 10 300 20 5 5 5 0 0
cpu10 50 0 10 100 20 0 0 0 0 0
intr 1 2 3
"""


def test_the_times_of_the_cores_that_a_process_may_use() -> None:
    assert times_of_cores(STAT, {0}, 7.0) == CpuTimes(340, 230, 7)
    assert times_of_cores(STAT, {0, 1}, 7.0) == CpuTimes(840, 550, 7)
    assert times_of_cores("", {0}, 7.0) == CpuTimes(0, 0, 7)


@pytest.mark.parametrize(
    ("idle", "own", "free"),
    [
        (100, 100, 2.0),  # nobody else
        (0, 100, 1.0),  # another process keeps one core busy
        (0, 67, 0.67),  # two others
        (50, 100, 1.5),  # another one, half of the time
        (150, 100, 2.0),  # clocks of another resolution: never more than there are
    ],
)
def test_what_others_leave_free(idle: float, own: float, free: float) -> None:
    before = CpuTimes(1000, 500, 30)
    after = CpuTimes(1200, 500 + idle, 30 + own)  # two cores, 100 ticks each
    assert free_cores(before, after, 2) == pytest.approx(free)


def test_where_no_time_is_counted_all_cores_are_free() -> None:
    assert free_cores(CpuTimes(0, 0, 0), CpuTimes(0, 0, 50), 4) == 4


@pytest.mark.parametrize(
    ("free", "granted", "threads"),
    [(2, math.inf, 2), (1.97, math.inf, 2), (1.5, math.inf, 1), (0.3, math.inf, 1),
     (8, 1.5, 1), (8, 3.8, 4), (0.9, 4, 1), (61.8, math.inf, 62)],
)  # fmt: skip
def test_threads_for_free_cores(free: float, granted: float, threads: int) -> None:
    assert thread_count(free, granted) == threads


def test_quotas() -> None:
    assert quota("max 100000") == quota("-1 100000") == math.inf
    assert quota("150000 100000") == 1.5


# The text of /proc/stat before and after torch loads: two cores, both kept busy by others.
PROGRAM = """
import itertools, os
from diffsde.system import threads
busy = itertools.count(1)
times = lambda: threads.CpuTimes(200 * next(busy), 0, 0)
threads._times_now, threads._cores = times, lambda: {0, 1}
words = threads.use_threads(WANTED)
import torch
print(torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY"), words)
"""


def chosen(wanted: int | None, **settings: str) -> str:
    unset = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "WORLD_SIZE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    program = PROGRAM.replace("WANTED", repr(wanted))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=environment | settings,
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core leaves no choice")
def test_a_busy_machine_gets_one_thread_that_sleeps_while_it_waits() -> None:
    told = chosen(None)
    assert told.startswith("1 passive 1 of ")
    assert "leave 0 of 2 cores free; --threads" in told


def test_settings_of_the_user_stay() -> None:
    assert chosen(None, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="active") == "2 active \n"
    assert chosen(2) == "2 passive \n"
