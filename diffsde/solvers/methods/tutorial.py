r"""The tutorial's samplers: Euler–Maruyama, and the predictor-corrector.

Source: Song et al., arXiv 2011.13456, and the PyTorch tutorial that accompanies it.
"""

from __future__ import annotations

from itertools import product

from torch import Tensor

from diffsde.solvers.coefficients import Row
from diffsde.solvers.methods.requirements import additive, semilinear
from diffsde.solvers.option_values import positive, whole
from diffsde.solvers.registry import register_own
from diffsde.solvers.state import SolveState

__all__: list[str] = []


class _EulerMaruyama:
    """The tutorial's sampler: x₁ = x₀ + f h + g ΔW."""

    def __init__(self, state: SolveState) -> None:
        self.state = additive(state, "em")
        self._length = state.table(lambda u0, u1: (u1 - u0,))

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        equation, (h,) = self.state.equation, self._length(u0, u1)
        dw = self.state.increment(u0, u1)
        return x + h * equation.f(u0, x) + equation.g_prod(u0, x, dw)


class _PredictorCorrector:
    """The tutorial's predictor-corrector: Langevin steps at t₀, then Euler–Maruyama.

    A Langevin step is x + ε score + √(2ε) z. The tutorial's ε = 2 (snr ‖z‖ / ‖score‖)², with
    norms of z = √D and of the score averaged over the batch, makes an image depend on its
    neighbours; with the norms of each sample, ε depends on the state and on the noise that it
    multiplies, and the law is lost. Here ‖score‖ is √D / s(t), its size where the noise is
    stronger than the data, so that

        ε(t)  =  2 (snr s(t))²

    depends on time alone. The step changes the variance v of Gaussian data by ε / 2v at most, so
    by less than snr², and by less the closer t is to 0. On the shipped MNIST networks (784
    pixels, 250 steps) ε is 0.99 to 1.04 times the tutorial's for s(t) > 0.13, that is for
    t > 0.015, and 1.25 times at t = 0.005: there the states of such coarse steps hold more noise
    than s(t), which makes their score larger.
    """

    def __init__(self, state: SolveState) -> None:
        self.process = semilinear(state, "pc", any_eta=True, any_level=True).process
        self.state = state
        self.snr = state.options.get("snr", 0.16)
        self.corrections = state.options.get("corrector_steps", 1)
        self.predictor = _EulerMaruyama(state)
        asked = product(state.nodes[:-1].tolist(), range(self.corrections))
        self._numbers = state.numbers("corrector", asked)
        self._sizes = state.table(self._step_and_root)

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        for k in range(self.corrections):
            x = self._correct(u0, u1, x, k)
        return self.predictor.step(u0, u1, x)

    def _step_and_root(self, u0: Tensor, _: Tensor) -> Row:
        """ε and √(2ε)."""
        std = self.process.marginal_std(self.state.equation.clock.time(u0))
        return 2 * (self.snr * std) ** 2, 2 * self.snr * std

    def _correct(self, u0: Tensor, u1: Tensor, x: Tensor, k: int) -> Tensor:
        step, root = self._sizes(u0, u1)
        z = self._numbers(u0, k)
        return x + step * self.state.equation.score(u0, x) + root * z


_SOURCE = "the tutorial of Song et al., arXiv 2011.13456"

register_own(
    "em",
    "sde",
    1.0,
    _EulerMaruyama,
    evaluations=1,
    source=_SOURCE,
    advice="The same step as euler. 500 even steps in t, or 100 with clock='karras'.",
    weak_order=1.0,
)
register_own(
    "pc",
    "sde",
    1.0,
    _PredictorCorrector,
    evaluations=2,
    source=_SOURCE,
    advice="A Langevin step before each step; options snr (0.16) and corrector_steps (1).",
    multistep=True,
    options={"snr": positive, "corrector_steps": whole(0)},
)
