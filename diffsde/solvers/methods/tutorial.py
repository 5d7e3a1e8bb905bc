r"""The tutorial's samplers: Euler–Maruyama, and the predictor-corrector.

Source: Song et al., arXiv 2011.13456, and the PyTorch tutorial that accompanies it.
"""

from __future__ import annotations

from torch import Tensor

from diffsde.noise.seeds import NormalTable
from diffsde.solvers.methods.requirements import additive, semilinear
from diffsde.solvers.registry import Solver, register
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

    A Langevin step is x + ε score + √(2ε) z with ε = 2 (snr ‖z‖ / ‖score‖)², the norms of
    each sample over its own pixels: the tutorial averages them over the batch, which makes
    an image depend on its neighbours.
    """

    def __init__(self, state: SolveState) -> None:
        semilinear(state, "pc")
        self.state = state
        self.snr = float(state.options.get("snr", 0.16))
        self.corrections = int(state.options.get("corrector_steps", 1))
        self.predictor = _EulerMaruyama(state)
        self._table = NormalTable(state.seed, "corrector")

    def step(self, u0: Tensor, u1: Tensor, x: Tensor) -> Tensor:
        for k in range(self.corrections):
            x = self._correct(u0, x, k)
        return self.predictor.step(u0, u1, x)

    def _correct(self, u: Tensor, x: Tensor, k: int) -> Tensor:
        score = self.state.equation.score(u, x)
        z = self.state.numbers(self._table, u, x, k)
        ratio = z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)
        step = 2 * (self.snr * ratio) ** 2
        return x + step * score + (2 * step).sqrt() * z


_SOURCE = "the tutorial of Song et al., arXiv 2011.13456"

register(
    Solver(
        name="em",
        kind="sde",
        family="diffsde",
        order=1.0,
        adaptive=False,
        evaluations=1,
        source=_SOURCE,
        advice="The same step as euler. 500 even steps in t, or 100 with clock='karras'.",
        one_step=_EulerMaruyama,
    )
)
register(
    Solver(
        name="pc",
        kind="sde",
        family="diffsde",
        order=1.0,
        adaptive=False,
        evaluations=2,
        source=_SOURCE,
        advice="A Langevin step before each step; options snr (0.16) and corrector_steps (1).",
        one_step=_PredictorCorrector,
        multistep=True,
        options=frozenset({"snr", "corrector_steps"}),
    )
)
