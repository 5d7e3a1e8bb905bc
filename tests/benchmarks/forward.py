"""The fastest way to evaluate a model's score on this machine, compared with plain float32.

    python tests/benchmarks/forward.py [--model mnist] [--batch 64] [--rounds 21] [--seeds 4]

Prints the table of `diffsde.optimize`: evaluations timed in turn with plain float32, the
medians of both, and the rms change of the final images. Then it solves with the chosen model,
from noise that was not used for the choice: whole solves of 20 evaluations, in turn with
plain float32. Target: 1.5 times as fast, with images that change by less than 1/255.
"""

from __future__ import annotations

import argparse
import statistics

from torch import Tensor

from diffsde import ProbabilityFlow, ReverseSDE, load_pretrained, solve
from diffsde.analysis.speed import optimize
from diffsde.scores.model import ScoreModel

STEPS = 19  # a last evaluation removes the remaining noise
WAYS = {"flow": (ProbabilityFlow, "dpmpp_2m"), "SDE": (ReverseSDE, "sde_dpmpp_2m")}
FIRST_SEED = 100


def drawn(model: ScoreModel, way: str, batch: int, seed: int) -> tuple[Tensor, float]:
    """Final images in [0, 1], and the duration of their solve in seconds."""
    problem, method = WAYS[way]
    x1 = model.sde.prior_sample((batch, *model.shape), seed=seed)
    path = solve(
        problem(model.sde, model, model.shape), x1, method, steps=STEPS, clock="karras",
        seed=seed, save="last", denoise=True,
    )  # fmt: skip
    return path.final.clamp(0, 1), path.stats.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--seeds", type=int, default=4, help="number of seeds that check the choice"
    )
    given = parser.parse_args()
    plain = load_pretrained(given.model).eval().requires_grad_(False)
    found = optimize(plain, batch=given.batch, rounds=given.rounds)
    print(found)
    print("\nsolves of 20 evaluations: speed, and the change of the images in 1/255 rms")
    for way in WAYS:
        speeds, changes = [], []
        for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
            images, seconds = drawn(plain, way, given.batch, seed)
            ours, our_seconds = drawn(found.model, way, given.batch, seed)
            speeds.append(seconds / our_seconds)
            changes.append(255 * float((ours - images).square().mean().sqrt()))
        listed = ", ".join(f"{change:.2f}" for change in changes)
        print(f"{way}: {statistics.median(speeds):.2f} times as fast; {listed}")


if __name__ == "__main__":
    main()
