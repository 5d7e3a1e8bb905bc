"""Learn the score of MNIST's digits, and look at what it draws.

    python examples/train_mnist.py --out runs/mnist --epochs 1

One epoch with the tutorial's network takes about two minutes on two cores, and its digits
are still rough. `--recipe mnist` trains the network that ships with the package; Ctrl-C
stops after the update under way, and `--resume` goes on as if nothing had happened.

Expect in the folder: `model.safetensors`, `loss.csv`, `loss.png`, and `samples.png`, sixteen
digits from the reverse SDE.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import diffsde
from diffsde.training import RECIPES


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--recipe", choices=RECIPES, default="mnist-tutorial")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    recipe = replace(RECIPES[args.recipe], epochs=args.epochs)
    model = diffsde.train(args.out, diffsde.load_images("mnist"), recipe, resume=args.resume)
    reverse = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    noise = model.sde.prior_sample((16, *model.shape), seed=0)
    digits = diffsde.solve(reverse, noise, "sde_dpmpp_2m", steps=50, clock="karras", seed=0)
    diffsde.plot_images(digits.final, args.out / "samples.png")


if __name__ == "__main__":
    main()
