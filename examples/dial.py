"""The dial between the flow and the SDE
========================================

For every η, the law of x(t) at each time t is that of the forward process. η = 0 is the probability
flow, η = 1 is the reverse SDE, and a larger η adds and removes more noise.

::

    python examples/dial.py

Expect, for four values of η, ten digits and the paths of one digit's pixels, all from the same
noise. The paths are smooth at η = 0 and become more jagged as η grows. At η = 0 the initial noise
alone decides the digit; the larger η is, the less the digit depends on it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import diffsde

DIAL = (0.0, 0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    model = diffsde.load_pretrained("mnist")
    x1 = model.sde.prior_sample((10, *model.shape), seed=4)
    figure, axes = plt.subplots(
        len(DIAL), 2, figsize=(8.4, 6.4), sharex="col", width_ratios=(5, 4), layout="constrained"
    )
    for (left, right), eta in zip(axes, DIAL, strict=True):
        rev = diffsde.ReverseSDE(model.sde, model, model.shape, eta=eta)
        sol = diffsde.solve(rev, x1, "sde_dpmpp_2m", steps=60, clock="karras", seed=0, denoise=True)
        left.plot(sol.ts, sol.ys[:, 0, 0, 14], lw=0.6)  # the middle row of the first digit
        left.set_yscale("asinh", linear_width=0.5)
        left.set_yticks((-10, -1, 0, 1, 10), ("−10", "−1", "0", "1", "10"))
        left.set(xlim=(1, 0), ylim=(-40, 40), ylabel=f"η = {eta:g}")
        diffsde.plot_images(sol.images(), columns=5, ax=right)
    axes[0, 0].set_title("x(t), the pixels of one row", fontsize=10)
    axes[0, 1].set_title("from the same ten noises", fontsize=10)
    axes[-1, 0].set_xlabel("t")
    figure.savefig(out / "dial.png", dpi=110)


if __name__ == "__main__":
    main()
