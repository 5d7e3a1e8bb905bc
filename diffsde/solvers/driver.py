r"""The loop of every solve: it follows a method's steps, checks them, and knows when to stop."""

from __future__ import annotations

import math

from torch import Tensor

from diffsde.equations.counted import BlowUp, EvaluationError, Limit, largest_magnitude
from diffsde.errors import BlowUpError, DiffSDEError, LimitError, SolveError
from diffsde.solvers.events import Watch
from diffsde.solvers.progress import step_bar
from diffsde.solvers.recorder import Recorder
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import Step, Walk
from diffsde.solvers.stop_rules import STOP, StopRules
from diffsde.solvers.trajectory import Trajectory

__all__ = ["Driver"]

_BLOWN_UP = 100  # times the largest state that a solve should see


def _sent(walk: Walk, altered: Tensor | None) -> Step | None:
    """The next step of a walk that is sent a state; None at its end."""
    try:
        return walk.send(altered)
    except StopIteration:
        return None


def _sizes(x: Tensor) -> Tensor:
    """The largest |value| of each sample, (B,), float64."""
    return x.detach().flatten(1).abs().amax(1).double()


class Driver:
    """Follows the steps of one solve.

    Args:
        solver: whose steps they are.
        recorder: takes the states.
        rules: what ends the solve early.
        watch: looks for the event, if there is one.
    """

    def __init__(
        self, solver: Solver, recorder: Recorder, rules: StopRules, watch: Watch | None
    ) -> None:
        self.solver, self.recorder, self.rules, self.watch = solver, recorder, rules, watch
        state = recorder.state
        # A reverse problem ends near the data: a state this large comes from an unstable solver.
        # Each sample is measured by itself, whatever its batch.
        start = _sizes(state.x).clamp(min=state.equation.dynamics.scale)
        self._bounds = _BLOWN_UP * start
        self._lowest = float(self._bounds.min())
        self._event_found = False

    def steps(self, walk: Walk, *, total: int | None, progress: bool | str) -> Walk:
        """The steps of a walk, each checked and recorded; a state sent back goes on to the walk.

        Args:
            walk: of the method.
            total: how many steps there will be, if that is known.
            progress: show a progress bar; a text names it.

        Raises:
            SolveError: the solve stopped early; the error holds the path so far, as a
                KeyboardInterrupt does.
        """
        try:
            with step_bar(total, shown=progress) as bar:
                altered = None
                while (step := _sent(walk, altered)) is not None:
                    self._take(step)
                    if bar is not None:
                        bar.advance(self.recorder.time(step.u))
                    altered = yield self.recorder.last
                    if altered is not None:
                        self._begin_anew(altered)
                    if self._wants_to_stop():
                        break
        except (DiffSDEError, KeyboardInterrupt) as error:
            error.trajectory = self._path_so_far()  # type: ignore[union-attr]
            raise
        except Exception as error:
            raise self._failure(error) from error
        self.recorder.close()

    def _take(self, step: Step) -> None:
        recorder, before = self.recorder, self.recorder.last
        self._check(step.x)
        recorder.count_step()
        crossing = None if self.watch is None else self.watch.crossing(before, step)
        self._event_found = crossing is not None
        recorder.take(crossing or step)

    def _begin_anew(self, x: Tensor) -> None:
        """Go on from another state."""
        self._check(x)
        self.recorder.last = Step(self.recorder.last.u, x)
        if self.watch is not None:
            self.watch.forget()

    def _check(self, x: Tensor) -> None:
        largest = largest_magnitude(x)
        if not math.isfinite(largest):
            self.recorder.stats.steps += 1
            raise BlowUp(f"the state is not finite any more. {self._advice()}")
        if largest <= self._lowest:
            return
        beyond = _sizes(x) > self._bounds
        if bool(beyond.any()):
            raise BlowUp(
                f"the state has blown up (beyond {float(self._bounds[beyond][0]):g}, a hundred "
                "times where it started, the prior's scale and what is known of the data's; for "
                f"larger data give the problem data_scale=). {self._advice()}"
            )

    def _advice(self) -> str:
        own = self.solver.advice
        hint = f" ({self.solver.name}: {own.rstrip('.')})" if own else ""
        return f"Take more steps, another solver or another clock{hint}"

    def _wants_to_stop(self) -> bool:
        rules, stats = self.rules, self.recorder.stats
        if self._callback_stops() or self._event_found or self.recorder.finished:
            return True
        if rules.max_steps is not None and stats.steps >= rules.max_steps:
            raise Limit(f"max_steps = {rules.max_steps} steps are taken")
        if rules.max_seconds is not None and stats.seconds >= rules.max_seconds:
            raise Limit(f"max_seconds = {rules.max_seconds} are over")
        return False

    def _callback_stops(self) -> bool:
        if self.rules.callback is None:
            return False
        recorder, last = self.recorder, self.recorder.last
        x = last.x.reshape(recorder.shape).clone()  # it may write into what it is given
        return self.rules.callback(recorder.time(last.u), x, recorder.stats) is STOP

    def _path_so_far(self) -> Trajectory:
        self.recorder.count_cost()
        self.recorder.close()
        return self.recorder.trajectory()

    def _failure(self, error: Exception) -> SolveError:
        recorder = self.recorder
        ours = isinstance(error, (Limit, EvaluationError))
        words = str(error) if ours else f"{type(error).__name__}: {error}"
        if isinstance(error, BlowUp) and recorder.state.equation.dynamics.semilinear is not None:
            words += ". diffsde.check(problem) tells whether the score is at fault"
        return _class_of(error)(
            f"{self.solver.name} stopped after {recorder.stats.steps} steps at "
            f"t = {recorder.time(recorder.last.u):.6g}, where the state was last good: {words}. "
            "The path so far is in this error's trajectory",
            self._path_so_far(),
        )


def _class_of(error: Exception) -> type[SolveError]:
    """A limit, a blow-up, or anything else that the score or a callback raised."""
    if isinstance(error, Limit):
        return LimitError
    return BlowUpError if isinstance(error, BlowUp) else SolveError
