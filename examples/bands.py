"""The law of a pixel, learned and exact
========================================

``ensemble`` solves any number of paths and keeps their quantiles. Here those of the reverse SDE and
of the flow are compared with the known ones of the forward process: data plus Gaussian noise.

::

    python examples/bands.py

Expect, for three pixels, the median and the bands that contain 50 and 90 % of 200 paths, and as
dashed lines the same quantiles of 10,000 test images under forward noise. Where bands and dashes
differ, the network's law is not that of the data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import diffsde

PIXELS = ((4, 4), (14, 14), (21, 10))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    model = diffsde.load_pretrained("mnist")
    data = diffsde.load_images("mnist", train=False).images[:, 0].double() / 255
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), sharex=True, sharey=True)
    for row, make in zip(axes, (diffsde.ReverseSDE, diffsde.ProbabilityFlow), strict=True):
        problem = make(model.sde, model, model.shape)
        method = "sde_dpmpp_2m" if problem.stochastic else "dpmpp_2m"
        band = diffsde.ensemble(problem, 200, method, steps=20, clock="karras", save=21)
        for axis, (i, j) in zip(row, PIXELS, strict=True):
            q = band.quantiles[..., 0, i, j]  # (levels, T)
            axis.fill_between(band.ts, q[0], q[4], alpha=0.25, color="C0", lw=0)
            axis.fill_between(band.ts, q[1], q[3], alpha=0.35, color="C0", lw=0)
            axis.plot(band.ts, q[2], color="C0")
            z = torch.randn(len(data), dtype=torch.float64, generator=torch.manual_seed(0))
            x = data[:, i, j] + model.sde.marginal_std(band.ts)[:, None] * z
            axis.plot(band.ts, x.quantile(band.levels, dim=1).T, "k--", lw=0.8)
            axis.set_title(f"{make.__name__}, pixel ({i}, {j})", fontsize=9)
            axis.set_yscale("asinh", linear_width=0.5)
            axis.set_yticks((-10, -3, -1, 0, 1, 3, 10), ("−10", "−3", "−1", "0", "1", "3", "10"))
            axis.set(xlim=(1, 0), ylim=(-20, 20))
    figure.tight_layout()
    figure.savefig(out / "bands.png", dpi=110)


if __name__ == "__main__":
    main()
