"""Does a clock that is fitted to a network pay? Nodes by dynamic programming, against Karras's.

    python tests/benchmarks/fitted_clock.py --model mnist

The teacher is a fine solve of some noise by the probability flow. A step of `ddim` from each of
its nodes to each later one gives the error of that step, and dynamic programming finds the N steps
with the smallest sum of errors (Chen et al., arXiv 2405.11326). The table gives the rms error of
the final images on other noise, in Karras's clock and with the fitted nodes, and their ratio.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch import Tensor

import diffsde
from diffsde import ProbabilityFlow, ScoreModel, Trajectory

METHODS = ("ddim", "deis", "dpmpp_2m", "unipc")


def teacher(flow: ProbabilityFlow, seed: int, n: int, steps: int) -> Trajectory:
    x = flow.sde.prior_sample((n, *flow.shape), seed=seed)
    return diffsde.solve(flow, x, "deis", steps=steps, clock="karras")


def costs(model: ScoreModel, path: Trajectory) -> Tensor:
    """The mean distance after a step of ddim from node i to node j > i, (T, T)."""
    sigma, nodes = model.sde.noise_level(path.ts), range(len(path))
    scale = model.sde.marginal_scale(path.ts).to(path.ys)
    found = torch.full((len(path), len(path)), torch.inf)
    clean = [model.denoise(x, float(t)) for t, x in path]
    for i, j in itertools.combinations(nodes, 2):
        kept = float(sigma[j] / sigma[i])
        end = kept * path.ys[i] / scale[i] + (1 - kept) * clean[i]
        found[i, j] = float((end - path.ys[j] / scale[j]).flatten(1).norm(dim=1).mean())
    return found


def cheapest(cost: Tensor, steps: int) -> list[int]:
    """The nodes of the way from the first to the last in so many steps."""
    size = len(cost)
    best = torch.full((steps + 1, size), torch.inf)
    best[0, 0] = 0
    before = torch.zeros(steps + 1, size, dtype=torch.long)
    for step in range(1, steps + 1):
        best[step], before[step] = (best[step - 1][:, None] + cost).min(0)
    way = [size - 1]
    for step in range(steps, 0, -1):
        way.append(int(before[step, way[-1]]))
    return way[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--n", type=int, default=64, help="images to fit on, and to judge on")
    arguments = parser.parse_args()
    model = diffsde.load_pretrained(arguments.model)
    flow = model.flow()
    path = teacher(flow, seed=100, n=arguments.n, steps=48)
    cost = costs(model, path)
    x = model.sde.prior_sample((arguments.n, *model.shape), seed=7)
    exact = diffsde.solve(flow, x, "deis", steps=200, clock="karras", denoise=True).final

    def error(method: str, **grid: object) -> float:
        end = diffsde.solve(flow, x, method, save="last", denoise=True, **grid).final  # type: ignore[arg-type]
        return float((end - exact).square().mean().sqrt())

    print(f"{'method':10}{'NFE':>4}{'karras':>10}{'fitted':>10}{'ratio':>8}")
    for method, steps in itertools.product(METHODS, (3, 4, 5, 7, 9)):
        karras = error(method, steps=steps, clock="karras")
        fitted = error(method, ts=path.ts[cheapest(cost, steps)])
        print(
            f"{method:10}{steps + 1:4}{karras:10.4f}{fitted:10.4f}{karras / fitted:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        main()
