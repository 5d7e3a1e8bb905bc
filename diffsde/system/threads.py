r"""Threads: as many as there are cores free for this process now.

torch computes with a thread for each core, and at the end of every operation each thread waits
for the slowest. Where another process keeps one core busy, the thread on that core is late, and
the waiting threads burn the others: two threads then take 2 to 10 times as long as one. Two
remedies, both for programs that own their process, such as the command line; a library must
leave its caller's threads alone:

- threads that wait sleep (OMP_WAIT_POLICY=passive), which must be said before torch loads;
- no more threads than free cores. A process sees which cores it may run on (its affinity), how
  much of them its container grants it (its quota), and how long they were idle (/proc/stat).

The load average lags by a minute, and the pressure files say how long someone waited but not for
how many cores; the idle time of the very cores, while torch loads, says what is free.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["CpuTimes", "free_cores", "quota", "thread_count", "times_of_cores", "use_threads"]

_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "WORLD_SIZE")  # by a user or a launcher
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_NEARLY = 0.75  # a core of which so much is free counts as free


class CpuTimes(NamedTuple):
    """Times since some moment, all in the same unit.

    Attributes:
        whole: that passed, summed over the cores that the process may use.
        idle: that these cores were idle.
        own: that the process itself computed.
    """

    whole: float
    idle: float
    own: float


def free_cores(before: CpuTimes, after: CpuTimes, cores: int) -> float:
    """How many of `cores` others left free between two moments; all, if no time was counted."""
    whole = after.whole - before.whole
    if not whole > 0:
        return cores
    free = after.idle - before.idle + after.own - before.own
    return min(cores * free / whole, cores)


def thread_count(free: float, quota: float = math.inf) -> int:
    """The threads that so many free cores and such a quota of cores can keep busy, at least 1."""
    return max(1, math.floor(min(free, quota) + 1 - _NEARLY))


def times_of_cores(stat: str, cores: Iterable[int], own: float) -> CpuTimes:
    """The times in the text of /proc/stat of these cores, beside the process's own."""
    wanted, whole, idle = {f"cpu{core}" for core in cores}, 0.0, 0.0
    for line in stat.splitlines():
        name, *numbers = line.split() or [""]
        if name in wanted:
            # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
            ticks = [float(number) for number in numbers[:8]]
            whole, idle = whole + sum(ticks), idle + sum(ticks[3:5])
    return CpuTimes(whole, idle, own)


def quota(text: str) -> float:
    """The cores that a control group grants: of "max 100000" ∞, of "150000 100000" 1.5."""
    granted, period = text.split()
    return math.inf if granted in ("max", "-1") else float(granted) / float(period)


def use_threads(wanted: int | None = None) -> str:
    """Set torch's threads: the number wanted, or else one for each core that is free now.

    Settings by environment variables, by a launcher, or by a program that has loaded torch
    before are left as they are.

    Returns:
        What to tell the user, if some cores are left out; nothing otherwise.
    """
    loaded = "torch" in sys.modules
    if not (loaded or any(name in os.environ for name in _WAITING)):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    settled = loaded or any(name in os.environ for name in _SETTINGS)
    before = _times_now()
    import torch  # takes a second or more, in which others show how busy they are

    if wanted is None and not settled:
        return _choose(torch.get_num_threads(), before)
    if wanted is not None:
        torch.set_num_threads(wanted)
    return ""


def _choose(usual: int, before: CpuTimes) -> str:
    import torch

    free, granted = free_cores(before, _times_now(), len(_cores())), _granted()
    chosen = min(usual, thread_count(free, granted))
    if chosen == usual:
        return ""
    torch.set_num_threads(chosen)
    why = f"the container grants {granted:.3g} cores" if granted < free else (
        f"other processes leave {free:.2g} of {len(_cores())} cores free"
    )  # fmt: skip
    return f"{chosen} of {usual} threads, because {why}; --threads sets another number"


def _cores() -> set[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _times_now() -> CpuTimes:
    """The times so far; on systems without /proc, none."""
    try:
        stat = Path("/proc/stat").read_text("ascii")
    except OSError:
        return CpuTimes(0, 0, 0)
    used = os.times()
    own = (used.user + used.system) * os.sysconf("SC_CLK_TCK")
    return times_of_cores(stat, _cores(), own)


def _granted() -> float:
    """The least quota of the control groups that this process is in; ∞ without one."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return math.inf
    groups = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
    return min([math.inf, *map(quota, _quota_texts(groups))])


def _quota_texts(groups: Mapping[str, str]) -> list[str]:
    """The quotas written in the groups and those around them, of either version of cgroups."""
    root, texts = Path("/sys/fs/cgroup"), []
    for kind, path in groups.items():
        top = root / kind
        if kind and "cpu" not in kind.split(","):
            continue
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if kind else ("cpu.max",)
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            files = [top / str(part).lstrip("/") / name for name in names]
            if all(file.is_file() for file in files):
                texts.append(" ".join(file.read_text("ascii").strip() for file in files))
    return texts
