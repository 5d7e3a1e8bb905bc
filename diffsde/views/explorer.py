r"""The explorer: a trajectory as one HTML file to explore in any browser.

The file needs no network and no server. It contains the states and a script that draws them.
One can play the path or scrub over t, choose a pixel, and see its path against ±σᵗ and ±s(t),
for several solvers side by side. States in the plane are shown as points that move, with the
trail of a chosen one, and signals as lines. A value takes one byte in an image, and two in a point
or a signal, on the interval that its frame spans.

The page is put together from `explorer.html`, `explorer.css` and the scripts `explorer.js`,
`explorer_images.js`, `explorer_plane.js` and `explorer_signals.js`, which take points in the plane
for images of one row and two columns, and signals for images of one row.
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
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsde.errors import InputError
from diffsde.solvers.trajectory import Trajectory
from diffsde.system.files import written_whole
from diffsde.system.numbers import real_number
from diffsde.views.decoding import Decode, decoded_all
from diffsde.views.display import (
    base_of_diffusion,
    default_columns,
    shade_limits,
    title_of,
)
from diffsde.views.film_fit import fit_signals
from diffsde.views.film_view import calmest
from diffsde.views.kinds import (
    IMAGES,
    PLANE,
    SIGNALS,
    as_images,
    as_signals,
    common_kind,
    kind_of,
    sample_shape,
)
from diffsde.views.pages import filled, page_part

__all__ = ["explorer_page", "write_html"]

_MOST_SIGNALS = 64  # on a page
_TEXT_BYTES = 150.0  # of a frame's numbers in the file: time, envelopes and intervals


def write_html(
    sol: Trajectory | Sequence[Trajectory],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    megabytes: float = 5.0,
    decode: Decode | None = None,
) -> Path:
    """Write an explorer of one trajectory or several as one self-contained HTML file.

    Args:
        sol: a trajectory of images, (B, C, H, W) with C = 1 or 3, of signals, (B, C, L), or of
            points, (B, D); or several of the same shape, preferably from the same noise.
            Denoised estimates, if a trajectory has them (`solve` with estimates=True), are
            shown beside the states. Of signals, the first 64 are shown.
        path: the file to write.
        title: the page's heading; by default the solvers' names.
        megabytes: the largest size of the file. If a trajectory needs more, frames are left
            out evenly, but never the first and the last; 5 MB hold 290 frames of 16 images of
            28×28 pixels.
        decode: for a trajectory of latents, as in `animate`.

    Returns:
        The path of the file.

    Raises:
        InputError: the states are neither images nor signals nor points, their shapes differ,
            or not even two frames fit.
    """
    page = explorer_page(sol, title=title, megabytes=megabytes, decode=decode)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def explorer_page(
    sol: Trajectory | Sequence[Trajectory],
    *,
    title: str | None = None,
    megabytes: float = 5.0,
    decode: Decode | None = None,
) -> str:
    """The page that `write_html` writes, as text; for the arguments and errors, see there."""
    sols = decoded_all(sol, decode)
    kind, batch = common_kind(sols), sols[0].ys.shape[1]
    shape = _common_shape(sols)
    if kind == SIGNALS and batch > _MOST_SIGNALS:
        sols, shape = [s.sample(slice(_MOST_SIGNALS)) for s in sols], (_MOST_SIGNALS, *shape[1:])
    template = _template()
    room = 1e6 * real_number(megabytes, "megabytes", "the largest size of the file", 0.0)
    frames = _frames_that_fit(sols, shape, room - len(template.encode()))
    heading = title or " and ".join(map(title_of, sols))
    page = {
        "sigma": base_of_diffusion(sols[0]),
        "shape": list(shape),
        "batch": batch,
        **_placed(sols, kind),
        "runs": [_run(s, frames) for s in sols],
    }
    # A solver's name may contain "</script>", which would end the script if it had a "<".
    data = json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return filled(template, title=html.escape(heading), data=data)


def _common_shape(sols: list[Trajectory]) -> tuple[int, ...]:
    """The shape (B, C, H, W) of the states in all trajectories, as `_frame` gives them."""
    shapes = [_frame(s, s.ys, 0).shape for s in sols]
    if len(set(shapes)) > 1:
        raise InputError(
            f"states of shapes {' and '.join(map(str, shapes))}: expected one shape, because "
            "the explorer shows the same pixel of all trajectories"
        )
    return shapes[0]


def _frame(sol: Trajectory, states: Tensor, k: int) -> NDArray[np.float32]:
    """One frame as images (B, C, H, W); points in the plane and signals have one row."""
    if kind_of(sol) == IMAGES:
        return as_images(states[k], sol.shape)
    return as_signals(states[k], sol.shape)[:, :, None]


def _placed(sols: list[Trajectory], kind: str) -> dict[str, Any]:
    """How many samples form a row, and the space that points or signals move through."""
    count = sols[0].ys.shape[1]
    page: dict[str, Any] = {"columns": default_columns(count), "plane": None, "signals": None}
    if kind == PLANE:
        page["plane"] = _extent(sols, 2)
    if kind == SIGNALS:
        cells = fit_signals(count, 1, None)
        aspect = {"aspect": round(cells.width / cells.height, 3)}
        page |= {"columns": cells.columns, "signals": _extent(sols, 1) | aspect}
    return page


def _extent(sols: list[Trajectory], coordinates: int) -> dict[str, Any]:
    """The squares in which points are shown: their centre, and half the side.

    The near square holds the points where there is least noise, and the far one all paths. The
    values of signals are points with one coordinate.
    """
    calm = torch.cat([s.ys[calmest(s)].reshape(-1, coordinates) for s in sols])
    calm = calm.detach().double().cpu()
    finite = calm[calm.isfinite().all(1)]
    calm = finite if len(finite) else torch.zeros_like(calm)
    centre = (calm.amin(0) + calm.amax(0)) / 2
    far = max(_furthest(s.ys.reshape(-1, coordinates), centre) for s in sols)
    return {
        "centre": _numbers(centre),
        "near": max(float((calm - centre).abs().max()), 1e-3 * far, 1e-6),
        "far": max(far, 1e-6),
    }


def _furthest(ys: Tensor, centre: Tensor) -> float:
    """The largest finite distance from the centre in either coordinate."""
    away = (ys.detach().double().cpu() - centre).abs()
    return float(torch.nan_to_num(away, nan=0.0, posinf=0.0).max())


def _template() -> str:
    """The page with its style and script, but without title and data."""
    scripts = ("explorer_images.js", "explorer_plane.js", "explorer_signals.js", "explorer.js")
    style, script = page_part("explorer.css"), "".join(map(page_part, scripts))
    return filled(page_part("explorer.html"), style=style, script=script)


def _frames_that_fit(sols: list[Trajectory], shape: tuple[int, ...], room: float) -> int:
    """How many frames of each trajectory fit in `room` bytes."""
    states = sum(1 if s.denoised is None else 2 for s in sols)
    size = np.dtype(_stored(sols[0])).itemsize
    # Base64 stores three bytes as four characters.
    frame = states * np.prod(shape) * size * 4 / 3 + len(sols) * _TEXT_BYTES
    frames = int(room / frame)
    if frames < 2:
        raise InputError(
            f"{len(sols)} × {shape[0]} {_what(sols[0])} take {frame / 1e6:.2g} MB per frame: two "
            "frames do not fit. Raise megabytes, or pass fewer of them"
        )
    return frames


def _run(sol: Trajectory, frames: int) -> dict[str, Any]:
    """One trajectory in the form that the page's script reads."""
    kept = np.unique(np.linspace(0, len(sol) - 1, min(frames, len(sol))).round().astype(int))
    states = [_frame(sol, sol.ys, k) for k in kept.tolist()]
    spans = [_span(state) for state in states]
    run: dict[str, Any] = {
        "method": title_of(sol),
        "nfe": sol.stats.nfe,
        "steps": sol.stats.steps,
        "rejected": sol.stats.rejected,
        "seconds": sol.stats.seconds,
        "t": _numbers(sol.ts[kept]),
        "diffusion": None if sol.diffusion is None else _numbers(sol.diffusion[kept]),
        "std": None if sol.std is None else _numbers(sol.std[kept]),
        "span": spans,
        "range": sol.data_range,
        "shades": _rounded(shade_limits(sol, "envelope")[kept]),
        "states": _quantised(states, spans, _stored(sol)),
        "denoised": None,
    }
    if sol.denoised is not None:
        guesses = [_frame(sol, sol.denoised, k) for k in kept.tolist()]
        spans = [sol.data_range if kind_of(sol) == IMAGES else _span(guess) for guess in guesses]
        run |= {"guess_span": spans, "denoised": _quantised(guesses, spans, _stored(sol))}
    return run


