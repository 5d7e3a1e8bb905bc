"""Do the tests see? One wrong formula at a time, and the tests that must fail.

    python tests/mutation.py                 every mutation: ten minutes on an idle core
    python tests/mutation.py --list          their names
    python tests/mutation.py --only NAME     this one; may be given several times

The package and its tests are copied to a temporary folder, and a mutation replaces one piece of
text there; your files stay as they are. The named tests run first without any mutation and must
pass. A mutation that they then let pass has survived: write the test that sees it. A text that
is not found exactly once means that the code has moved on: mend the table.

The exit code is 1 if a mutation survived or could not be tried, and 0 if all were killed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 300  # seconds for the tests of one mutation
COPIED = ("diffsde", "tests", "setup.cfg")
PYTEST_FAILED = 1  # pytest's exit code for tests that ran and failed


@dataclass(frozen=True)
class Mutation:
    """One wrong formula.

    Attributes:
        name: what is wrong.
        file: within the package.
        old, new: the text, found exactly once, and what replaces it.
        tests: arguments of pytest, separated by spaces: files within `tests`, or tests in them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def paths(self) -> list[str]:
        """The tests, from the root of the repository."""
        return [f"tests/{test}" for test in self.tests.split()]

    def found(self, root: Path = ROOT) -> int:
        """How often the text is in its file."""
        path = root / "diffsde" / self.file
        return path.read_text("utf-8").count(self.old) if path.is_file() else 0


_COPIES = "solvers/test_arguments.py::test_callbacks_and_events_get_copies"
_CHURN = "solvers/test_churn.py"
_STRONG = "solvers/test_solvers.py::test_the_strong_order_against_the_exact_path"
_HALVES = "solvers/test_adaptive.py::test_the_halves_of_a_step_are_kept"
_NOISE = "solvers/test_solvers.py::test_order_one_and_a_half_knows_the_integral_of_the_noise"
_NEXT = "solvers/test_adaptive.py::test_the_next_step_follows_from_the_order"
_CHUNKS = "solvers/test_integrate.py::test_chunks_of_a_later_part_keep_their_samples"
_FID = "evaluation/test_metrics.py::test_fid_of_two_gaussians_is_known"
_BALLS = "evaluation/test_metrics.py::test_each_ball_has_the_radius_of_its_own_set"
_RESAMPLED = "evaluation/test_metrics.py::test_the_bootstrap_resamples_as_many_as_there_are"
_WEAK = "analysis/test_work_precision.py::test_a_weak_error_is_of_mean_and_std"
_BUDGET = "analysis/test_likelihood.py::test_budget_s_parts_are_known"
_SDE = "equations/test_sde.py"
_FITS = f"{_SDE}::test_drift_diffusion_and_marginal_are_of_one_process"
_BROWNIAN = "noise/test_brownian.py"
_CAPTURED = "solvers/test_captured.py"
_EXACT = "solvers/test_exponential.py"
_GUIDANCE = "scores/test_guidance.py"

