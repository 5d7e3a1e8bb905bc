"""Two moons, from the data to a film
===================================

Points in the plane are data like any others: ``train`` takes the tensor, measures its scale, and
learns a small network::

    python examples/two_moons.py

Expect 8,000 points, 20 seconds of training on one core, and a film in which noise condenses
into the two moons.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import diffsde
from diffsde.training import RECIPES


def two_moons(n: int) -> torch.Tensor:
    numbers = torch.manual_seed(0)
    angle, side = torch.pi * torch.rand(n, generator=numbers), torch.arange(n) % 2 * 2 - 1
    points = torch.stack([angle.cos() - side / 2, angle.sin() - 0.25], 1)
    points[:, 1] *= side
    return points + 0.07 * torch.randn(n, 2, generator=numbers)


parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("two_moons"), help="folder of run and film")
parser.add_argument("--epochs", type=int, default=80)
args = parser.parse_args()
recipe = replace(RECIPES["points"], epochs=args.epochs)
run = args.out / "run"
model = diffsde.train(run, two_moons(8000), recipe, resume=run.exists())
diffsde.animate(model.sample(2000, seed=0), args.out / "two_moons.gif")
