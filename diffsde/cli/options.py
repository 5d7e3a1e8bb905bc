r"""Options that commands share, and the model, solver and problem that they stand for.

The names that help texts list and the shell completes live in modules that load torch, so they
are looked up only when they are shown: {clocks} in a help text stands for the clocks' names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import diffsde
from diffsde.errors import InputError

__all__ = [
    "AsJson",
    "Clock",
    "Command",
    "Kind",
    "Method",
    "Methods",
    "Model",
    "Out",
    "Quiet",
    "Seed",
    "clock_names",
    "pick_model",
    "pick_problem",
    "pick_solver",
]


def model_names() -> list[str]:
    """The models that ship with the package."""
    return list(diffsde.scores.PRETRAINED)


def clock_names() -> list[str]:
    """The clocks that `solve` knows by name."""
    return list(diffsde.equations.CLOCKS)


def solver_names() -> list[str]:
    """The solvers of both kinds, sorted."""
    return sorted({row.name for row in diffsde.list_solvers()})


def kind_names() -> list[str]:
    """The kinds of reverse problem: sde and ode."""
    return list(diffsde.equations.PROBLEMS)


LISTS: dict[str, Callable[[], list[str]]] = {
    "{models}": model_names,
    "{clocks}": clock_names,
    "{datasets}": lambda: list(diffsde.data.DATASETS),
    "{networks}": lambda: list(diffsde.scores.NETWORKS),
    "{objectives}": lambda: list(diffsde.training.OBJECTIVES),
    "{recipes}": lambda: list(diffsde.training.RECIPES),
    "{schedules}": lambda: list(diffsde.training.SCHEDULES),
}


class Command(TyperCommand):
    """A command whose help texts may hold keys of `LISTS`."""

    def list_names(self) -> None:
        """Put the names into the help texts of the options."""
        for option in self.params:
            for key, names in LISTS.items():
                if key in (text := getattr(option, "help", None) or ""):
                    option.help = text.replace(key, ", ".join(names()))  # type: ignore[attr-defined]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        self.list_names()
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The options that begin so, with their help texts."""
        self.list_names()
        return super().shell_complete(ctx, incomplete)


Out = Annotated[Path, typer.Option("--out", help="Folder for the output.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model that ships with the package ({models}), or a file.",
        autocompletion=model_names,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else, for programs.")
]
Clock = Annotated[
    str,
    typer.Option(
        "--clock",
        help="Clock in which the steps are even: {clocks}.",
        autocompletion=clock_names,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method", help="Solver; `diffsde solvers` lists them.", autocompletion=solver_names
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", help="Solver; repeatable.", autocompletion=solver_names),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="sde or ode, for a solver's name that means both (sde by default).",
        autocompletion=kind_names,
    ),
]


def pick_model(name: str) -> diffsde.ScoreModel:
    """A model that ships with the package, or one from a file."""
    if name in model_names() or not Path(name).exists():
        return diffsde.load_pretrained(name)
    return diffsde.load_model(name)


def pick_solver(method: str, kind: str | None) -> diffsde.solvers.Solver:
    """The solver of that name; if both kinds have one and none is asked for, the SDE's."""
    if kind is None:
        kinds = {row.kind for row in diffsde.list_solvers() if row.name == method}
        kind = "ode" if kinds == {"ode"} else "sde"
    if kind not in kind_names():
        raise InputError(f"--kind {kind}: expected sde or ode")
    return diffsde.solvers.find_solver(method, kind)


def pick_problem(
    score: diffsde.ScoreModel, kind: str, label: int | None = None, guidance: float = 1.0
) -> diffsde.equations.ReverseProblem:
    """The reverse problem of that kind, of one class if there is a label."""
    if label is None and guidance != 1:
        raise InputError(f"--guidance {guidance:g} needs a class: give --label too")
    guided = score if label is None else diffsde.classifier_free(score, label, guidance)
    return diffsde.equations.PROBLEMS[kind](score.sde, guided, score.shape)
