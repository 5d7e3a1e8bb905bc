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
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffsde.equations.clocks import Clock
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import ReverseProblem
from diffsde.errors import InputError
from diffsde.noise.seeds import NormalTable
from diffsde.solvers.registry import Run, Solver, register

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
        self._length = run.table(lambda u0, u1: (u1 - u0,))

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, (h,) = self.run.equation, self._length(u0, u1)
        dw = self.run.increment(u0, u1)
        return x + h * equation.f(u0, x) + equation.g(u0) * dw


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


class _Weights(NamedTuple):
    """An exponential step is linear: what x, D, D′, D″ and the Brownian increment count."""

    state: Tensor
    denoised: Tensor
    first: Tensor
    second: Tensor
    noise: Tensor
    h: Tensor  # the step in λ
    scale: Tensor  # a(t₀)
    variance: Tensor  # s(t₀)²


def _weights(problem: ReverseProblem, clock: Clock, order: int, u0: Tensor, u1: Tensor) -> _Weights:
    """The weights of the step from u₀ to u₁; all but the last three count at t₁, times a(t₁)."""
    sde, dial, u = problem.sde, problem.eta**2, torch.stack([u0, u1])
    t = clock.time(u.flatten())  # one dimension at most is what an SDE of one's own expects
    a0, a1 = sde.marginal_scale(t).view_as(u)
    sigma0, sigma1 = sde.noise_level(t).view_as(u)
    h = torch.log(sigma0 / sigma1)
    total = (1 + dial) * h
    gain = -torch.expm1(-total)
    phi2 = 1 - gain / total
    return _Weights(
        state=a1 * torch.exp(-total) / a0,
        denoised=a1 * gain,
        # At order 2 the paper's weight, which differs from φ₂ by O(h²).
        first=a1 * h * (0.5 * gain if order == 2 else phi2),
        second=a1 * h**2 * (0.5 - phi2 / total),
        noise=a1 * sigma1 * torch.sqrt(-torch.expm1(-2 * dial * h) / (u1 - u0)),
        h=h,
        scale=a0,
        variance=(a0 * sigma0) ** 2,
    )


