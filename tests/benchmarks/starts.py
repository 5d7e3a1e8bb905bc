"""Where samples go wrong: the quality of solves that start from noised digits.

    python tests/benchmarks/starts.py [--model mnist] [--images 1000] [--steps 12]

Prints two tables. In the first, solves start at a noise level σ from training images under
noise of this level, whose law is exactly p_t. If the quality falls between two levels, it is
lost between them. In the second, solves start at T from three kinds of noise: the tutorial's
prior N(0, s²), the prior with the data's mean, and noised training images.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import diffsde
from diffsde.equations.reverse import PROBLEMS
from diffsde.evaluation.scoring import evaluate
from diffsde.scores.model import ScoreModel

LEVELS = (0.4, 0.8, 1.6, 3.2)
SAMPLERS = {"sde": "sde_dpmpp_2m", "ode": "dpmpp_2m"}
CHUNK = 250
FIRST = 20_000  # first training image to be noised; those before it give the floor


def karras_times(model: ScoreModel, level: float, steps: int) -> Tensor:
    """Times from a noise level down to ε that are even in σ^(1/7)."""
    sde = model.sde
    last = float(sde.noise_level(torch.tensor(sde.eps, dtype=torch.float64)))
    roots = torch.linspace(level ** (1 / 7), last ** (1 / 7), steps + 1, dtype=torch.float64)
    ts = sde.time_of_noise_level(roots**7)
    return ts.clamp(sde.eps, sde.T)


def score(model: ScoreModel, kind: str, start: Tensor, ts: Tensor) -> str:
    """FID, its floor, the confident share and the share of ones."""
    problem = PROBLEMS[kind](model.sde, model, model.shape)
    final = diffsde.solve(
        problem, start, SAMPLERS[kind], ts=ts, clock="karras", seed=0, save="last",
        chunk=CHUNK, denoise=True,
    ).final  # fmt: skip
    found = evaluate(final, bootstraps=2, progress=False)
    return (
        f"{kind}  FID {found.fid:6.2f}  floor {found.floor:5.2f}  "
        f"confident {found.confident:6.1%}  ones {found.classes[1]:6.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    model = diffsde.load_pretrained(args.model)
    index = torch.arange(FIRST, FIRST + args.images)
    digits = diffsde.load_images("mnist").batch(index)
    noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for level in LEVELS:
            ts = karras_times(model, level, args.steps)
            for kind in SAMPLERS:
                print(f"σ = {level}", score(model, kind, digits + level * noise, ts), flush=True)
        top = model.sde.prior_std
        ts = karras_times(model, top, args.steps + 7)
        mean = diffsde.load_images("mnist").mean()
        starts = {"N(0, s²)": 0.0, "N(mean, s²)": mean, "noised digits": digits}
        for name, centre in starts.items():
            for kind in SAMPLERS:
                print(f"{name:>13}", score(model, kind, centre + top * noise, ts), flush=True)


if __name__ == "__main__":
    main()
