"""The duration and file size of `animate`, compared with matplotlib's FuncAnimation.

Both write the same film at the same size in pixels: 500 steps of five 28×28 images at 50
frames a second, with a title that shows t. The last image is held for a quarter of the length,
which makes 625 frames. matplotlib writes all 625; `animate` writes 501 and shows the last one
longer. Each round runs the two one after the other.

    python tests/benchmarks/animation.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import diffsde.views.animation
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.views.display import shade_limits

STEPS, IMAGES, SIDE, FPS, SEED = 500, 5, 28, 50, 0
FRAMES = STEPS + STEPS // 4


def trajectory() -> Trajectory:
    """Discs under the noise of the tutorial's SDE, like a reverse solve that ends in them."""
    log_sigma = math.log(25.0)
    ts = torch.linspace(1, 1e-3, STEPS + 1, dtype=torch.float64)
    std = torch.sqrt(torch.expm1(2 * log_sigma * ts) / (2 * log_sigma))
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    radii = torch.linspace(0.2, 0.8, IMAGES)
    discs = torch.sigmoid(20 * (radii[:, None, None] - (x**2 + y**2).sqrt()))[:, None]
    steps = torch.diff(torch.cat([torch.zeros(1), std.float().flip(0)]) ** 2).sqrt()
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(STEPS + 1, *discs.shape, generator=generator)
    ys = discs + (noise * steps[:, None, None, None, None]).cumsum(0).flip(0)
    counts = torch.arange(STEPS + 1)
    return Trajectory(
        ts, ys, "em", Stats(nfe=STEPS), (1, SIDE, SIDE), 25.0**ts, std, evaluations=counts
    )


def matplotlib_film(sol: Trajectory, path: Path, width: int, height: int) -> None:
    """The usual way: one figure, `set_data` per frame, Pillow's writer."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, IMAGES)
    low, high = shade_limits(sol, "envelope").T
    pictures = [a.imshow(sol.ys[0, i, 0], cmap="gray") for i, a in enumerate(axes)]
    for a in axes:
        a.axis("off")
    figure.subplots_adjust(0.02, 0.02, 0.98, 0.8, wspace=0.03)
    title = figure.suptitle("")

    def draw(frame: int) -> None:
        k = min(frame, STEPS)
        for image, picture in zip(sol.ys[k, :, 0], pictures, strict=True):
            picture.set_data(image)
            picture.set_clim(low[k], high[k])
        title.set_text(f"t = {float(sol.ts[k]):.3f}   s(t) = {float(sol.std[k]):.3g}")

    FuncAnimation(figure, draw, frames=FRAMES).save(path, writer=PillowWriter(fps=FPS))


def timed(write: Callable[[], object]) -> float:
    start = time.perf_counter()
    write()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    sol = trajectory()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.gif"), Path(folder, "theirs.gif")
        diffsde.views.animation.animate(sol, ours, fps=FPS)
        size = Image.open(ours).size
        pairs = [
            (
                timed(lambda: matplotlib_film(sol, theirs, *size)),
                timed(lambda: diffsde.views.animation.animate(sol, ours, fps=FPS)),
            )
            for _ in range(rounds)
        ]
        megabytes = [os.path.getsize(p) / 1e6 for p in (theirs, ours)]
    seconds = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{FRAMES} frames of {IMAGES} images {SIDE}×{SIDE}, {size[0]}×{size[1]} pixels,")
    print(f"seed {SEED}, median of {rounds} paired rounds, {os.cpu_count()} processors")
    print(f"{'':24}{'seconds':>10}{'megabytes':>12}")
    for name, s, m in zip(
        ("FuncAnimation + Pillow", "diffsde.animate"), seconds, megabytes, strict=True
    ):
        print(f"{name:24}{s:10.2f}{m:12.2f}")
    print(f"{'ratio':24}{ratio:10.1f}{megabytes[0] / megabytes[1]:12.2f}")


if __name__ == "__main__":
    main()
