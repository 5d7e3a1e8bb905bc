r"""The pace of a film: how long each saved state is shown.

A film of N steps has N states that pass and a last one that is held. With p states shown per
frame at f frames per second, they pass in

    D  =  N / (p f)  seconds.

Without a wish, D is as long as one can watch: 50 states per second, but slowed until the film
lasts 6 seconds, and with states left out if it would last more than 12. Then each state is shown
for the same number of frames, so that nothing stutters. A wish for f alone shows every state for
one frame; p and D are two ways to wish for the same thing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffsde.errors import InputError
from diffsde.system.numbers import real_number, truth_value

__all__ = ["Pace", "choose_pace"]

_HOLD = 2.0  # seconds of the last frame
_FPS = 50.0  # the most that every GIF player shows
_SHORTEST, _LONGEST = 6.0, 12.0  # seconds, without the hold
_LONGEST_STAY = 600.0  # of one frame, in seconds; the files' formats end at 655


@dataclass(frozen=True)
class Pace:
    """How a path becomes frames.

    Attributes:
        fps: ticks per second.
        shown: the saved states in order, each with the number of ticks for which it is shown.
    """

    fps: float
    shown: list[tuple[int, int]]


def choose_pace(
    length: int,
    *,
    fps: float | None,
    speed: float | None,
    duration: float | None,
    hold: float | None,
    ping_pong: bool,
) -> Pace:
    """The pace of a film of `length` saved states; for the wishes, see `animate`.

    Raises:
        InputError: a wish is out of range, two contradict each other, or one frame would stay
            for longer than ten minutes.
    """
    truth_value(ping_pong, "ping_pong")
    hold = _HOLD if hold is None else hold
    _check(fps, speed, duration, hold)
    last = length - 1
    fps, speed = _rates(last, fps, speed, duration)
    passing = [math.floor(k * speed) for k in range(math.ceil(round(last / speed, 6)))]
    indices, ticks = np.unique(np.array(passing, dtype=np.int64), return_counts=True)
    forward = [(int(i), int(n)) for i, n in zip(indices, ticks, strict=True)]
    back = forward[:0:-1] if ping_pong else []
    shown = [*forward, (last, max(1, round(hold * fps))), *back]
    _check_stays(max(n for _, n in shown) / fps)
    return Pace(fps, shown)


def _check(fps: float | None, speed: float | None, duration: float | None, hold: float) -> None:
    if speed is not None and duration is not None:
        raise InputError(
            f"speed = {speed} and duration = {duration}: both say how fast the states pass; "
            "give one of them"
        )
    for name, value, expected in (
        ("fps", fps, "frames per second between 0 and 1000"),
        ("speed", speed, "saved states per frame, more than 0"),
        ("duration", duration, "seconds, more than 0"),
    ):
        if value is not None:
            real_number(value, name, expected, 0.0, above=True)
    if fps is not None and not fps < 1000:
        raise InputError(f"fps = {fps}: expected frames per second between 0 and 1000")
    real_number(hold, "hold", "seconds, 0 or more", 0.0)


def _check_stays(longest: float) -> None:
    if longest > _LONGEST_STAY:
        raise InputError(
            f"one frame would stay for {longest:.4g} seconds: expected at most "
            f"{_LONGEST_STAY:.0f}. Lower duration= or hold=, or raise fps= or speed="
        )


def _rates(
    last: int, fps: float | None, speed: float | None, duration: float | None
) -> tuple[float, float]:
    """Frames per second, and saved states per frame."""
    if speed is not None or last == 0:
        return fps or _FPS, speed or 1.0
    if duration is None and fps is not None:
        return fps, 1.0
    duration = duration or min(max(last / _FPS, _SHORTEST), _LONGEST)
    if fps is not None:
        return fps, last / (duration * fps)
    states = last / duration  # per second
    ticks = math.floor(_FPS / states + 1e-9)  # for which each of them is shown
    return (_FPS, states / _FPS) if ticks == 0 else (states * ticks, 1 / ticks)
