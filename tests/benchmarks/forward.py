"""The fastest way to evaluate a model's score here, against plain float32, and what it costs.

    python tests/benchmarks/forward.py [--model mnist] [--batch 64] [--rounds 21]

Prints the table of `diffsde.optimize`: evaluations timed in turns with plain float32, the
medians of both, and the rms change of the final images. Target: 1.5 times as fast, with
images unchanged to 1/255.
"""

from __future__ import annotations

import argparse

from diffsde import load_pretrained
from diffsde.speed import optimize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    model = load_pretrained(given.model)
    print(optimize(model, batch=given.batch, rounds=given.rounds))


if __name__ == "__main__":
    main()
