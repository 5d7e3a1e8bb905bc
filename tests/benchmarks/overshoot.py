"""Why do high orders lose at few evaluations? Each step, and the images, against fine solves.

    python tests/benchmarks/overshoot.py --model mnist

A step of any method for the flow goes to where some mean denoised image D would lead,

    y₁  =  (σ₁ / σ₀) y₀  +  (1 − σ₁ / σ₀) D.

ddim takes D₀, that of the step's start. What a fine solve from the same state takes beyond D₀ is
the change that is needed, and what a method takes beyond D₀ is its guess. The first table gives
for each step but the first the share of the needed change that the guess covers (more than 1 is
too far), and the rest of the guess, in other directions, as a multiple of the needed change. Where
(share − 1)² + rest² is more than 1, the guess is worse than none. The last two columns are the
largest shares of pixels of D₀ and of D that are more than 0.1 beyond the data's range.

The second table is of the images, after the last denoising evaluation, from the same noise as a
fine solve: rms, the distance from its images; contrast, the error along what these differ from
their mean (less than 0 is too pale); confident, the share of images of which the classifier is
sure; drift, the Fréchet distance between the features of both sets. ", 1" is `last_order=1`.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from torch import Tensor

import diffsde
from diffsde import ProbabilityFlow, ScoreModel
from diffsde.evaluation.classifier import Classifier, classifier_of
from diffsde.evaluation.metrics import fid
from diffsde.evaluation.real import data_of

SOLVERS = (
    ("ddim", "karras"), ("dpmpp_2m", "karras"), ("dpmpp_3m", "karras"), ("unipc", "karras"),
    ("unipc", "log_sigma"), ("deis", "karras"), ("ipndm", "karras"),
)  # fmt: skip
FINE = 12  # steps of the fine solve of a step
SURE = 0.95


class Guess(NamedTuple):
    """How much of the needed change of D a step covers, and what else it changes."""

    share: float
    rest: float
    network_beyond: float
    method_beyond: float


def finely(flow: ProbabilityFlow, x: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """The end of a step from t₀ to t₁, in many steps that are even in log σ."""
    first, last = flow.sde.noise_level(torch.stack([t0, t1])).log().unbind()
    inner = torch.linspace(float(first), float(last), FINE + 1, dtype=torch.float64)[1:-1].exp()
    ts = torch.cat([t0[None], flow.sde.time_of_noise_level(inner), t1[None]])
    return diffsde.solve(flow, x, "dpmpp_2m", ts=ts, clock="log_sigma", save="last").final


def guesses(model: ScoreModel, x: Tensor, method: str, clock: str, steps: int) -> list[Guess]:
    flow, found = model.flow(), []
    path = diffsde.solve(flow, x, method, steps=steps, clock=clock)
    scale, sigma = model.sde.marginal_scale(path.ts), model.sde.noise_level(path.ts)
    for k in range(1, steps):
        y0, ratio = path.ys[k] / scale[k], sigma[k + 1] / sigma[k]
        start = model.denoise(path.ys[k], path.ts[k])
        exact = finely(flow, path.ys[k], path.ts[k], path.ts[k + 1])
        mean, wanted = (
            (end / scale[k + 1] - ratio * y0) / (1 - ratio) for end in (path.ys[k + 1], exact)
        )
        guess, needed = (mean - start).double(), (wanted - start).double()
        share = float((guess * needed).sum() / needed.square().sum())
        rest = float((guess - share * needed).norm() / needed.norm())
        found.append(Guess(share, rest, beyond(model, start), beyond(model, mean)))
    return found


def beyond(model: ScoreModel, x: Tensor) -> float:
    """The share of pixels more than a tenth of the data's range outside of it."""
    black, white = model.data_range
    margin = 0.1 * (white - black)
    return float(((x < black - margin) | (x > white + margin)).float().mean())


def show_steps(model: ScoreModel, x: Tensor, steps: int) -> None:
    print(f"\n{steps + 1} evaluations: share and rest of each step, and pixels beyond")
    for method, clock in SOLVERS:
        row = guesses(model, x, method, clock, steps)
        cells = "".join(f"{guess.share:8.2f} {guess.rest:5.2f}" for guess in row)
        network, own = max(g.network_beyond for g in row), max(g.method_beyond for g in row)
        print(f"{method:10}{clock:10}{cells}{network:9.3f}{own:7.3f}", flush=True)


def show_images(
    model: ScoreModel, classifier: Classifier, x: Tensor, exact: Tensor, steps: int
) -> None:
    print(f"\n{steps + 1} evaluations      rms  contrast  confident   drift")
    apart = exact - exact.mean(0)
    for method, clock in SOLVERS:
        for options in [{}] if method == "ddim" else [{}, {"last_order": 1}]:
            how = {"steps": steps, "clock": clock, "save": "last", "options": options}
            end = diffsde.solve(model.flow(), x, method, denoise=True, **how).final
            error = end - exact
            numbers = (
                error.square().mean().sqrt(),
                (error * apart).sum() / apart.square().sum(),
                sure(model, classifier, end),
                drift(model, classifier, end, exact),
            )
            name = f"{method}, {clock}" + ", 1" * bool(options)
            rms, contrast, confident, far = map(float, numbers)
            row = f"{name:22}{rms:7.4f}{contrast:9.3f}{confident:10.2f}{far:10.1f}"
            print(row, flush=True)


def features(model: ScoreModel, classifier: Classifier, x: Tensor) -> Tensor:
    black, white = model.data_range
    return classifier.features(((x - black) / (white - black)).clamp(0, 1))


def sure(model: ScoreModel, classifier: Classifier, x: Tensor) -> float:
    likely = classifier.probabilities(features(model, classifier, x)).amax(1)
    return float((likely > SURE).float().mean())


def drift(model: ScoreModel, classifier: Classifier, x: Tensor, exact: Tensor) -> float:
    return float(fid(*(features(model, classifier, one) for one in (x, exact))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--n", type=int, default=96, help="images; a quarter for the steps")
    parser.add_argument("--data", help="folder of the data set, for its classifier")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 6, 8])
    given = parser.parse_args()
    model = diffsde.load_pretrained(given.model)
    classifier = classifier_of(data_of(model, None, given.data)).eval()
    x = model.sde.prior_sample((given.n, *model.shape), seed=0)

    def fine(steps: int) -> Tensor:
        how = {"steps": steps, "clock": "log_sigma", "save": "last", "denoise": True}
        return diffsde.solve(model.flow(), x, "unipc", **how).final

    exact = fine(80)
    change = float((exact - fine(40)).square().mean().sqrt())
    certain = sure(model, classifier, exact)
    print(f"{given.model}: of {given.n} images of the fine solve {certain:.2f} are sure", end="; ")
    print(f"half its steps change them by {change:.4f}", flush=True)
    for evaluations in given.evaluations:
        show_steps(model, x[: given.n // 4], evaluations - 1)
        show_images(model, classifier, x, exact, evaluations - 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        main()
