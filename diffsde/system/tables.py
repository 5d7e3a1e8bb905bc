r"""Tables: results that show themselves, as text, as HTML in a notebook, and as a data frame.

A column whose cells are mostly numbers is aligned right, any other one left.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diffsde.system.packages import optional_package

__all__ = ["Table", "aligned", "html_table", "records"]

_MOST_ROWS = 100  # of a table in a notebook; the rest is counted below it
_SHORT = 40  # a cell of so few letters stays on one line


class Table:
    """A result that is a table: a subclass says what is in it by `_lines` and `_records`."""

    def _lines(self) -> Sequence[Sequence[str]]:
        """The cells as text: the head, then the rows."""
        raise NotImplementedError

    def _records(self) -> Iterable[Mapping[str, Any]]:
        """The rows as numbers and texts by name, for a data frame."""
        raise NotImplementedError

    def _notes(self) -> Sequence[str]:
        """Sentences to show below the table."""
        return ()

    def __str__(self) -> str:
        notes = self._notes()
        return "\n".join([aligned(self._lines()), *([""] if notes else []), *notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return html_table(self._lines()) + notes

    def to_dataframe(self) -> Any:
        """The rows as a `pandas.DataFrame`, with unrounded numbers.

        Raises:
            InputError: pandas, the extra `pandas`, is not installed.
        """
        return optional_package("pandas", "pandas").DataFrame(list(self._records()))


def records(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The rows of columns of one length, as `Table._records` wants them."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The head and the rows of a table as lines of text."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = _columns_of_numbers(lines)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in lines
    )


def html_table(lines: Sequence[Sequence[str]]) -> str:
    """The head and the rows of a table as HTML, at most 100 of the rows."""
    head, *rows = lines
    sides = ["right" if right else "left" for right in _columns_of_numbers(lines)]
    shown = [_html_line("th", head, sides)]
    shown += [_html_line("td", row, sides) for row in rows[:_MOST_ROWS]]
    hidden = len(rows) - _MOST_ROWS
    rest = f"<p>and {hidden:,} more rows</p>" if hidden > 0 else ""
    return f"<table>{''.join(shown)}</table>{rest}"


def _html_line(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    texts = (
        f'<{tag} style="text-align:{side};{_layout(cell)}">{html.escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"


def _layout(cell: str) -> str:
    return f"padding:2px 8px;white-space:{'nowrap' if len(cell) < _SHORT else 'normal'}"


def _columns_of_numbers(lines: Sequence[Sequence[str]]) -> list[bool]:
    """For each column, whether most of the cells below its head are numbers."""
    _, *rows = lines
    columns = list(zip(*rows, strict=True)) or [()] * len(lines[0])
    return [2 * sum(map(_is_number, column)) > len(column) for column in columns]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").replace("−", "-"))
    except ValueError:
        return False
    return True
