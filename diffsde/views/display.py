r"""From states to pictures: the steps that all views share.

The state of a variance-exploding SDE starts with a standard deviation near 10 and ends as an
image in [0, 1]. No fixed scale shows both: on [0, 1] the start is a black-and-white flicker,
and on ±20 the digits are grey on grey. By default, therefore, views map the shades of frame t
to the interval

    m ± (h + 2 s(t)),

where m is the middle of the data's range and h half its width, both ½ for [0, 1]. This adds two
standard deviations of the noise to either side of that range. The noise fills the shades from the
first frame on, a digit emerges when its contrast exceeds that of the noise, and the last frame is
shown on the data's range, like any image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory

__all__ = [
    "Shading",
    "base_of_diffusion",
    "check_not_empty",
    "checked_interval",
    "default_columns",
    "mosaic",
    "reached",
    "shade_limits",
    "title_of",
    "trajectories",
]

Shading = str | tuple[float, float]
"""What the shades span: "envelope" (see above), "data" for the data's range, or an interval."""

_NOISE_STDS = 2.0  # standard deviations of the noise on either side of the data's range
_ROW = 6  # up to so many images form a single row


def trajectories(sol: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    """One trajectory or several, as a list.

    Raises:
        InputError: the list or a trajectory is empty, or the list holds something else.
    """
    sols = [sol] if isinstance(sol, Trajectory) else list(sol)
    wrong = [type(s).__name__ for s in sols if not isinstance(s, Trajectory)]
    if wrong or not sols:
        raise InputError(
            f"{wrong[0] if wrong else 'an empty list'}: expected a Trajectory, the result of "
            "solve, or a list of them"
        )
    for one in sols:
        check_not_empty(one)
    return sols


def check_not_empty(sol: Trajectory) -> None:
    """Check that there is a time and a sample to show.

    Raises:
        InputError: there is none.
    """
    if not sol.ys.numel():
        raise InputError(
            f"states of shape {tuple(sol.ys.shape)}: expected at least one time and one sample"
        )


def shade_limits(sol: Trajectory, shading: Shading) -> NDArray[np.float64]:
    """The values shown as the darkest and the lightest shade of each frame: (T, 2).

    A user's own equation may have no marginal standard deviation s(t). It is then estimated
    from the frame's values, as their spread beyond that of black and white pixels.

    Raises:
        InputError: `shading` is neither a known name nor an interval.
    """
    interval = checked_interval(shading)
    if shading == "envelope":
        low, high = sol.data_range
        beyond = _NOISE_STDS * _noise_std(sol)
        return np.stack([low - beyond, high + beyond], 1)
    return np.tile(np.array(interval or sol.data_range, dtype=np.float64), (len(sol), 1))


def checked_interval(shading: Shading) -> tuple[float, float] | None:
    """The interval, if `shading` is one; None if it is the name of a rule.

    Raises:
        InputError: it is neither.
    """
    if isinstance(shading, str):
        if shading not in ("envelope", "data"):
            raise InputError(
                f"shading = {shading!r}: expected 'envelope', 'data', or an interval (low, high)"
            )
        return None
    low, high = shading
    if not -math.inf < low < high < math.inf:
        raise InputError(f"shading = {shading}: expected two finite numbers, low < high")
    return float(low), float(high)


def _noise_std(sol: Trajectory) -> NDArray[np.float64]:
    if sol.std is not None:
        std: NDArray[np.float64] = sol.std.detach().double().cpu().numpy()
        return std
    middle, half = sum(sol.data_range) / 2, (sol.data_range[1] - sol.data_range[0]) / 2
    squares = [float((y.detach().float() - middle).square().mean()) for y in sol.ys]
    beyond = np.array(squares, dtype=np.float64) - half**2
    return np.sqrt(np.clip(np.nan_to_num(beyond), 0, None))


def title_of(sol: Trajectory) -> str:
    """What was solved and how: "SDE · euler", "flow · heun2".

    It is the method alone if nobody said what was solved, or if the method's name says it, as
    one's own name such as "the reverse SDE" may.
    """
    if sol.kind is None:
        return sol.method
    # A flow has the marginals of a forward process; another ODE has none.
    equation = "SDE" if sol.kind == "sde" else "ODE" if sol.std is None else "flow"
    if equation in sol.method:
        return sol.method
    return f"{equation} · {sol.method}" if sol.method else equation


def reached(ts: Tensor, t: float) -> int:
    """The index of the last saved state that a solve has reached by time t.

    `ts` is in the order of the solve, rising or falling. Before its first time the answer is 0.
    """
    times = ts.detach().double().cpu().numpy()
    falling = times[-1] < times[0]
    slack = 1e-6 * max(1.0, abs(t))  # times may come from float32
    passed = (times >= t - slack) if falling else (times <= t + slack)
    return max(int(passed.sum()) - 1, 0)


def default_columns(n: int) -> int:
    """A few images form a row; more form a nearly square block with few empty places."""
    side = math.ceil(math.sqrt(n))
    return n if n <= _ROW else min(range(side, side + 3), key=lambda c: -n % c)


def mosaic(images: NDArray[Any], columns: int, gap: int, fill: Any) -> NDArray[Any]:
    """Images (B, H, W) or (B, H, W, 3) in rows, with `gap` pixels of `fill` between."""
    n, height, width, *colour = images.shape
    rows = -(-n // columns)
    sheet = np.empty(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, *colour), images.dtype
    )
    sheet[:] = fill
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def base_of_diffusion(sol: Trajectory) -> float | None:
    """σ if the diffusion is σᵗ at every saved time; None for any other diffusion."""
    if sol.diffusion is None:
        return None
    ts, g = sol.ts.detach().double().cpu(), sol.diffusion.detach().double().cpu()
    if not bool((g > 0).all()) or float(ts.max()) <= 0:
        return None
    widest = int(ts.argmax())
    log_sigma = float(g[widest].log() / ts[widest])
    return math.exp(log_sigma) if torch.allclose(g.log(), log_sigma * ts, atol=1e-4) else None
