r"""What options stand for: a model, a clock, solvers and their problems, checked at once.

Each is checked before anything is computed, whatever comes second included.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import diffsde
from diffsde.cli.command import clock_names, kind_names, model_names
from diffsde.errors import CheckpointError, InputError, name_list
from diffsde.scores.usual import METHODS

if TYPE_CHECKING:
    from diffsde.equations.eta import Eta
    from diffsde.equations.reverse import Score

__all__ = [
    "Plan",
    "check_clock",
    "check_eta",
    "pick_model",
    "pick_plans",
    "pick_rivals",
    "pick_score",
    "pick_solver",
    "pick_solvers",
    "pick_weights",
    "plans",
    "with_options",
]


class Plan(NamedTuple):
    """A problem, the solver that is to solve it, and how.

    Attributes:
        problem, solver: what is solved, and by what.
        adaptive: whether the solver chooses its own steps.
        tolerances: rtol and atol, where they are given and the steps go by them.
        options: of the solver.
    """

    problem: diffsde.equations.ReverseProblem
    solver: diffsde.solvers.Solver
    adaptive: bool
    tolerances: dict[str, float | None]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        kind, name = self.solver.kind, self.solver.name
        return name if name.startswith(f"{kind}_") else f"{kind}-{name}"


def pick_model(name: str, device: str | None) -> diffsde.ScoreModel:
    """A model on that device; see `pick_weights` for its name, `chosen_device` for the device."""
    from diffsde.system.launch import chosen_device

    place = chosen_device(device)  # which is refused before a large file is read
    return pick_weights(name).to(place)


def pick_weights(name: str) -> diffsde.ScoreModel:
    """A model that ships with the package, one from a file or folder, or one from the hub."""
    path = Path(name)
    named = not (os.path.exists(path) or path.suffix or "/" in name or len(path.parts) > 1)
    if name in model_names() or named:
        return diffsde.load_pretrained(name)
    try:
        return diffsde.load_model(name)
    except CheckpointError as error:
        raise CheckpointError(f"--model {error}") from error


def check_clock(name: str) -> None:
    """Refuse a clock that there is not."""
    if name not in clock_names():
        raise InputError(f"--clock {name}: {name_list(name, clock_names())}")


def check_eta(
    eta: float | None,
    between: tuple[float, float] | None,
    solvers: Sequence[diffsde.solvers.Solver],
) -> None:
    """Refuse an η that is no number, or that is for none of these solvers."""
    for name, given in (("--eta", eta), ("--eta-between", between)):
        if given is not None and all(solver.kind == "ode" for solver in solvers):
            raise InputError(f"{name} is for the reverse SDE: give --kind sde, or a solver of it")
    if eta is not None and not math.isfinite(eta):
        raise InputError(f"--eta {eta:g}: expected a finite number")


def pick_solver(method: str, kind: str | None) -> diffsde.solvers.Solver:
    """The solver of that name; if both kinds have one and none is asked for, the SDE's."""
    if kind is None:
        kind = diffsde.solvers.usual_kind(method)
    if kind not in kind_names():
        raise InputError(f"--kind {kind}: expected sde or ode")
    return diffsde.solvers.find_solver(method, kind)


def pick_rivals(methods: Sequence[str], kind: str | None) -> list[diffsde.solvers.Solver]:
    """Solvers of one kind: the one asked for, or the first that all methods have."""
    if kind is None:
        shared = [one for one in kind_names() if all(one in _kinds_of(name) for name in methods)]
        kind = shared[0] if shared else None
    picked = pick_solvers(methods, kind and [kind])
    if len({solver.kind for solver in picked}) > 1:
        raise InputError("--method: expected methods of one kind (`diffsde solvers` lists them)")
    return picked


def _kinds_of(method: str) -> set[str]:
    return {row.kind for row in diffsde.list_solvers() if row.name == method}


def pick_solvers(
    methods: Sequence[str], kinds: Sequence[str] | None = None
) -> list[diffsde.solvers.Solver]:
    """Every solver by every kind."""
    picked = [pick_solver(name, kind) for name in methods for kind in kinds or (None,)]
    for number, solver in enumerate(picked):
        if solver in picked[:number]:
            raise InputError(f"--method {solver.name} of kind {solver.kind}: given twice")
    return picked


