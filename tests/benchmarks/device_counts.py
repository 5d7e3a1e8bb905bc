"""What a solve asks of an accelerator, row by row, counted on the emulated device.

    python -m tests.benchmarks.device_counts            # a table in Markdown
    python -m tests.benchmarks.device_counts --save last

For each solver, of a solve of 20 steps and of one of 40, with the exact score of a mixture:

    looks       how often the host waits for a number of the device, in the whole longer solve
    transfers   copies from the host to the device in it
    launches    operations on the device a step, from the difference of the two solves
    of these    launches of the score's own evaluations

A method that chooses its steps solves for one sample, and its accepted and rejected steps are
counted. Some SDE methods follow with steps that they choose, and with fixed steps along a
`BrownianPath`. The last lines have the launches of one evaluation of a network, and of a chunk more
in a captured solve.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsde import (
    VESDE,
    BrownianPath,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    list_solvers,
    load_pretrained,
    solve,
)
from diffsde.system.captures import CAPTURES
from tests.emulated_device import DEVICE, Emulated, EmulatedCapture

SHORT, LONG = 20, 40
CHOOSING = {"adaptive": True}
ALONG = {"noise": BrownianPath(0)}
# Other ways to solve by some rows, with what the table calls them.
OTHERWISE = [
    *((name, ", adaptive", CHOOSING) for name in ("em", "seeds_2", "sosra", "srk")),
    *((name, " along a path", ALONG) for name in ("em", "srk")),
]


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


def counted(row: Any, steps: int, save: str, **otherwise: Any) -> Counts:
    """The counts of one solve."""
    problem = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    chooses = otherwise.get("adaptive", row.adaptive)
    how: dict[str, Any] = {"save": save, **otherwise}
    if chooses or row.iterates:
        how |= {"rtol": 1e-2, "atol": 1e-2}
    if not row.adaptive:  # an SDE that chooses its steps lands on these times
        how |= {"steps": 1 if chooses else steps}
    with Emulated(float64=False) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = Launching(device)
        x = device.tensor(VESDE().prior_sample((1 if chooses else 2, 2), seed=0))
        device.reset()
        if "noise" not in how:
            how["seed"] = 0
        sol = solve(problem(VESDE(), score, (2,)), x, row.name, clock="karras", **how)
        taken = sol.stats.steps + sol.stats.rejected
        numbers = device.synchronisations, device.transfers, device.launches, score.launches
    return Counts(taken, *numbers)


def line(row: Any, save: str, called: str = "", **otherwise: Any) -> str:
    """A row of the table."""
    long = counted(row, LONG, save, **otherwise)
    if otherwise.get("adaptive", row.adaptive):
        launches = [f"{n / long.steps:.1f}" for n in long[3:]]
        cells = [f"{long.looks} in {long.steps} steps", str(long.transfers), *launches]
    else:
        short = counted(row, SHORT, save, **otherwise)
        launches, by_score = ((b - a) / (LONG - SHORT) for a, b in zip(short[3:], long[3:]))
        cells = [str(long.looks), str(long.transfers), f"{launches:.1f}", f"{by_score:.1f}"]
    return f"| `{row.name}`{called} | {row.kind} | {' | '.join(cells)} |"


def launches_of_a_network() -> int:
    """How many operations one evaluation of the tutorial's network launches."""
    model = load_pretrained("mnist-tutorial").requires_grad_(False)
    x = model.sde.prior_sample((2, *model.shape), seed=0)
    with Emulated(float64=False) as device:
        model, x = device.module(model), device.tensor(x)
        (moment,) = model.prepare(device.tensor(torch.tensor([0.5])))
        device.reset()
        model(x, moment)
        return device.launches


def launches_of_a_chunk(row: Any, steps: int) -> int:
    """How many calls a further chunk of a captured solve takes."""
    problem = ReverseSDE if row.kind == "sde" else ProbabilityFlow
    launches = []
    with Emulated(float64=False) as device:
        rev = problem(VESDE(), Launching(device), (2,))
        for chunks in (3, 4):
            x = device.tensor(VESDE().prior_sample((2 * chunks, 2), seed=0))
            device.reset()
            solve(rev, x, row.name, steps=steps, seed=0, chunk=2, capture=True)
            launches.append(device.launches)
    return launches[1] - launches[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", choices=("all", "last"), default="all")
    save = parser.parse_args().save
    print("| solver | kind | looks | transfers | launches a step | of these the score's |")
    print("|---|---|---|---|---|---|")
    for row in list_solvers():
        print(line(row, save), flush=True)
    rows = {row.name: row for row in list_solvers("sde")}
    for name, called, otherwise in OTHERWISE:
        print(line(rows[name], save, called, **otherwise), flush=True)
    print(f"\nAn evaluation of the tutorial's `ScoreUNet` launches {launches_of_a_network()}.")
    CAPTURES[DEVICE.type] = EmulatedCapture
    for steps in (SHORT, LONG):
        calls = launches_of_a_chunk(rows["srk"], steps)
        print(f"A further chunk of {steps} captured steps of `srk` takes {calls} calls.")


if __name__ == "__main__":
    main()
