"""The same methods in azula, diffusers and k-diffusion: their time over ours, and the difference.

    pip install azula diffusers k-diffusion
    OMP_NUM_THREADS=1 python tests/benchmarks/libraries.py

All use the same network, noise, schedule (Karras et al., from s(1) to s(ε)) and number of
evaluations. Only those of the three libraries that are installed take part. Ours saves only the
last state, as theirs do. For an SDE and a large batch it draws the numbers of the next step in
a second thread; --cpu counts its time, but a clock does not if a core is free. The two of a
pair are timed in turn for several rounds; a ratio above 1 means that theirs is slower.
--rounds R takes 2 R solves of each; --batch and --steps choose the sizes. The last column is
the rms difference of the final states, for pairs that are both deterministic.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde import ProbabilityFlow, ReverseSDE, ScoreModel, load_pretrained, solve

RHO = 7.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Theirs:
    """A sampler of another library.

    Attributes:
        cost: evaluations for each step.
        run: called as (model, x, steps); returns the final states.
        ours: the same method of this package, as (kind, name, clock), if there is one.
    """

    cost: int
    run: Callable[[ScoreModel, Tensor, int], Tensor]
    ours: tuple[str, str, str] | None = None


def karras(model: ScoreModel, steps: int) -> Tensor:
    """steps + 1 noise levels from s(1) down to s(ε), (steps + 1,)."""
    high, low = levels(model)
    ramp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return ((1 - ramp) * high ** (1 / RHO) + ramp * low ** (1 / RHO)) ** RHO


def levels(model: ScoreModel) -> tuple[float, float]:
    times = torch.tensor([model.sde.T, model.sde.eps], dtype=torch.float64)
    high, low = model.sde.noise_level(times).tolist()
    return high, low


def denoised(model: ScoreModel, x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; σ), the clean image, which all three libraries need."""
    return model.denoise(x, model.sde.time_of_noise_level(sigma))


# -- k-diffusion -----------------------------------------------------------------------


def k_diffusion() -> Mapping[str, Theirs]:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        return {}
    # The package itself imports CLIP, wandb and more; its samplers need none of them.
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules.setdefault("k_diffusion", package)
    sampling = importlib.import_module("k_diffusion.sampling")

    def sampler(name: str, cost: int, ours: tuple[str, str, str] | None, **how: Any) -> Theirs:
        def run(model: ScoreModel, x: Tensor, steps: int) -> Tensor:
            sigmas = karras(model, steps).to(x)
            given = dict(how)
            if given.pop("noise", False):  # plain normal numbers; the default is a Brownian tree
                given["noise_sampler"] = lambda *_: torch.randn_like(x)
            call = getattr(sampling, name)
            return call(lambda y, s: denoised(model, y, s), x, sigmas, disable=True, **given)

        return Theirs(cost, run, ours)

    flow = {"s_noise": 0.0, "eta": 0.0, "noise": True}
    return {
        "k-diffusion euler": sampler("sample_euler", 1, ("ode", "ddim", "karras")),
        "k-diffusion euler_ancestral": sampler(
            "sample_euler_ancestral", 1, ("sde", "ddim", "karras"), noise=True
        ),
        "k-diffusion heun": sampler("sample_heun", 2, ("ode", "heun_edm", "karras")),
        "k-diffusion dpm_2": sampler("sample_dpm_2", 2, None),
        "k-diffusion lms": sampler("sample_lms", 1, None),
        "k-diffusion dpmpp_2m": sampler("sample_dpmpp_2m", 1, ("ode", "dpmpp_2m", "karras")),
        "k-diffusion dpmpp_2m_sde": sampler(
            "sample_dpmpp_2m_sde", 1, ("sde", "sde_dpmpp_2m", "karras"), noise=True
        ),
        "k-diffusion dpmpp_3m": sampler("sample_dpmpp_3m_sde", 1, None, **flow),
    }


# -- diffusers -------------------------------------------------------------------------


def diffusers() -> Mapping[str, Theirs]:
    if importlib.util.find_spec("diffusers") is None:
        return {}
    library = importlib.import_module("diffusers")

    def sampler(name: str, ours: tuple[str, str, str] | None = None, **how: Any) -> Theirs:
        def run(model: ScoreModel, x: Tensor, steps: int) -> Tensor:
            """Solve in its variance-preserving coordinates α x, α = 1 / √(1 + σ²)."""
            scheduler = getattr(library, name)(prediction_type="sample", **how)
            scheduler.set_timesteps(steps)
            scheduler.sigmas = karras(model, steps).float()
            scheduler.timesteps = torch.arange(steps)
            scheduler.set_begin_index(0)
            alphas = 1 / (1 + scheduler.sigmas**2).sqrt()
            y = alphas[0] * x
            for k, t in enumerate(scheduler.timesteps):
                clean = denoised(model, y / alphas[k], scheduler.sigmas[k])
                y = scheduler.step(clean, t, y, return_dict=False)[0]
            return y / alphas[-1]

        return Theirs(1, run, ours)

    dpm = "DPMSolverMultistepScheduler"
    return {
        "diffusers dpmpp_1": sampler(dpm, ("ode", "ddim", "karras"), solver_order=1),
        "diffusers dpmpp_2m": sampler(dpm, ("ode", "dpmpp_2m", "karras"), solver_order=2),
        "diffusers dpmpp_3m": sampler(dpm, solver_order=3),
        "diffusers sde_dpmpp_2m": sampler(
            dpm, ("sde", "sde_dpmpp_2m", "karras"), algorithm_type="sde-dpmsolver++"
        ),
        "diffusers unipc_2": sampler("UniPCMultistepScheduler", solver_order=2),
        "diffusers unipc_3": sampler("UniPCMultistepScheduler", solver_order=3),
        "diffusers unipc_3 bh1": sampler(
            "UniPCMultistepScheduler", solver_order=3, solver_type="bh1"
        ),
        "diffusers deis": sampler("DEISMultistepScheduler", solver_order=3),
    }