MUTATIONS = (
    # EDM's stochastic Heun method
    Mutation(
        "churn: std of the added noise", "solvers/methods/edm.py",
        "(raised**2 - sigma**2).sqrt()", "(raised - sigma)", _CHURN,
    ),
    Mutation(
        "churn: S_min", "solvers/methods/edm.py",
        "torch.where((low <= sigma) & (sigma <= high)", "torch.where((sigma <= high)", _CHURN,
    ),
    Mutation(
        "churn: S_max", "solvers/methods/edm.py",
        "torch.where((low <= sigma) & (sigma <= high)", "torch.where((low <= sigma)", _CHURN,
    ),
    Mutation(
        "churn: S_noise", "solvers/methods/edm.py", "added=noise * (", "added=(", _CHURN,
    ),
    Mutation(
        "churn: γ without its cap", "solvers/methods/edm.py",
        'min(options["S_churn"] / (state.planned or 1), math.sqrt(2) - 1)',
        'options["S_churn"] / (state.planned or 1)', _CHURN,
    ),
    Mutation(
        "churn: γ by nodes, not steps", "solvers/methods/edm.py",
        "(state.planned or 1)", "((state.planned or 1) + 1)", _CHURN,
    ),
    # other methods
    Mutation(
        "restart: the same numbers at every restart", "solvers/methods/restart.py",
        "self._numbers(u1, k)", "self._numbers(u1)",
        "solvers/test_restart.py",
    ),
    Mutation(
        "restart: forward by σ_max, whatever noise is there", "solvers/methods/restart.py",
        "(ladder[0] ** 2 - ladder[-1] ** 2).sqrt()", "ladder[0]", "solvers/test_restart.py",
    ),
    Mutation(
        "tsit5: the state at half a step", "solvers/methods/tsitouras.py",
        "0.011356249999999998", "0.01135", "solvers/test_adaptive_flows.py",
    ),
    Mutation(
        "additive: β and γ swapped", "solvers/methods/additive.py",
        "tab.beta, tab.gamma)", "tab.gamma, tab.beta)",
        f"{_STRONG}[sosra]",
    ),
    Mutation(
        "sosra: two β₁ swapped", "solvers/methods/additive.py",
        "(-16.792534242221663, 17.514995785380226, ", "(17.514995785380226, -16.792534242221663, ",
        f"{_STRONG}[sosra]",
    ),
    Mutation(
        "sosra: two β₂ swapped", "solvers/methods/additive.py",
        "(0.4237535769069274, 0.6010381474428539, ", "(0.6010381474428539, 0.4237535769069274, ",
        f"{_NOISE}[sosra]",
    ),
    Mutation(
        "shark: the mean of the noise is W / 2", "solvers/methods/additive.py",
        "q=((-0.5,), (1 / 3,)),", "q=((0.0,), (1 / 3,)),", f"{_STRONG}[shark]",
    ),
    Mutation(
        "sea: at the start of the step", "solvers/methods/additive.py",
        "c=(0.5,),", "c=(0.0,),", "solvers/test_single_step.py",
    ),
    Mutation(
        "seeds: parts of the noise not orthogonal", "solvers/methods/single_step.py",
        "lean = lean - (lean * first).sum(0) * first", "pass", "solvers/test_single_step.py",
    ),
    Mutation(
        "seeds: the stage has the noise of the whole step", "solvers/methods/single_step.py",
        "for b, step in zip(places[1:], steps, strict=True)",
        "for b, step in zip([places[-1]] * len(steps), steps, strict=True)",
        "solvers/test_single_step.py",
    ),
    Mutation(
        "sa_solver: the corrected state has no noise", "solvers/methods/exponential.py",
        "x1 = _advanced(w, x, self._past[0][1], first,",
        "noise, x1 = None, _advanced(w, x, self._past[0][1], first,", f"{_STRONG}[sa_solver]",
    ),
    Mutation(
        "deis: values of other nodes", "solvers/methods/adams.py",
        "nodes = t[which[:, None] - torch.arange(", "nodes = t[which[:, None] + 1 - torch.arange(",
        "solvers/test_single_step.py",
    ),
    Mutation(
        "dpmpp_3m: no second derivative", "solvers/methods/exponential.py",
        "return x1 if second is None else x1.addcmul_(w.second, second)", "return x1", _EXACT,
    ),
    Mutation(
        "dpmpp_3m: D′ at the middle", "solvers/methods/exponential.py",
        "return slope + self._past[0][0] * bend, 2 * bend", "return slope, 2 * bend", _EXACT,
    ),
    Mutation(
        "exponential: φ₂", "solvers/methods/integrals.py",
        "return 1 - gain(z) / z", "return 1 - gain(z)", _EXACT,
    ),
    Mutation(
        "exponential: decay by h for every η", "solvers/methods/exponential.py",
        "total = (1 + dial) * h", "total = h", _EXACT,
    ),
    Mutation(
        "exponential: std of the noise", "solvers/methods/exponential.py",
        "gain(2 * spent)", "gain(spent)",
        "solvers/test_solvers.py::test_the_law_of_every_sde_solver[ddim]",
    ),
    # adaptive steps and chunks
    Mutation(
        "adaptive: the whole step is kept", "solvers/noisy_attempts.py",
        "return _NoisyTrial(halves,", "return _NoisyTrial(whole,", _HALVES,
    ),
    Mutation(
        "adaptive: exponent", "solvers/noisy_attempts.py",
        "order=solver.order + 0.5,", "order=solver.order + 1,", _NEXT,
    ),
    Mutation(
        "chunk: first is forgotten", "solvers/chunks.py",
        "range(first + start, first + end)", "range(start, end)", _CHUNKS,
    ),
    Mutation(
        "chunk: every part is the first", "solvers/chunks.py",
        "range(first + start, first + end)", "range(first, first + end - start)", _CHUNKS,
    ),
    # metrics
    Mutation(
        "recall: the other set's radii", "evaluation/metrics.py",
        "return precision, covered(real, generated, radii(generated))",
        "return precision, covered(real, generated, radii(real))", _BALLS,
    ),
    Mutation(
        "precision: the other set's radii", "evaluation/metrics.py",
        "precision = covered(generated, real, radii(real))",
        "precision = covered(generated, real, radii(generated))", _BALLS,
    ),
    Mutation(
        "radii: a neighbour less", "evaluation/metrics.py",
        "topk(k + 1, largest=False)", "topk(k, largest=False)", _BALLS,
    ),
    Mutation(
        "fid: of the real set and itself", "evaluation/metrics.py",
        "(generated, real=False)\n    return", "(real, real=False)\n    return", _FID,
    ),
    Mutation(
        "bootstrap of 50 images", "evaluation/metrics.py",
        "torch.randint(n, (n,), generator", "torch.randint(n, (50,), generator", _RESAMPLED,
    ),
    # analysis
    Mutation(
        "weak error without std", "analysis/budgets.py",
        ", (x.std(0) - exact.std(0))\n", ",\n", _WEAK,
    ),
    Mutation(
        "weak error without mean", "analysis/budgets.py",
        "(x.mean(0) - exact.mean(0)), (x.std(0)", "0 * exact[0], (x.std(0)", _WEAK,
    ),
    Mutation(
        "error_budget: √probes", "analysis/bits.py",
        " * math.sqrt(probes) / per_image", " / per_image", _BUDGET,
    ),
    Mutation(
        "error_budget: tighter tolerance", "analysis/bits.py",
        '"rtol": 0.01 * settings["rtol"], "atol": 0.01 * settings["atol"]',
        '"rtol": 0.1 * settings["rtol"], "atol": 0.1 * settings["atol"]', _BUDGET,
    ),
    Mutation(
        "error_budget: twice ε", "analysis/bits.py",
        '"eps": 2 * fixed["eps"]', '"eps": 3 * fixed["eps"]', _BUDGET,
    ),
    Mutation(
        "likelihood: sign of the divergence", "analysis/likelihood.py",
        "prior_logp(latents) + integrals.mean(1)", "prior_logp(latents) - integrals.mean(1)",
        "analysis/test_likelihood.py::test_gaussian_data_to_a_ten_thousandth_of_a_bit",
    ),
    Mutation(
        "bits/dim without its 8", "analysis/likelihood.py",
        "return offset - log_prob", "return -log_prob",
        "analysis/test_likelihood.py::test_bits_per_dim_of_uniform_noise_is_eight",
    ),
    # guidance
    Mutation(
        "conjugate gradients: no guard", "scores/observations.py",
        "going = (curvature > 0) & (square > enough)",
        "going = torch.ones_like(curvature, dtype=torch.bool)", _GUIDANCE,
    ),
    Mutation(
        "conjugate gradients: any curvature", "scores/observations.py",
        "going = (curvature > 0) & (square > enough)", "going = square > enough", _GUIDANCE,
    ),
    # training
    Mutation(
        "auto precision: the slower", "training/losses.py",
        "return min(seconds, key", "return max(seconds, key", "training/test_losses.py",
    ),
    Mutation(
        "auto precision: the first update counts", "training/losses.py",
        "min(times[1:])", "max(times)", "training/test_losses.py",
    ),
    Mutation(
        "EMA without warm-up", "training/optimizers.py",
        "min(self.decay, (1 + n) / (10 + n))", "self.decay", "training/test_optimizers.py",
    ),
    # equations
    Mutation(
        "flow without its ½", "equations/reverse.py",
        "return 0.5 * (1 + self.eta_at(t) ** 2)", "return (1 + self.eta_at(t) ** 2)",
        "equations/test_reverse.py::test_flow_and_sde_share_their_marginals",
    ),
    Mutation(
        "noise above its levels", "equations/eta.py",
        "(self.low <= level) & (level <= self.high)", "(self.low <= level)",
        "equations/test_reverse.py::test_there_is_noise_between_two_levels_only",
    ),
    Mutation(
        "an option for a method without it", "solvers/options.py",
        "if k in own}", "}",
        "solvers/test_arguments.py::test_several_methods_divide_options",
    ),
    Mutation(
        "a solver's options unchecked", "solvers/options.py",
        "valid[name](v, f\"options[{name!r}]\")", "v",
        "solvers/test_arguments.py::test_options_that_no_method_can_work_with_are_refused",
    ),
    Mutation(
        "Tweedie: s for s²", "equations/reverse.py",
        "variance = expand(self.sde.marginal_std(t), x) ** 2",
        "variance = expand(self.sde.marginal_std(t), x)",
        "equations/test_reverse.py::test_denoise_is_the_posterior_mean",
    ),
    Mutation(
        "VE: marginal std", "equations/variance_exploding.py",
        "on_host(t)) / (2 * log_sigma))\n\n    def marginal_scale",
        "on_host(t)) / log_sigma)\n\n    def marginal_scale", _FITS,
    ),
    Mutation(
        "EDM: g", "equations/variance_exploding.py",
        "torch.sqrt(2 * on_host(t))", "torch.sqrt(on_host(t))", _FITS,
    ),
    Mutation(
        "VP: ½ of the drift", "equations/variance_preserving.py",
        "return -0.5 * expand(self.beta(", "return -expand(self.beta(", _FITS,
    ),
    Mutation(
        "sub-VP: g", "equations/variance_preserving.py",
        "torch.expm1(-2 * self.beta_integral(t))", "torch.expm1(-self.beta_integral(t))", _FITS,
    ),
    Mutation(
        "karras clock: rate", "equations/clocks.py",
        "lambda s: _RHO * s ** (1 - 1 / _RHO)", "lambda s: s ** (1 - 1 / _RHO)",
        "equations/test_clocks.py",
    ),
    Mutation(
        "clocks: g without the root of the rate", "solvers/equation.py",
        "rate.sqrt() * self.diffusion(t)", "rate * self.diffusion(t)",
        f"{_SDE}::test_forward_solve_in_other_clocks",
    ),
    # trust
    Mutation(
        "callback: the state itself", "solvers/driver.py",
        "reshape(recorder.shape).clone()", "reshape(recorder.shape)", _COPIES,
    ),
    Mutation(
        "event: the state itself", "solvers/parts.py",
        "x.reshape(shape).clone()", "x.reshape(shape)", _COPIES,
    ),
    Mutation(
        "score: may write into the state", "equations/counted.py",
        "for value in arguments] != before:", "for value in arguments[1:]] != before[1:]:",
        "solvers/test_arguments.py::test_a_score_that_writes_into_the_state_is_found",
    ),
    Mutation(
        "fixed steps: a tolerance is ignored", "solvers/arguments.py",
        "and not (adaptive or solver.iterates)", "and solver.iterates",
        "solvers/test_arguments.py::test_fixed_steps_refuse_a_tolerance_and_say_what_to_do",
    ),
    Mutation(
        "check: the twin costs nothing", "analysis/checking.py",
        "left >= 2 * solve", "left >= solve",
        "analysis/test_check.py::test_evaluations_are_counted_and_bounded",
    ),
    # noise
    Mutation(
        "bridge: variance of the middle", "noise/bridges.py",
        "numpy.sqrt(h / 16)", "numpy.sqrt(h / 12)", _BROWNIAN,
    ),
    Mutation(
        "bridge: area of a half", "noise/bridges.py",
        "q) - 3 * curve)", "q) + 3 * curve)", _BROWNIAN,
    ),
    Mutation(
        "bridge: sides of the area", "noise/bridges.py",
        "tilt * side * 6", "tilt * 6", _BROWNIAN,
    ),
    Mutation(
        "bridge: weight of the area", "noise/bridges.py",
        "6 * r * (1 - r) / root", "3 * r * (1 - r) / root", _BROWNIAN,
    ),
    Mutation(
        "bridge: spread of the area", "noise/bridges.py",
        "math.sqrt(3) * (h1 * h2)", "(h1 * h2)", _BROWNIAN,
    ),
    Mutation(
        "capture: samples of a chunk", "solvers/captured.py",
        "self._samples.move(self._first + start)", "self._samples.move(self._first)", _CAPTURED,
    ),
    Mutation(
        "capture: rows of a chunk", "solvers/captured.py",
        "self._rows.move(start)", "self._rows.move(0)", _CAPTURED,
    ),
    Mutation(
        "capture: a bad number in a replay", "solvers/captured.py",
        "if not bool(result.good):", "if False:", _CAPTURED,
    ),
    Mutation(
        "capture: a copy that is written into", "system/captures.py",
        "return there.clone()", "return there", _CAPTURED,
    ),
    Mutation(
        "path: numbers of the time before", "noise/path_numbers.py",
        "before = [self._nodes, *wanted]", "before = [wanted[0], *wanted]", _BROWNIAN,
    ),
    Mutation(
        "space-time Lévy area: variance", "noise/brownian.py",
        "return w, h * (0.5 * w + math.sqrt(h / 12)", "return w, h * (0.5 * w + math.sqrt(h / 6)",
        _BROWNIAN,
    ),
    Mutation(
        "Lévy area: variance", "noise/brownian.py",
        "std = (h * h / 20 + h / 5 * (", "std = (h * h / 12 + h / 5 * (", _BROWNIAN,
    ),
    Mutation(
        "Lévy area: sign", "noise/brownian.py",
        "return product - product.transpose(1, 2)", "return product.transpose(1, 2) - product",
        _BROWNIAN,
    ),
    Mutation(
        "levels: the noise of a pixel", "scores/level_unet.py",
        "value=-0.5", "value=-1.0", "scores/test_level_unet.py",
    ),
    Mutation(
        "levels: the coarse network's place", "scores/level_unet.py",
        "_SHRINK * noisy + _SHIFT", "_SHRINK * noisy", "scores/test_level_unet.py",
    ),
    Mutation(
        "bound: the noise where the decoder begins", "analysis/variational.py",
        "level / 8", "level", "scores/test_level_unet.py",
    ),
)  # fmt: skip


