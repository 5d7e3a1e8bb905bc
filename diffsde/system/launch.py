r"""The processes of one launch: those that `torchrun` or `accelerate launch` started together.

Each computes on a device of its own and does its share of the work, and each then has all of the
results. Every process must therefore ask for the same work: one that does not leaves the others
waiting for it. Without a launcher there is one process, and nothing of this is loaded.

A process that fails ends with its own message and takes the others along: the launcher ends them,
and those that wait for it find out by themselves, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch

from diffsde.errors import InputError, LaunchError
from diffsde.system.interrupts import ends_at_once

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = [
    "agreed",
    "chosen_device",
    "divided",
    "from_each",
    "launched_processes",
    "process_count",
    "process_number",
    "share",
]

Part = TypeVar("Part")
Result = TypeVar("Result")

# How long a process waits for another that has more to do, or has not started yet. One that has
# died is noticed at once.
_PATIENCE = timedelta(hours=1)


def launched_processes() -> PartialState:
    """How many processes work together, and which of them this one is, as accelerate says it.

    Without a launcher it is the only one. Without a GPU, the processes communicate by gloo.

    Raises:
        InputError: a launcher started several, but they do not see each other.
    """
    from accelerate import PartialState

    started = _started()
    patience = {"timeout": _PATIENCE} if started > 1 else {}
    with ends_at_once():  # while they look for each other
        found = PartialState(cpu=not torch.accelerator.is_available(), **patience)
    if found.num_processes != started:
        raise InputError(
            f"WORLD_SIZE = {started}, but this process sees {found.num_processes}: they would all "
            "do the same work. To run on CPUs although there is a GPU, set ACCELERATE_USE_CPU=true"
        )
    return found


def _started() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _several() -> bool:
    return _started() > 1


def process_count() -> int:
    """How many processes work together."""
    return int(launched_processes().num_processes) if _several() else 1


def process_number() -> int:
    """Which of them this is, from 0 on; the first one writes what is written once."""
    return int(launched_processes().process_index) if _several() else 0


# -- where each computes ----------------------------------------------------------------


def chosen_device(asked: str | None = None) -> torch.device:
    """The device of that name; of several processes, each has its own of that kind.

    Args:
        asked: such as "cpu", "cuda" or "cuda:1"; by default the process's accelerator if there is
            one, else the CPU.

    Raises:
        InputError: there is no such device, or several processes are told to use one.
    """
    usual = torch.device("cpu")
    if _several() or torch.accelerator.is_available():
        usual = launched_processes().device
    if asked is None:
        return usual
    device = _existing(asked, usual)
    if device.type != usual.type:
        return device
    if device.index is None:
        return usual
    if _several():
        raise InputError(
            f"device = {asked!r} for {process_count()} processes: each has a device of its own; "
            f"give {device.type!r}, or leave it out"
        )
    return device


def _existing(asked: str, usual: torch.device) -> torch.device:
    """The device, on which a number has been computed."""
    try:
        device = torch.device(asked)
        torch.ones((), device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        names = " or ".join(dict.fromkeys([usual.type, "cpu"]))
        why = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"device = {asked!r} cannot be used here ({why:.200}): expected {names}"
        ) from error
    return device


# -- dividing the work ------------------------------------------------------------------


def share(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts that this process works on."""
    return parts[process_number() :: process_count()]


def divided(parts: Sequence[Part], work: Callable[[Part], Result]) -> list[Result]:
    """The result of every part, in their order: each process works on its share of them.

    Args:
        parts: the same in every process.
        work: what is done with a part; its tensors must be on the CPU.
    """
    own = [work(part) for part in share(parts)]
    count = process_count()
    placed = {
        first + count * k: result
        for first, results in enumerate(from_each(own))
        for k, result in enumerate(results)
    }
    return [placed[k] for k in range(len(parts))]


def from_each(own: Result) -> Iterator[Result]:
    """What each process has, in their order; its tensors must be on the CPU.

    One after the other, so that a process need not hold all of them at a time.
    """
    if not _several():
        yield own
        return
    for number in range(process_count()):
        yield _sent_by(number, own)


def agreed(found: Result) -> Result:
    """What the first process found, in every process."""
    return _sent_by(0, found) if _several() else found


def _sent_by(number: int, own: Result) -> Result:
    from accelerate.utils import broadcast_object_list

    launched_processes()
    sent = [own]
    try:
        with ends_at_once():  # while it waits, nothing of Python runs, and nothing is half done
            broadcast_object_list(sent, from_process=number)
    except RuntimeError as error:  # gloo's and NCCL's word for a process that is gone
        raise LaunchError(
            f"another process of this launch has ended, so this one ends too ({error}); what "
            "happened is in that process's message"
        ) from error
    return own if number == process_number() else sent[0]