def _stored(sol: Trajectory) -> type[np.unsignedinteger[Any]]:
    """The type of a stored value: points and lines show finer differences than a shade."""
    return np.uint8 if kind_of(sol) == IMAGES else np.uint16


def _what(sol: Trajectory) -> str:
    kind = kind_of(sol)
    return PLANE if kind == PLANE else f"{kind} of shape {sample_shape(sol)}"


def _span(state: NDArray[np.float32]) -> tuple[float, float]:
    """The interval that a frame's finite values span, never empty."""
    finite = state[np.isfinite(state)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return low, max(high, low + 1e-6)


def _quantised(
    frames: list[NDArray[np.float32]],
    spans: list[tuple[float, float]],
    stored: type[np.unsignedinteger[Any]],
) -> str:
    """Frames as whole numbers on their intervals, in base64."""
    levels = np.iinfo(stored).max
    units = (
        np.clip((np.nan_to_num(frame, posinf=high, neginf=low) - low) / (high - low), 0, 1)
        for frame, (low, high) in zip(frames, spans, strict=True)
    )
    # Browsers run on machines that store the lowest byte first.
    little = np.dtype(stored).newbyteorder("<")
    numbers = np.stack([np.round(levels * unit).astype(little) for unit in units])
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _numbers(values: Tensor) -> Any:
    return _rounded(values.detach().double().cpu().numpy())


def _rounded(values: NDArray[np.float64]) -> Any:
    """Numbers rounded to six digits, as many as a picture can show."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()