class _Exponential:
    """Exponential integrator of order 1, 2 or 3 with the denoiser extrapolated.

    Args:
        order: how many values of the denoiser are used.
    """

    def __init__(self, run: Run, order: int, name: str) -> None:
        self.run, self.problem = run, _reverse_problem(run, name)
        self.order, self.dial = order, self.problem.eta**2
        self._table = run.table(partial(_weights, self.problem, run.equation.clock, order))
        # Denoisers, each with the step in λ that began there, the newest first.
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=order - 1)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        w = _Weights(*self._table(u0, u1))
        denoised = self._denoised(u0, x, w)
        x1 = _advanced(w, x, denoised, *self._derivatives(denoised))
        self._past.appendleft((w.h, denoised))
        return x1.addcmul_(w.noise, self.run.increment(u0, u1)) if self.dial else x1

    def _denoised(self, u: Tensor, x: Tensor, w: _Weights) -> Tensor:
        """E[x(0) | x(t) = x] (Tweedie's formula)."""
        equation = self.run.equation
        score = self.problem.score_at(x.to(equation.dtype), equation.t(u))
        return torch.addcmul(x, w.variance, score).div_(w.scale)

    def _derivatives(self, newest: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """D′ and D″ in λ at the newest node, of the polynomial through the last ones."""
        slope, bend = self._differences(newest)
        if slope is None or bend is None:
            return slope, None
        return slope + self._past[0][0] * bend, 2 * bend

    def _differences(self, newest: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """First and second divided differences of the denoiser over the last nodes."""
        if not self._past:
            return None, None
        h1, d1 = self._past[0]
        slope = (newest - d1).div_(h1)
        if len(self._past) < 2:
            return slope, None
        h2, d2 = self._past[1]
        return slope, (slope - (d1 - d2) / h2) / (h1 + h2)


def _advanced(
    w: _Weights, x: Tensor, d: Tensor, first: Tensor | None, second: Tensor | None
) -> Tensor:
    """The state after a step, but for noise, with what is known of D and its derivatives."""
    x1 = (w.state * x).addcmul_(w.denoised, d)
    if first is not None:
        x1.addcmul_(w.first, first)
    return x1 if second is None else x1.addcmul_(w.second, second)


class _UniPC(_Exponential):
    """UniPC of order 3: predict with the last denoisers, correct once the next one is known.

    The corrector costs nothing: the denoiser at the predicted state is what the next step
    begins with. It also mends the first steps, whose predictors know less, so that the
    whole converges with order 3. With the exact integrals of the polynomials, in λ; only
    the last step is not corrected.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run, 3, "unipc")
        self._before: tuple[_Weights, Tensor] | None = None  # the newest step and its start

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        w = _Weights(*self._table(u0, u1))
        denoised = self._denoised(u0, x, w)
        if self._before is not None:
            x = self._corrected(*self._before, denoised)
        x1 = _advanced(w, x, denoised, *self._derivatives(denoised))
        self._past.appendleft((w.h, denoised))
        self._before = w, x
        return x1

    def _corrected(self, w: _Weights, x: Tensor, newest: Tensor) -> Tensor:
        """The end of the last step again, with the denoiser there."""
        slope, bend = self._differences(newest)
        if slope is None or bend is None:
            return _advanced(w, x, self._past[0][1], slope, None)
        return _advanced(w, x, self._past[0][1], slope - w.h * bend, 2 * bend)


class _Ends(NamedTuple):
    """Both ends of a step of EDM's: a(t) and s(t), the first at the raised noise level."""

    scale0: Tensor
    std0: Tensor
    scale1: Tensor
    std1: Tensor
    h: Tensor  # the step in σ
    sigma: Tensor  # where the step begins, before it is raised
    scale: Tensor  # a(t) there
    raised: Tensor  # t at the raised noise level
    added: Tensor  # std of the noise that raises it


def _ends(
    sde: SDE, clock: Clock, churn: tuple[float, float, float, float], u0: Tensor, u1: Tensor
) -> _Ends:
    """The step from u₀ to u₁; churn is γ, S_min, S_max and S_noise."""
    gamma, low, high, noise = churn
    t, t1 = clock.time(u0), clock.time(u1)
    sigma, sigma1 = sde.noise_level(t), sde.noise_level(t1)
    t0, raised = t, sigma
    if gamma:
        top = sde.noise_level(torch.tensor(sde.T, dtype=sigma.dtype))
        raised = torch.minimum((1 + gamma) * sigma, top)
        raised = torch.where((low <= sigma) & (sigma <= high), raised, sigma)
        t0 = sde.time_of_noise_level(raised)
    return _Ends(
        *(sde.marginal_scale(t0), sde.marginal_std(t0)),
        *(sde.marginal_scale(t1), sde.marginal_std(t1)),
        h=sigma1 - raised,
        sigma=sigma,
        scale=sde.marginal_scale(t),
        raised=t0,
        added=noise * (raised**2 - sigma**2).sqrt(),
    )


class _HeunEDM:
    """EDM's stochastic Heun step: raise the noise a little (churn), then Heun in σ.

    With y = x / a the flow is dy/dσ = (y − D) / σ = −s ∇ log p (arXiv 2206.00364, equation 3).

    Options, in EDM's symbols: `S_churn` (0: none), `S_min`, `S_max` (the noise levels
    between which it acts), `S_noise`.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.problem = run, _reverse_problem(run, "heun_edm")
        options = {"S_churn": 0.0, "S_min": 0.0, "S_max": math.inf, "S_noise": 1.0, **run.options}
        self.low, self.high = options["S_min"], options["S_max"]
        self.gamma = min(options["S_churn"] / (len(run.nodes) - 1), math.sqrt(2) - 1)
        churn = (self.gamma, self.low, self.high, options["S_noise"])
        self._table = run.table(partial(_ends, self.problem.sde, run.equation.clock, churn))
        self._numbers = NormalTable(run.seed, "churn")
        self._node = 0

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, ends = self.run.equation, _Ends(*self._table(u0, u1))
        y, t0 = x / ends.scale, equation.t(u0)
        if self.gamma and self.low <= float(ends.sigma) <= self.high:
            y, t0 = y + ends.added * self._draw(y), ends.raised
        slope = self._slope(y, t0, ends.scale0, ends.std0)
        slope1 = self._slope(y + ends.h * slope, equation.t(u1), ends.scale1, ends.std1)
        return ends.scale1 * (y + 0.5 * ends.h * (slope + slope1))

    def _draw(self, y: Tensor) -> Tensor:
        self._node += 1
        rows = self._numbers.rows(self.run.samples, self._node - 1, y.shape[1:], y.dtype)
        return rows.to(y.device)

    def _slope(self, y: Tensor, t: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        return -std * self.problem.score_at(scale * y, t)


class _SOSRA:
    """Stability-optimised stochastic Runge–Kutta method for additive noise.

    Three stages, strong order 1.5, with the coefficients of arXiv 1804.04344 (SOSRA).
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
