r"""Options of methods: which a method has, how several share them, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffsde.errors import InputError, name_list
from diffsde.solvers.noisy_attempts import NOISY_OPTIONS
from diffsde.solvers.option_values import Check
from diffsde.solvers.registry import Solver

__all__ = ["checked_options", "divided_options", "options_in_words", "options_read"]


def checked_options(
    options: Mapping[str, Any] | None, solver: Solver, adaptive: bool
) -> dict[str, Any]:
    """The options of a method, each of which it must have.

    Raises:
        InputError: it does not have one of them, or not with steps like these, or the value is
            none that it may have.
    """
    if not isinstance(options, (Mapping, type(None))):
        raise InputError(f"options = {options!r:.80}: expected a dict, such as {{'last_order': 1}}")
    valid = _valid(solver, adaptive)
    for name in options or {}:
        if name not in valid:
            raise InputError(
                f"options[{name!r}] is none of {solver.name}'s: {name_list(name, valid)}"
                if valid
                else f"options[{name!r}]: {solver.name} has no options for steps like these"
            )
    return {name: valid[name](v, f"options[{name!r}]") for name, v in (options or {}).items()}


def divided_options(
    options: Mapping[str, Any] | None, solvers: Sequence[tuple[Solver, bool]]
) -> list[dict[str, Any]]:
    """For each of several methods, those of the options that it has.

    Args:
        options: by name.
        solvers: each with whether it chooses its own steps.

    Raises:
        InputError: one of the options is none of theirs.
    """
    if len(solvers) == 1:
        return [checked_options(options, *solvers[0])]
    valid = [_valid(*pair) for pair in solvers]
    known = {name for own in valid for name in own}
    names = ", ".join(dict.fromkeys(solver.name for solver, _ in solvers))
    for name in options or {}:
        if name not in known:
            raise InputError(
                f"options[{name!r}] is an option of none of {names}: {name_list(name, known)}"
                if known
                else f"options[{name!r}]: none of {names} has options for steps like these"
            )
    parts = ({k: v for k, v in (options or {}).items() if k in own} for own in valid)
    return [checked_options(part, *pair) for part, pair in zip(parts, solvers, strict=True)]


def options_in_words(options: Mapping[str, Any]) -> str:
    """The options as a table or a file name shows them: "last_order=1, max_order=3"."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def options_read(given: Sequence[str]) -> dict[str, Any]:
    """The options that the words NAME=VALUE stand for: numbers, true and false, and names.

    Raises:
        InputError: one is no such word, or a name is there twice.
    """
    found: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise InputError(f"option = {word!r}: expected NAME=VALUE, such as last_order=1")
        if name in found:
            raise InputError(f"option = {word!r}: {name} is given twice")
        found[name] = _value(value)
    return found


def _value(word: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _valid(solver: Solver, adaptive: bool) -> Mapping[str, Check]:
    if solver.adaptive and not adaptive:
        return {}  # they are all about its own steps
    return {**solver.options, **(NOISY_OPTIONS if adaptive and solver.kind == "sde" else {})}