# -- azula -----------------------------------------------------------------------------


def azula() -> Mapping[str, Theirs]:
    if importlib.util.find_spec("azula") is None:
        return {}
    sample = importlib.import_module("azula.sample")
    posterior = importlib.import_module("azula.denoise").DiracPosterior

    class Denoiser(torch.nn.Module):
        """Our network as an azula denoiser whose time follows Karras's schedule."""

        def __init__(self, model: ScoreModel) -> None:
            super().__init__()
            self.model = model

        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            high, low = levels(self.model)
            ramp = t * high ** (1 / RHO) + (1 - t) * low ** (1 / RHO)
            return torch.ones_like(t), ramp**RHO

        def forward(self, x: Tensor, t: Tensor) -> Any:
            return posterior(denoised(self.model, x, self.schedule(t)[1]))

    def sampler(
        name: str, cost: int, ours: tuple[str, str, str] | None = None, **how: Any
    ) -> Theirs:
        def run(model: ScoreModel, x: Tensor, steps: int) -> Tensor:
            return getattr(sample, name)(Denoiser(model), steps=steps, silent=True, **how)(x)

        return Theirs(cost, run, ours)

    return {
        "azula ddpm": sampler("DDPMSampler", 1, ("sde", "ddim", "karras")),
        "azula ddim": sampler("DDIMSampler", 1, ("ode", "ddim", "karras")),
        "azula euler": sampler("EulerSampler", 1, ("ode", "ddim", "karras")),
        "azula heun": sampler("HeunSampler", 2, ("ode", "heun_edm", "karras")),
        "azula zab": sampler("zABSampler", 1),
        "azula zeab": sampler("zEABSampler", 1),
        "azula xeab": sampler("xEABSampler", 1),
    }


LIBRARIES = {"k-diffusion": k_diffusion, "diffusers": diffusers, "azula": azula}


def installed() -> dict[str, Theirs]:
    """The samplers of the installed libraries; prints which are missing."""
    found: dict[str, Theirs] = {}
    for library, samplers in LIBRARIES.items():
        some = samplers()
        found |= some
        if not some:
            print(f"{library} is not installed and is left out: pip install {library}")
    return found


def our_solve(model: ScoreModel, x: Tensor, ours: tuple[str, str, str], steps: int) -> Tensor:
    kind, name, clock = ours
    build = ReverseSDE if kind == "sde" else ProbabilityFlow
    problem = build(model.sde, model, model.shape)
    return solve(problem, x, name, steps=steps, clock=clock, seed=0, save="last").final


def compared(
    model: ScoreModel, x: Tensor, theirs: Theirs, steps: int, rounds: int, clock: Clock
) -> tuple[list[float], list[float], float]:
    """Seconds of each of their solves and of ours; rms difference of the final states."""
    assert theirs.ours is not None
    other_times, own_times = [], []
    for k in range(2 * rounds):
        # The order alternates, so that a drift of the machine's speed affects both.
        for whose in ("theirs", "ours") if k % 2 else ("ours", "theirs"):
            started = clock()
            if whose == "theirs":
                with torch.no_grad():
                    other = theirs.run(model, x, steps)
                other_times.append(clock() - started)
            else:
                own = our_solve(model, x, theirs.ours, steps)
                own_times.append(clock() - started)
    return other_times, own_times, float((own - other).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--rounds", type=int, help="rounds of two solves each; 1 at batch 64, 12 at batch 1"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--cpu", action="store_true", help="measure CPU time")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    model = load_pretrained("mnist")
    pairs = {name: theirs for name, theirs in installed().items() if theirs.ours is not None}
    for batch in given.batch:
        x = model.sde.prior_sample((batch, *model.shape), seed=0)
        our_solve(model, x, ("ode", "ddim", "karras"), 2)
        rounds = given.rounds or (1 if batch > 8 else 12)
        print(
            f"\nbatch {batch}, {given.steps} steps, {2 * rounds} solves of each, "
            f"{torch.get_num_threads()} thread(s); ms are the shortest, the ratio is of the medians"
        )
        print(
            f"{'theirs':30}{'ours':20}{'theirs, ms':>11}{'ours, ms':>10}"
            f"{'theirs / ours':>14}{'difference':>12}"
        )
        for name, theirs in pairs.items():
            others, owns, gap = compared(model, x, theirs, given.steps, rounds, clock)
            kind, method, _ = theirs.ours or ("", "", "")
            shown = f"{gap:.1e}" if kind == "ode" else "–"
            ratio = statistics.median(others) / statistics.median(owns)
            print(
                f"{name:30}{kind + ' ' + method:20}{1000 * min(others):11.1f}"
                f"{1000 * min(owns):10.1f}{ratio:14.3f}{shown:>12}",
                flush=True,
            )


if __name__ == "__main__":
    main()
