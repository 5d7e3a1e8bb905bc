"""Learn the score of MNIST digits
==================================

This example is the counterpart of the Julia model zoo's ``diffusion_mnist.jl``. It trains the
tutorial's network by denoising score matching, and then draws digits by the reverse SDE.

::

    python examples/train_mnist.py --out runs/mnist --epochs 5

``--recipe mnist`` trains the network that ships with the package. ``--quick`` makes only a hundred
small updates, which show that everything runs. The loss falls, but there are no digits yet. Ctrl-C
stops after the current update, and ``--resume`` continues.

Expect these files in the folder: ``model.safetensors``, ``loss.csv``, ``loss.png``, and sixteen
samples in ``train_mnist.png``. The picture below is from ``--quick --recipe mnist``, which gives
strokes after seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import diffsde
from diffsde.training import RECIPES


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"), help="folder of the run")
    parser.add_argument("--recipe", choices=RECIPES, default="mnist-tutorial")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a hundred updates on 3,200 images")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    images, recipe = diffsde.load_images("mnist"), replace(RECIPES[args.recipe], epochs=args.epochs)
    if args.quick:
        images = replace(images, images=images.images[:3264], labels=images.labels[:3264])
        recipe = replace(recipe, epochs=1, batch_size=32, held_out=64, compile=False)
    model = diffsde.train(args.out, images, recipe, resume=args.resume)

    rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
    x1 = model.sde.prior_sample((16, *model.shape), seed=0)
    sol = diffsde.solve(
        rev, x1, "sde_dpmpp_2m", steps=40, clock="karras", seed=0, denoise=True, save="last"
    )
    diffsde.plot_images(sol.images(), args.out / "train_mnist.png")


if __name__ == "__main__":
    main()
