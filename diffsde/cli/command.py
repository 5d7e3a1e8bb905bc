r"""What all commands have in common: help that lists names, and errors that speak of options.

The names that help texts list and the shell completes live in modules that load torch, so they
are looked up only when they are shown: {clocks} in a help text stands for the clocks' names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

import diffsde
from diffsde.cli.wording import in_options
from diffsde.errors import DiffSDEError

__all__ = ["Command", "clock_names", "kind_names", "model_names", "solver_names"]


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
    "{optimizers}": lambda: list(diffsde.training.OPTIMIZERS),
    "{preconditionings}": lambda: list(diffsde.scores.PRECONDITIONINGS),
    "{recipes}": lambda: list(diffsde.training.RECIPES),
    "{sdes}": lambda: list(diffsde.equations.SDES),
    "{couplings}": lambda: list(diffsde.training.COUPLINGS),
    "{schedules}": lambda: list(diffsde.training.SCHEDULES),
}


@contextmanager
def _warnings_in_words(options: Mapping[str, str]) -> Iterator[None]:
    """Within, what the library warns of is one line that speaks of options, as errors do."""
    usual, package = warnings.formatwarning, str(Path(diffsde.__file__).parent)

    def one_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if filename.startswith(package):
            return f"diffsde: {in_options(str(message), options)}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


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

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what goes wrong is told in terms of its options."""
        try:
            with _warnings_in_words(self._options()):
                return super().invoke(ctx)
        except DiffSDEError as error:
            error.args = (in_options(str(error), self._options()),)
            raise

    def _options(self) -> dict[str, str]:
        """The options by the names of their arguments."""
        named = {
            param.name: "/".join([param.opts[0], *param.secondary_opts[:1]])
            for param in self.params
            if param.name
        }
        return {name: option for name, option in named.items() if option.startswith("--")}
