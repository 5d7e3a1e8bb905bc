r"""The loop of every solve: it follows a method's steps, checks them, and knows when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from diffsde.equations.counted import BlowUp, EvaluationError, Limit
from diffsde.errors import BlowUpError, DiffSDEError, LimitError, SolveError
from diffsde.solvers.checks import LateBlowUp
from diffsde.solvers.events import Watch
from diffsde.solvers.progress import step_bar
from diffsde.solvers.recorder import Recorder
from diffsde.solvers.registry import Solver
from diffsde.solvers.state import Step, Walk
from diffsde.solvers.stop_rules import STOP, StopRules
from diffsde.solvers.trajectory import Trajectory

__all__ = ["Driver"]

_EARLY = 8  # steps after which a solve is looked at that is not looked at again before its end


def _sent(walk: Walk, altered: Tensor | None) -> Step | None:
    """The next step of a walk that is sent a state; None at its end."""
    try:
        return walk.send(altered)
    except StopIteration:
        return None


class Driver:
    """Follows the steps of one solve.

    Args:
        solver: whose steps they are.
        recorder: takes the states.
        rules: what ends the solve early.
        watch: looks for the event, if there is one.
        rarely: whether nobody needs to know before the end that each step is good. Then, on
            another device than the CPU, it is looked at twice in all, and never on the way.
    """

    def __init__(
        self,
        solver: Solver,
        recorder: Recorder,
        rules: StopRules,
        watch: Watch | None,
        *,
        rarely: bool,
    ) -> None:
        self.solver, self.recorder, self.rules, self.watch = solver, recorder, rules, watch
        self._rarely = rarely and not recorder.state.checks.prompt
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
        with self.path_so_far_in_errors(), step_bar(total, shown=progress) as bar:
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
            self.recorder.close()

    @contextmanager
    def path_so_far_in_errors(self) -> Iterator[None]:
        """Within this context, an exception becomes a SolveError that holds the path so far.

        A DiffSDEError and a KeyboardInterrupt stay what they are, and hold it too. A blow-up that
        came before, and at which nobody had looked yet, takes the place of any other error.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            self._blown_up_before()
            error.trajectory = self._path_so_far()  # type: ignore[attr-defined]
            raise
        except Exception as error:
            before = self._blown_up_before()
            if before is None and isinstance(error, DiffSDEError):
                error.trajectory = self._path_so_far()  # type: ignore[attr-defined]
                raise
            raise self._failure(before or error) from error

    def look(self) -> None:
        """Look at what has not been looked at yet.

        Raises:
            BlowUp: a number was bad.
        """
        try:
            self.recorder.state.checks.look()
        except LateBlowUp as found:
            if self._rarely:
                self.recorder.cut_back(found.good, found.state)
            raise

    def _blown_up_before(self) -> BlowUp | None:
        """The blow-up that came before an error and that nobody has looked at yet."""
        try:
            self.look()
        except BlowUp as found:
            return found
        return None

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
        self.recorder.state.checks.state(x)
        if not self._rarely or self.recorder.stats.steps + 1 == _EARLY:
            self.look()

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