def copy_of_the_repository(folder: Path) -> Path:
    """The package and its tests, as they are now, in a temporary folder."""
    ignore = shutil.ignore_patterns("__pycache__", ".*", "benchmarks")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    return folder


def run_tests(folder: Path, tests: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Pytest's exit code, None if the time ran out, and the end of what it wrote."""
    settings = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "--tb=line", "--no-header"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return None, f"stopped after {limit:g} s"
    return done.returncode, "\n".join(done.stdout.splitlines()[-15:])


def verdict(mutation: Mutation, folder: Path, limit: float) -> str:
    """What becomes of a mutation in the copy, which is mended afterwards."""
    if mutation.found(folder) != 1:
        return f"text found {mutation.found(folder)} times"
    path = folder / "diffsde" / mutation.file
    text = path.read_text("utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        code, _ = run_tests(folder, mutation.paths, limit)
    finally:
        path.write_text(text, "utf-8")
    if code is None:
        return "killed (time)"
    # Any other code means that pytest could not run the tests, which kills nothing.
    return {0: "SURVIVED", PYTEST_FAILED: "killed"}.get(code, f"not run: pytest ended with {code}")


def try_all(mutations: Sequence[Mutation], limit: float) -> int:
    """Print a line for each mutation and return the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_the_repository(Path(temporary))
        tests = list(dict.fromkeys(path for m in mutations for path in m.paths))
        print(f"{len(tests)} files or tests, without a mutation", flush=True)
        code, said = run_tests(folder, tests, 10 * limit)
        if code != 0:
            print(f"they must pass before they can tell anything:\n{said}")
            return 1
        width, alive = max(len(m.name) for m in mutations), []
        for mutation in mutations:
            started = time.perf_counter()
            found = verdict(mutation, folder, limit)
            seconds = time.perf_counter() - started
            print(f"{mutation.name:<{width}}  {seconds:5.0f} s  {found}", flush=True)
            alive += [mutation.name] if not found.startswith("killed") else []
    killed = len(mutations) - len(alive)
    print(f"{killed} of {len(mutations)} killed" + "".join(f"; not: {name}" for name in alive))
    return 1 if alive else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutation alone")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each (%(default)s)")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(m.name for m in MUTATIONS))
        return 0
    names = given.only or [m.name for m in MUTATIONS]
    unknown = sorted(set(names) - {m.name for m in MUTATIONS})
    if unknown:
        parser.error(f"no mutation {unknown[0]!r}: see --list")
    return try_all([m for m in MUTATIONS if m.name in names], given.limit)


if __name__ == "__main__":
    sys.exit(main())
