"""What a solve asks of an accelerator, row by row, counted on the emulated device.

    python -m tests.benchmarks.device_counts            # a table in Markdown
    python -m tests.benchmarks.device_counts --save last

For each solver, of a solve of 20 steps and of one of 40, with the exact score of a mixture:

    looks       how often the host waits for a number of the device, in the whole longer solve
    transfers   copies from the host to the device in it
    launches    operations on the device a step, from the difference of the two solves
    of these    launches of the score's own evaluations

Where a method chooses its steps, the counts are divided by the accepted and the rejected ones.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsde import VESDE, MixtureScore, ProbabilityFlow, ReverseSDE, list_solvers, solve
from tests.emulated_device import Emulated

SHORT, LONG = 20, 40


class Launching(nn.Module):
    """A score that notes how many operations its evaluations launch."""

    def __init__(self, device: Emulated) -> None:
        super().__init__()
        means = torch.tensor([[0.5, -0.2], [-0.4, 0.3]])
        self.inner = device.module(MixtureScore(VESDE(), means, 0.3).float())
        self.device, self.launches = device, 0
        self.data_scale = self.inner.data_scale

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        before = self.device.launches
        found: Tensor = self.inner(x, t)
        self.launches += self.device.launches - before
        return found


class Counts(NamedTuple):
    steps: int
    looks: int
    transfers: int
    launches: int
    by_score: int


def counted(row: Any, steps: int, save: str) -> Counts:
    """The counts of one solve."""
    problem = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    how = {} if row.adaptive else {"steps": steps}
    with Emulated(float64=False) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = Launching(device)
        x = device.tensor(VESDE().prior_sample((2, 2), seed=0))
        device.reset()
        sol = solve(
            problem(VESDE(), score, (2,)), x, row.name, clock="karras", seed=0, save=save,
            rtol=1e-2, atol=1e-2, **how,
        )  # fmt: skip
        taken = sol.stats.steps + sol.stats.rejected
        numbers = device.synchronisations, device.transfers, device.launches, score.launches
    return Counts(taken, *numbers)


def line(row: Any, save: str) -> str:
    """A row of the table."""
    long = counted(row, LONG, save)
    if row.adaptive:
        per_step = [f"{n / long.steps:.1f}" for n in long[1:]]
        cells = [f"{per_step[0]} a step", f"{per_step[1]} a step", *per_step[2:]]
    else:
        short = counted(row, SHORT, save)
        launches, by_score = ((b - a) / (LONG - SHORT) for a, b in zip(short[3:], long[3:]))
        cells = [str(long.looks), str(long.transfers), f"{launches:.1f}", f"{by_score:.1f}"]
    return f"| `{row.name}` | {row.kind} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", choices=("all", "last"), default="all")
    save = parser.parse_args().save
    print("| solver | kind | looks | transfers | launches a step | of these the score's |")
    print("|---|---|---|---|---|---|")
    for row in list_solvers():
        print(line(row, save), flush=True)


if __name__ == "__main__":
    main()
