r"""The field's own solvers, by name beside the libraries'.

The tutorial's loops, EDM's Heun step, and the exponential integrators of the DPM-Solver++
family. The last are one formula. With y = x / a, noise level σ, λ = −log σ, h the step in
λ, and the denoiser D as a function of λ, the equation of any η (see `reverse`) is linear
but for D, so over a step

    y₁  =  e^{−(1+η²)h} y₀  +  (1+η²) ∫₀ʰ e^{−(1+η²)(h−r)} D(λ₀ + r) dr
           +  σ₁ √(1 − e^{−2η²h}) z,

exactly in law for constant D. With D constant, this is DDIM for η = 0 and ancestral
sampling for η = 1; with D extrapolated from one or two former steps it is the 2M and 3M
method. They are registered for both kinds of problem.

Sources: Song et al., arXiv 2011.13456 (em, pc); Karras et al., arXiv 2206.00364, algorithm
2 (heun_edm); Song, Meng, Ermon, arXiv 2010.02502 (ddim); Lu et al., arXiv 2211.01095
(dpmpp_2m, sde_dpmpp_2m); Zhao et al., arXiv 2302.04867 (unipc); Rackauckas, Nie, arXiv
1804.04344 (sosra).
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.reverse import ReverseProblem
from diffsde.seeds import NormalTable
from diffsde.solvers import Run, Solver, register

__all__: list[str] = []


def _reverse_problem(run: Run, name: str) -> ReverseProblem:
    problem = run.equation.problem
    if not isinstance(problem, ReverseProblem):
        raise InputError(
            f"{name} works with a score: expected a ReverseSDE or a ProbabilityFlow, found "
            f"{type(problem).__name__}"
        )
    return problem


def _additive(run: Run, name: str) -> Run:
    if not run.equation.additive:
        raise InputError(f"{name} is for noise that does not depend on the state")
    return run


class _EulerMaruyama:
    """The tutorial's sampler: x₁ = x₀ + f h + g ΔW."""

    def __init__(self, run: Run) -> None:
        self.run = _additive(run, "em")

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation = self.run.equation
        dw = self.run.increment(u0, u1)
        return x + (u1 - u0) * equation.f(u0, x) + equation.g(u0) * dw