def with_options(
    solvers: Sequence[diffsde.solvers.Solver],
    option: Sequence[str] | None,
    adaptive: bool | None = None,
) -> list[tuple[diffsde.solvers.Solver, dict[str, Any]]]:
    """Each solver with those of the options NAME=VALUE that it has; one must have each."""
    from diffsde.solvers.arguments import checked_adaptive
    from diffsde.solvers.options import divided_options, options_read

    pairs = [(solver, checked_adaptive(solver, adaptive)) for solver in solvers]
    parts = divided_options(options_read(option or ()), pairs)
    return list(zip(solvers, parts, strict=True))


def pick_plans(
    model: str,
    device: str | None,
    methods: Sequence[str] | None,
    kinds: Sequence[str] | None,
    clock: str,
    label: str | None,
    guidance: float,
    temperature: float,
    seed: int,
    n: int,
    **settings: Any,
) -> tuple[diffsde.ScoreModel, list[Plan]]:
    """The model, and the plan of each solver by name, or of the usual one; see `plans`.

    Random classes are those of n samples.
    """
    solvers = pick_solvers(methods, kinds) if methods else _usual_solvers(kinds)
    check_clock(clock)
    score = pick_model(model, device)
    own = pick_score(score, label, guidance, temperature, seed, n)
    return score, plans(score, solvers, own, **settings)


def pick_score(
    model: diffsde.ScoreModel,
    label: str | None,
    guidance: float,
    temperature: float,
    seed: int,
    n: int,
) -> Score:
    """The score of a class, or of n random ones, at a temperature."""
    from diffsde.scores.labels import chosen_label

    known = int(label) if label is not None and label.isdecimal() else label
    own = chosen_label(known, model.classes, seed, range(n))
    return model.score_for(own, guidance, temperature)


def _usual_solvers(kinds: Sequence[str] | None) -> list[diffsde.solvers.Solver]:
    picked = (pick_solvers([METHODS.get(kind, kind)], [kind]) for kind in kinds or ["sde"])
    return [solver for solvers in picked for solver in solvers]


def plans(
    model: diffsde.ScoreModel,
    solvers: Sequence[diffsde.solvers.Solver],
    score: Score | None = None,
    *,
    eta: float | None = None,
    eta_between: tuple[float, float] | None = None,
    adaptive: bool | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    option: Sequence[str] | None = None,
) -> list[Plan]:
    """The problem of each solver, with the settings that all share.

    η, the tolerances and options go to those that they are for, and there must be one.
    """
    check_eta(eta, eta_between, solvers)
    for name, value in (("--rtol", rtol), ("--atol", atol)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} {value:g}: expected a finite number")
    from diffsde.solvers.arguments import checked_tolerances

    own = model if score is None else score
    strength: Eta | None = eta
    if eta_between is not None:
        full = 1.0 if eta is None else eta
        strength = diffsde.equations.eta_between(model.sde, *eta_between, full)
    found = [
        _plan(model, solver, own, strength, adaptive, rtol, atol, options)
        for solver, options in with_options(solvers, option, adaptive)
    ]
    if not any(plan.tolerances for plan in found):
        checked_tolerances(rtol, atol, found[0].solver, found[0].adaptive)
    return found


def _plan(
    model: diffsde.ScoreModel,
    solver: diffsde.solvers.Solver,
    score: Score,
    eta: Eta | None,
    adaptive: bool | None,
    rtol: float | None,
    atol: float | None,
    options: dict[str, Any],
) -> Plan:
    from diffsde.solvers.arguments import checked_adaptive, checked_tolerances

    adapts = checked_adaptive(solver, adaptive)
    tolerances = {"rtol": rtol, "atol": atol} if adapts or solver.iterates else {}
    checked_tolerances(tolerances.get("rtol"), tolerances.get("atol"), solver, adapts)
    parts = model.sde, score, model.shape
    dial: dict[str, Any] = {} if eta is None or solver.kind == "ode" else {"eta": eta}
    problem = diffsde.equations.PROBLEMS[solver.kind](*parts, **dial)
    return Plan(problem, solver, adapts, tolerances, options)
