"""The law of a pixel, learned and exact
========================================

``ensemble`` solves any number of paths and keeps their quantiles. This example compares those of
the reverse SDE and of the flow with those of the forward process, which are known.

::

    python examples/bands.py

Expect, for three pixels, the median and the bands that contain 50 and 90 % of 200 paths, and as
dashed lines the same quantiles of 10,000 test images under forward noise. The network's law is not
that of the data where bands and dashes differ by more than 200 paths do by chance.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import diffsde

PIXELS = ((4, 4), (14, 14), (21, 10))
KNOWN = ("test images under noise", *4 * ("_",))  # a label for the first line of five


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    model = diffsde.load_pretrained("mnist")
    data = diffsde.load_images("mnist", train=False).images[:, 0].double() / 255
    figure, axes = plt.subplots(2, 3, figsize=(10, 6), sharey=True, layout="constrained")
    for row, make in zip(axes, (diffsde.ReverseSDE, diffsde.ProbabilityFlow), strict=True):
        problem = make(model.sde, model, model.shape)
        method = "sde_dpmpp_2m" if problem.stochastic else "dpmpp_2m"
        band = diffsde.ensemble(problem, 200, method, steps=20, clock="karras", save=21)
        for axis, (i, j) in zip(row, PIXELS, strict=True):
            q = band.quantiles[..., 0, i, j]  # (levels, T)
            axis.fill_between(band.ts, q[0], q[4], alpha=0.25, color="C0", lw=0, label="90 %")
            axis.fill_between(band.ts, q[1], q[3], alpha=0.35, color="C0", lw=0, label="50 %")
            axis.plot(band.ts, q[2], color="C0", label="median")
            z = torch.randn(len(data), dtype=torch.float64, generator=torch.manual_seed(0))
            x = data[:, i, j] + model.sde.marginal_std(band.ts)[:, None] * z
            axis.plot(band.ts, x.quantile(band.levels, dim=1).T, "k--", lw=0.8, label=KNOWN)
            axis.set_yscale("asinh", linear_width=0.5)
            axis.set_yticks((-10, -3, -1, 0, 1, 3, 10), ("−10", "−3", "−1", "0", "1", "3", "10"))
            title = f"{make.__name__}, pixel ({i}, {j})"
            axis.set(xlim=(1, 0), ylim=(-20, 20), xlabel="t", ylabel="x(t)", title=title)
            axis.label_outer()
    figure.legend(*axis.get_legend_handles_labels(), ncols=4, loc="outside upper center")
    figure.savefig(out / "bands.png", dpi=110)


if __name__ == "__main__":
    main()
