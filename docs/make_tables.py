"""The tables of the site, made from the code and from measured files so that they stay true.

- the solvers, from the registry;
- the commands and their options, from the command line's own parser;
- errors against evaluations, from `measured/*/table.csv`, which `diffsde work-precision` writes;
- the atlas and its pictures, from `measured/atlas/table.csv`, which `diffsde atlas` writes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from typer.main import get_command

from diffsde.cli.app import app
from diffsde.evaluation.atlas import BUDGETS, EXACT, Atlas, AtlasRow
from diffsde.evaluation.atlas_plots import plot_atlas
from diffsde.solvers import Solver, list_solvers

HERE = Path(__file__).parent


def write_tables(folder: Path) -> None:
    """Write the tables into a folder, a file for each."""
    pages = {f"{kind}.md": solvers(kind) for kind in ("sde", "ode")}
    pages |= {"commands.md": commands()}
    for name in ("flow", "sde"):
        pages[f"{name}-budgets.md"] = budgets(HERE / "measured" / name / "table.csv")
    pages["flow-tolerances.md"] = tolerances(HERE / "measured" / "flow-adaptive" / "table.csv")
    pages["atlas.md"] = atlas(HERE / "measured" / "atlas" / "table.csv", folder)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def solvers(kind: str) -> str:
    """The registry's rows of one kind."""
    orders = ["strong order", "weak order"] if kind == "sde" else ["order"]
    head = ["name", "library", *orders, "score evaluations a step", "steps", "source", "advice"]
    return table(head, map(_solver, list_solvers(kind)))


def _solver(row: Solver) -> list[str]:
    cost = "varies" if row.evaluations is None else f"{row.evaluations:g}"
    steps = "its own" if row.adaptive else "fixed"
    weak = "–" if row.weak_order is None else f"{row.weak_order:g}"
    orders = [f"{row.order:g}", weak] if row.kind == "sde" else [f"{row.order:g}"]
    return [f"`{row.name}`", row.family, *orders, cost, steps, row.source, row.advice]


def commands() -> str:
    """Each command: what it does, and its options."""
    group: Any = get_command(app)
    return "\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    command.list_names()
    text, _, example = (command.help or "").partition("Example")
    example = example.removeprefix("s").removeprefix(":")
    examples = "\n".join(" ".join(part.split()) for part in example.split(","))
    rows = [
        [_spelling(option), _help(option), _default(option)]
        for option in command.params
        if option.name != "help"
    ]
    options = table(["option", "what", "default"], rows)
    return f"### diffsde {name}\n\n{text.strip()}\n\n```sh\n{examples}\n```\n\n{options}"


def _spelling(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    return " ".join(f"`{name}`" for name in names)


def _help(option: Any) -> str:
    return " ".join((getattr(option, "help", None) or "").split()).replace("|", "\\|")


def _default(option: Any) -> str:
    default = option.default
    if option.required:
        return "required"
    plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    return f"`{default}`" if plain else "on" if default is True else ""


def budgets(path: Path) -> str:
    """Error of each method in each clock, a column for each number of evaluations."""
    rows = _measured(path)
    columns = sorted({int(row["nfe"]) for row in rows})
    columns = [n for n in columns if n % 10 == 0]  # methods of 3 or 4 a step may fall short
    return _by_budget(rows, columns, ("method", "clock"), "error")


def _by_budget(
    rows: Sequence[dict[str, str]], columns: Sequence[int], names: Sequence[str], measure: str
) -> str:
    """A measure of each method, a column for each number of evaluations; the best come first."""
    found: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        cells = found.setdefault(tuple(row[name] for name in names), {})
        affordable = [n for n in columns if n >= int(row["nfe"])]
        cells[min(affordable)] = _short(row, measure)
    middle = columns[len(columns) // 2]
    ranked = sorted(found.items(), key=lambda item: float(item[1].get(middle, "inf")))
    return table(
        [*names, *map(str, columns)],
        (
            [f"`{method}`", *more, *(cells.get(n, "–") for n in columns)]
            for (method, *more), cells in ranked
        ),
    )


_MEASURES = {
    "ratio": "FID over that of as many real images",
    "confident": "The share of images of which the classifier is sure",
    "error": "The strong error",
    "wasserstein": "The sliced Wasserstein distance from the exact law",
    "ks": "The Kolmogorov–Smirnov distance from the exact law",
}


def atlas(path: Path, folder: Path) -> str:
    """A section for each network: a picture, which is drawn into the folder, and tables."""
    rows = _measured(path)
    made = Atlas(tuple(map(_atlas_row, rows)))
    sections = []
    for network in made.networks:
        plot_atlas(made.of(network), folder / f"atlas-{network}.png")
        own = [row for row in rows if row["network"] == network]
        picture = f"![Every measure against evaluations](generated/atlas-{network}.png)"
        tables = [_atlas_table(own, m, title) for m, title in _MEASURES.items()]
        sections += [f"## `{network}`", picture, *filter(None, tables)]
    return "\n\n".join(sections) + "\n"


def _atlas_row(row: dict[str, str]) -> AtlasRow:
    # Annotations are texts, since they are not evaluated.
    numbers = {field.name for field in fields(AtlasRow) if field.type in ("int", "float")}
    values: Any = {k: float(v or "nan") if k in numbers else v for k, v in row.items()}
    return AtlasRow(**values)


def _atlas_table(rows: Sequence[dict[str, str]], measure: str, title: str) -> str:
    """A measure by evaluations; empty if it was not measured."""
    solved = [_with_options(row) for row in rows if row[measure] and row["method"] != EXACT]
    if not solved:
        return ""
    best = [row for row in rows if row["method"] == EXACT and row[measure]]
    ends = [f"; exact samples: {_short(row, measure)}" for row in best]
    text = _by_budget(solved, BUDGETS, ("method", "kind", "clock"), measure)
    return f"{title}{''.join(ends)}:\n\n{text}"


def tolerances(path: Path) -> str:
    """What each tolerance of an adaptive method cost and brought, in each clock."""
    return table(
        ["method", "clock", "steps", "evaluations", "error"],
        (
            [f"`{row['method']}`", row["clock"], row["steps"], row["nfe"], _short(row)]
            for row in _measured(path)
        ),
    )


def _short(row: dict[str, str], measure: str = "error") -> str:
    return f"{float(row[measure]):.2g}"


def _with_options(row: dict[str, str]) -> dict[str, str]:
    options = row["options"]
    return {**row, "method": f"{row['method']}, {options}" if options else row["method"]}


def _measured(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