class _PredictorCorrector:
    """The tutorial's predictor-corrector: Langevin steps at t₀, then Euler–Maruyama.

    A Langevin step is x + ε score + √(2ε) z with ε = 2 (snr ‖z‖ / ‖score‖)², the norms of
    each sample over its own pixels: the tutorial averages them over the batch, which makes
    an image depend on its neighbours.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.problem = run, _reverse_problem(run, "pc")
        self.snr = float(run.options.get("snr", 0.16))
        self.corrections = int(run.options.get("corrector_steps", 1))
        self.predictor = _EulerMaruyama(run)
        self._table = NormalTable(run.seed, "corrector")
        self._node = 0

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        t = self.run.equation.t(u0)
        for _ in range(self.corrections):
            x = self._correct(x, t)
        return self.predictor.step(u0, u1, x)

    def _correct(self, x: Tensor, t: Tensor) -> Tensor:
        score = self.problem.score_at(x, t)
        z = self._table.rows(self.run.samples, self._node, x.shape[1:], x.dtype).to(x.device)
        self._node += 1
        ratio = z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)
        step = 2 * (self.snr * ratio) ** 2
        return x + step * score + (2 * step).sqrt() * z


class _Exponential:
    """Exponential integrator of order 1, 2 or 3 with the denoiser extrapolated.

    Args:
        order: how many values of the denoiser are used.
    """

    def __init__(self, run: Run, order: int, name: str) -> None:
        self.run, self.problem = run, _reverse_problem(run, name)
        self.order, self.dial = order, self.problem.eta**2
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=order - 1)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        sde, equation = self.problem.sde, self.run.equation
        t0, t1 = equation.clock.time(u0), equation.clock.time(u1)
        sigma0, sigma1 = sde.noise_level(t0), sde.noise_level(t1)
        h = torch.log(sigma0 / sigma1)
        denoised = self.problem.denoise(x.to(equation.dtype), equation.t(u0))
        decay = torch.exp(-(1 + self.dial) * h)
        y = decay / sde.marginal_scale(t0) * x + (1 - decay) * denoised
        y = y + self._slopes(denoised, h)
        self._past.appendleft((h, denoised))
        if self.dial:
            z = self.run.increment(u0, u1) / (u1 - u0).sqrt()
            y = y + sigma1 * torch.sqrt(-torch.expm1(-2 * self.dial * h)) * z
        return sde.marginal_scale(t1) * y

    def _slopes(self, denoised: Tensor, h: Tensor) -> Tensor | float:
        """What the change of D along the step adds."""
        if not self._past:
            return 0.0
        total = (1 + self.dial) * h
        h1, d1 = self._past[0]
        slope = (h / h1) * (denoised - d1)  # h D′, from the last step
        if self.order == 2:  # the paper's weight, which differs from φ₂ by O(h²)
            return -0.5 * torch.expm1(-total) * slope
        phi2 = 1 + torch.expm1(-total) / total
        if len(self._past) < 2:
            return phi2 * slope
        h2, d2 = self._past[1]
        bend = 2 * h / (h1 + h2) * (slope - (h / h2) * (d1 - d2))  # h² D″
        phi3 = 0.5 - phi2 / total
        return phi2 * (slope + 0.5 * (h1 / h) * bend) + phi3 * bend


class _UniPC:
    """UniPC of order 3: predict with the last denoisers, correct once the next one is known.

    The corrector costs nothing: the denoiser at the predicted state is what the next step
    begins with. It also mends the first steps, whose predictors know less, so that the
    whole converges with order 3. With the exact integrals of the polynomials, in λ; only
    the last step is not corrected.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.problem = run, _reverse_problem(run, "unipc")
        # Denoisers and steps in λ, the newest first; y before the newest step.
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)
        self._before: Tensor | None = None

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        sde, equation = self.problem.sde, self.run.equation
        t0, t1 = equation.clock.time(u0), equation.clock.time(u1)
        h = torch.log(sde.noise_level(t0) / sde.noise_level(t1))
        denoised = self.problem.denoise(x.to(equation.dtype), equation.t(u0))
        y = x / sde.marginal_scale(t0)
        if self._before is not None:
            h1, d1 = self._past[0]
            slope, bend = self._differences(denoised)
            y = _integrated(h1, self._before, d1, slope - h1 * bend, 2 * bend)
        slope, bend = self._differences(denoised)
        lag = self._past[0][0] if self._past else 0.0
        self._past.appendleft((h, denoised))
        self._before = y
        return sde.marginal_scale(t1) * _integrated(h, y, denoised, slope + lag * bend, 2 * bend)

    def _differences(self, newest: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """First and second divided differences of the denoiser over the last nodes."""
        if not self._past:
            return 0.0, 0.0
        h1, d1 = self._past[0]
        slope = (newest - d1) / h1
        if len(self._past) < 2:
            return slope, 0.0
        h2, d2 = self._past[1]
        return slope, (slope - (d1 - d2) / h2) / (h1 + h2)


def _integrated(
    h: Tensor, y: Tensor, d: Tensor, slope: Tensor | float, bend: Tensor | float
) -> Tensor:
    """e^{−h} y + ∫₀ʰ e^{r−h} (d + slope r + ½ bend r²) dr."""
    decay = torch.expm1(-h)
    phi2 = 1 + decay / h
    phi3 = 0.5 - phi2 / h
    return y + decay * (y - d) + h * phi2 * slope + h**2 * phi3 * bend


class _HeunEDM:
    """EDM's stochastic Heun step: raise the noise a little (churn), then Heun in σ.

    Options, in EDM's symbols: `S_churn` (0: none), `S_min`, `S_max` (the noise levels
    between which it acts), `S_noise`.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.problem = run, _reverse_problem(run, "heun_edm")
        options = {"S_churn": 0.0, "S_min": 0.0, "S_max": math.inf, "S_noise": 1.0, **run.options}
        self.low, self.high = options["S_min"], options["S_max"]
        self.noise = options["S_noise"]
        self.gamma = min(options["S_churn"] / (len(run.nodes) - 1), math.sqrt(2) - 1)
        self._table = NormalTable(run.seed, "churn")
        self._node = 0

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        sde = self.problem.sde
        t0, t1 = self.run.equation.t(u0), self.run.equation.t(u1)
        y, (sigma0, sigma1) = x / sde.marginal_scale(t0), (sde.noise_level(t) for t in (t0, t1))
        if self.gamma and self.low <= float(sigma0) <= self.high:
            y, sigma0 = self._churned(y, sigma0)
            t0 = sde.time_of_noise_level(sigma0)
        h = sigma1 - sigma0
        slope = self._slope(y, sigma0, t0)
        slope1 = self._slope(y + h * slope, sigma1, t1)
        return sde.marginal_scale(t1) * (y + 0.5 * h * (slope + slope1))

    def _churned(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        z = self._table.rows(self.run.samples, self._node, y.shape[1:], y.dtype).to(y.device)
        self._node += 1
        top = self.problem.sde.noise_level(torch.tensor(self.problem.sde.T, dtype=y.dtype))
        raised = torch.minimum((1 + self.gamma) * sigma, top)
        return y + (raised**2 - sigma**2).sqrt() * self.noise * z, raised

    def _slope(self, y: Tensor, sigma: Tensor, t: Tensor) -> Tensor:
        """dy/dσ = (y − D) / σ, equation 3 of arXiv 2206.00364."""
        return (y - self.problem.denoise(self.problem.sde.marginal_scale(t) * y, t)) / sigma


class _SOSRA:
    """Stability-optimised stochastic Runge–Kutta method for additive noise.

    Three stages, strong order 1.5, with the coefficients of arXiv 1804.04344 (SOSRA).
    `error` compares it with a method of order 1 made from the same stages.
    """

    alpha = (0.2889874966892885, 0.6859880440839937, 0.025024459226717772)
    c0 = (0.0, 0.6923962376159507, 1.0)
    c1 = (0.0, 0.041248171110700504, 1.0)
    beta1 = (-16.792534242221663, 17.514995785380226, 0.27753845684143835)
    beta2 = (0.4237535769069274, 0.6010381474428539, -1.0247917243497813)
    a0 = ((), (0.6923962376159507,), (-3.1609142252828395, 4.1609142252828395))
    b0 = ((), (1.3371632704399763,), (1.442371048468624, 1.8632741501139225))

    def __init__(self, run: Run) -> None:
        self.run = _additive(run, "sosra")

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, h = self.run.equation, u1 - u0
        w, integral = self.run.increment_and_integral(u0, u1)
        v = integral / h
        g = [equation.g(u0 + c * h) for c in self.c1]
        slopes: list[Tensor] = []
        for c, a_row, b_row in zip(self.c0, self.a0, self.b0, strict=True):
            stage = x
            for a, b, slope, g_j in zip(a_row, b_row, slopes, g, strict=False):
                stage = stage + a * h * slope + b * g_j * v
            slopes.append(equation.f(u0 + c * h if c else u0, stage))
        for a, b1, b2, slope, g_j in zip(
            self.alpha, self.beta1, self.beta2, slopes, g, strict=True
        ):
            x = x + a * h * slope + g_j * (b1 * w + b2 * v)
        return x


_TUTORIAL = "the tutorial of Song et al., arXiv 2011.13456"
_LU = "Lu et al., arXiv 2211.01095"


def _native(name: str, kind: str, order: float, evaluations: int, **rest: object) -> None:
    facts = {"adaptive": False, "evaluations": evaluations, **rest}
    register(Solver(name, kind, "diffsde", order, **facts))  # type: ignore[arg-type]


_native(
    "em", "sde", 1.0, 1, one_step=_EulerMaruyama, source=_TUTORIAL,
    advice="The same step as euler. 500 even steps in t, or 100 with clock='karras'.",
)  # fmt: skip
_native(
    "pc", "sde", 1.0, 2, one_step=_PredictorCorrector, source=_TUTORIAL,
    advice="A Langevin step before each step; options snr (0.16) and corrector_steps (1).",
    options=frozenset({"snr", "corrector_steps"}), multistep=True,
)  # fmt: skip
_native(
    "ddim", "sde", 1.0, 1, one_step=lambda run: _Exponential(run, 1, "ddim"),
    source="Song, Meng, Ermon, arXiv 2010.02502; at η = 1 ancestral sampling",
    advice="Exact noise for any step; clock='karras'.",
)  # fmt: skip
_native(
    "sde_dpmpp_2m", "sde", 1.0, 1, one_step=lambda run: _Exponential(run, 2, "sde_dpmpp_2m"),
    source=_LU, multistep=True, advice="The best SDE sampler at 10 to 40 steps, clock='karras'.",
)  # fmt: skip
_native(
    "sde_dpmpp_3m", "sde", 1.0, 1, one_step=lambda run: _Exponential(run, 3, "sde_dpmpp_3m"),
    source=_LU, multistep=True, advice="As sde_dpmpp_2m, from 20 steps.",
)  # fmt: skip
_native(
    "sosra", "sde", 1.5, 3, one_step=_SOSRA, source="Rackauckas, Nie, arXiv 1804.04344",
    advice="Stable strong order 1.5; adaptive=True for a tolerance.",
)  # fmt: skip
_native(
    "ddim", "ode", 1, 1, one_step=lambda run: _Exponential(run, 1, "ddim"),
    source="Song, Meng, Ermon, arXiv 2010.02502",
    advice="The exponential Euler step, in any clock; 20 steps or more in clock='karras'.",
)  # fmt: skip
_native(
    "dpmpp_2m", "ode", 2, 1, one_step=lambda run: _Exponential(run, 2, "dpmpp_2m"),
    source=_LU, multistep=True,
    advice="Two values of the denoiser: robust at 10 steps, clock='karras'.",
)  # fmt: skip
_native(
    # Its first two steps know less, so that it converges with their order.
    "dpmpp_3m", "ode", 2, 1, one_step=lambda run: _Exponential(run, 3, "dpmpp_3m"),
    source=_LU, multistep=True,
    advice="As dpmpp_2m, with three values of the denoiser: order 3 but for its first steps.",
)  # fmt: skip
_native(
    "unipc", "ode", 3, 1, one_step=_UniPC, source="Zhao et al., arXiv 2302.04867",
    multistep=True, advice="The best for the flow at 10 to 40 steps, clock='log_sigma'.",
)  # fmt: skip
_native(
    "heun_edm", "ode", 2, 2, one_step=_HeunEDM,
    source="Karras et al., arXiv 2206.00364, algorithm 2",
    advice="clock='karras'; options S_churn, S_min, S_max, S_noise add EDM's noise.",
    options=frozenset({"S_churn", "S_min", "S_max", "S_noise"}), multistep=True,
)  # fmt: skip
