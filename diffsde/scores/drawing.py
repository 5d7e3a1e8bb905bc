r"""What everyone does with a score: make its problems, and draw samples.

A score that knows its process and the shape of a sample is enough for both, so each kind of
score here has these three methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from diffsde.equations.forward import SDE
from diffsde.equations.ranges import UNIT, Range
from diffsde.equations.reverse import PROBLEMS, ProbabilityFlow, ReverseSDE, Score
from diffsde.errors import InputError
from diffsde.noise.seeds import checked_seed
from diffsde.scores.guidance import checked_guidance, classifier_free
from diffsde.scores.labels import Label, chosen_label
from diffsde.scores.tempering import tempered
from diffsde.scores.usual import CLOCK, METHODS, STEPS
from diffsde.system.devices import named_device
from diffsde.system.numbers import whole_number
from diffsde.system.parameters import device_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from diffsde.solvers.registry import Solver
    from diffsde.solvers.trajectory import Trajectory

__all__ = ["Drawing"]

_SPREADS = 4.0  # of the data in their range: EDM's σ = ½ for (−1, 1)


class Drawing(nn.Module):
    """A score with its process and the shape of a sample, from which samples can be drawn.

    Attributes:
        sde: the forward process.
        shape: of one sample; None if it is not known.
        data_range: the values of black and of white, in which its states are.
        classes: how many classes it knows; 0 if it takes no labels.
        flow_only: whether it has a probability flow but no reverse SDE.
    """

    sde: SDE
    shape: tuple[int, ...] | None
    data_range: Range = UNIT
    classes: int = 0
    flow_only: bool = False

    def flow(
        self, *, label: Label | None = None, guidance: float = 1.0, temperature: float = 1.0
    ) -> ProbabilityFlow:
        """The probability flow of this score, or of one class; see `sample` for the arguments."""
        score = self.score_for(label, guidance, temperature)
        return ProbabilityFlow(self.sde, score, self._known_shape())

    def reverse(
        self,
        eta: float | Callable[[Tensor], Tensor] = 1.0,
        *,
        label: Label | None = None,
        guidance: float = 1.0,
        temperature: float = 1.0,
    ) -> ReverseSDE:
        """The reverse SDE of this score, or of one class; η as `ReverseSDE` takes it."""
        score = self.score_for(label, guidance, temperature)
        return ReverseSDE(self.sde, score, self._known_shape(), eta)

    def score_for(
        self, label: Label | None = None, guidance: float = 1.0, temperature: float = 1.0
    ) -> Score:
        """The score of a class at a temperature; see `sample` for the arguments.

        Raises:
            InputError: as `of_class` and `tempered` do.
        """
        score = self.of_class(label, guidance)
        if temperature == 1:
            return score
        black, white = self.data_range
        return tempered(self.sde, score, temperature, (white - black) / _SPREADS)

    def of_class(self, label: Label | None, guidance: float = 1.0) -> Score:
        """The score of one class, or of (B,) classes; with label=None, this score.

        Raises:
            InputError: the score takes no labels, there is no such class, or guidance is given
                without a label.
        """
        if label is None:
            if checked_guidance(guidance) != 1:
                raise InputError(f"guidance = {guidance:g} needs a class: give label= too")
            return self
        return classifier_free(self, label, guidance)

    def sample(
        self,
        n: int,
        *,
        method: str | None = None,
        kind: str | None = None,
        steps: int | None = None,
        clock: str | Callable[[Tensor], Tensor] = CLOCK,
        seed: int | None = None,
        label: Label | Literal["random"] | None = None,
        guidance: float = 1.0,
        eta: float | Callable[[Tensor], Tensor] | None = None,
        temperature: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        denoise: bool = True,
        **settings: Any,
    ) -> Trajectory:
        """Draw n samples, and keep the whole path.

            sol = model.sample(16, seed=0)
            sol = model.sample(16, method="dopri5", label=7)
            sol = model.sample(16, label="random")

        Args:
            n: how many.
            method: a name from `list_solvers`; "sde_dpmpp_2m" if left out, or "dpmpp_2m" for
                the flow.
            kind: "sde" for the reverse SDE, "ode" for the probability flow; only for a method
                that solves both, which takes the SDE if this is left out.
            steps: the number of steps, 50 if left out; a method that chooses its own needs none.
            clock: in which the steps are equal: "karras" unless another is given.
            seed: of the prior's noise, of the noise along the path and of random classes.
            label: draw one class only, or (n,) classes, one for each sample. With "random", a
                class is drawn first for each sample, every class with the same chance, and then
                a sample of that class; the class of sample i depends on (seed, i) alone.
            guidance: γ of `classifier_free`; 1 draws from the class as it is.
            eta: η of the reverse SDE, 1 if left out.
            temperature: below 1 samples are more typical and more alike, above 1 less: see
                `tempered`, which is given a quarter of the data's range as their spread, EDM's
                choice for images.
            device: where to compute; the model is moved there. Where the model is, if left out.
            dtype: of the states; torch's default if left out.
            denoise: end with one more evaluation, which removes the noise that is left at ε.
            settings: what `solve` takes beside, such as save, rtol, callback.

        Returns:
            The path, (T, n, *shape); `images()` gives the samples in [0, 1].

        Raises:
            InputError: an argument does not fit; `UnknownSolverError` for a method's name.
            SolveError: the solve stopped before its end; see `solve`.
        """
        # The libraries of solvers take longer to load than the rest, and a model may do without.
        from diffsde.solvers.solving import solve

        n, seed = whole_number(n, "n"), checked_seed(seed)
        solver = _solver(method, kind or ("ode" if self.flow_only else None))
        if device is not None:
            self.to(named_device(device))
        classes = chosen_label(label, self.classes, seed, range(n))
        problem = self._problem(solver.kind, classes, guidance, eta, temperature)
        if steps is None and settings.get("ts") is None and not _adapts(solver, settings):
            steps = STEPS
        shape = (n, *self._known_shape())
        x = self.sde.prior_sample(shape, seed=seed, dtype=dtype, device=device_of(self))
        return solve(
            problem,
            x,
            solver.name,
            steps=steps,
            clock=clock,
            seed=seed,
            denoise=denoise,
            **settings,
        )

    def _problem(
        self,
        kind: str,
        label: Label | None,
        guidance: float,
        eta: float | Callable[[Tensor], Tensor] | None,
        temperature: float,
    ) -> ReverseSDE | ProbabilityFlow:
        if kind == "ode":
            if eta is not None:
                raise InputError(
                    "eta is for the reverse SDE: take a method of it, or leave eta out"
                )
            return self.flow(label=label, guidance=guidance, temperature=temperature)
        eta = 1.0 if eta is None else eta
        return self.reverse(eta, label=label, guidance=guidance, temperature=temperature)

    def _known_shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise InputError(
                "this score does not know the shape of a sample: give shape= where it is made, "
                "such as shape=(3, 32, 32)"
            )
        return self.shape


def _solver(method: str | None, kind: str | None) -> Solver:
    from diffsde.solvers.catalogue import find_solver, usual_kind

    if kind not in (None, *PROBLEMS):
        raise InputError(f"kind = {kind!r}: expected {' or '.join(PROBLEMS)}")
    if method is None:
        return find_solver(METHODS[kind or "sde"], kind or "sde")
    return find_solver(method, kind or usual_kind(method))


def _adapts(solver: Solver, settings: dict[str, Any]) -> bool:
    adaptive = settings.get("adaptive")
    return solver.adaptive if adaptive is None else bool(adaptive)
