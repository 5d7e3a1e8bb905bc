r"""The explorer: a trajectory as one HTML file to explore in any browser.

The file needs no network and no server. It contains the states, one byte per value on the
interval that their frame spans, and a script that draws them. One can play the path or scrub
over t, choose a pixel, and see its path against ±σᵗ and ±s(t), for several solvers side by
side. The page is put together from `explorer.html`, `explorer.css` and `explorer.js`.
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole
from diffsde.views.display import (
    as_images,
    base_of_diffusion,
    default_columns,
    shade_limits,
    trajectories,
)
from diffsde.views.pages import filled, page_part

__all__ = ["explorer_page", "write_html"]

_TEXT_BYTES = 100.0  # of a frame's numbers in the file: time, envelopes and intervals


def write_html(
    sol: Trajectory | Sequence[Trajectory],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    megabytes: float = 5.0,
) -> Path:
    """Write an explorer of one trajectory or several as one self-contained HTML file.

    Args:
        sol: a trajectory of images, or several of the same shape, preferably from the same
            noise.
        path: the file to write.
        title: the page's heading; by default the solvers' names.
        megabytes: the largest size of the file. If a trajectory needs more, frames are left
            out evenly, but never the first and the last; 5 MB hold 290 frames of 16 images of
            28×28 pixels.

    Returns:
        The path of the file.

    Raises:
        InputError: the states are not images, their shapes differ, or not even two frames
            fit.
    """
    page = explorer_page(sol, title=title, megabytes=megabytes)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def explorer_page(
    sol: Trajectory | Sequence[Trajectory], *, title: str | None = None, megabytes: float = 5.0
) -> str:
    """The page that `write_html` writes, as text; for the arguments and errors, see there."""
    sols = trajectories(sol)
    shape = _common_shape(sols)
    template = _template()
    frames = _frames_that_fit(sols, shape, 1e6 * megabytes - len(template.encode()))
    heading = title or " and ".join(s.method for s in sols)
    page = {
        "sigma": base_of_diffusion(sols[0]),
        "shape": list(shape),
        "columns": default_columns(shape[0]),
        "runs": [_run(s, frames) for s in sols],
    }
    # A solver's name may contain "</script>", which would end the script if it had a "<".
    data = json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return filled(template, title=html.escape(heading), data=data)


def _common_shape(sols: list[Trajectory]) -> tuple[int, ...]:
    """The shape (B, C, H, W) of the images in all trajectories."""
    shapes = [as_images(s.ys[0], s.shape).shape for s in sols]
    if len(set(shapes)) > 1:
        raise InputError(
            f"states of shapes {' and '.join(map(str, shapes))}: expected one shape, because "
            "the explorer shows the same pixel of all trajectories"
        )
    return shapes[0]


def _template() -> str:
    """The page with its style and script, but without title and data."""
    style, script = page_part("explorer.css"), page_part("explorer.js")
    return filled(page_part("explorer.html"), style=style, script=script)


def _frames_that_fit(sols: list[Trajectory], shape: tuple[int, ...], room: float) -> int:
    """How many frames of each trajectory fit in `room` bytes."""
    states = sum(1 if s.denoised is None else 2 for s in sols)
    # Base64 stores three bytes as four characters.
    frame = states * np.prod(shape) * 4 / 3 + len(sols) * _TEXT_BYTES
    frames = int(room / frame)
    if frames < 2:
        raise InputError(
            f"{len(sols)} × {shape[0]} images of shape {shape[1:]} take {frame / 1e6:.2g} MB per "
            "frame: two frames do not fit. Raise megabytes, or pass fewer images"
        )
    return frames


def _run(sol: Trajectory, frames: int) -> dict[str, Any]:
    """One trajectory in the form that the page's script reads."""
    kept = np.unique(np.linspace(0, len(sol) - 1, min(frames, len(sol))).round().astype(int))
    states = [as_images(sol.ys[k], sol.shape) for k in kept.tolist()]
    spans = [_span(state) for state in states]
    quantised = [_quantised(s, *span) for s, span in zip(states, spans, strict=True)]
    run: dict[str, Any] = {
        "method": sol.method,
        "nfe": sol.stats.nfe,
        "steps": sol.stats.steps,
        "rejected": sol.stats.rejected,
        "seconds": sol.stats.seconds,
        "t": _numbers(sol.ts[kept]),
        "diffusion": None if sol.diffusion is None else _numbers(sol.diffusion[kept]),
        "std": None if sol.std is None else _numbers(sol.std[kept]),
        "span": spans,
        "shades": _rounded(shade_limits(sol, "envelope")[kept]),
        "states": _base64(quantised),
        "denoised": None,
    }
    if sol.denoised is not None:
        guesses = (as_images(sol.denoised[k], sol.shape) for k in kept.tolist())
        run["denoised"] = _base64([_quantised(g, 0, 1) for g in guesses])
    return run


def _span(state: NDArray[np.float32]) -> tuple[float, float]:
    """The interval that a frame's finite values span, never empty."""
    finite = state[np.isfinite(state)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return low, max(high, low + 1e-6)


def _quantised(state: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    unit = (np.nan_to_num(state) - low) / (high - low)
    return np.asarray(np.round(255 * np.clip(unit, 0, 1)), dtype=np.uint8)


def _base64(frames: list[NDArray[np.uint8]]) -> str:
    return base64.b64encode(np.stack(frames).tobytes()).decode("ascii")


def _numbers(values: Tensor) -> Any:
    return _rounded(values.detach().double().cpu().numpy())


def _rounded(values: NDArray[np.float64]) -> Any:
    """Numbers rounded to six digits, as many as a picture can show."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()
