"""Tables on stdout: coloured on a terminal, plain aligned columns in a pipe, nothing ever cut off."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from backscatter.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: More rows than a person reads on a terminal are printed as in a pipe: a rich table costs 100 times the time.
RICH_ROWS = 500

#: Columns between columns, and the fewest that a column of sentences is squeezed into.
GAP, NARROW = 2, 40


def _plain(_: str) -> str:
    return ""


class Column(NamedTuple):
    """A column of a table.

    right  numbers are aligned to the right
    style  the colour of a cell from its text, as rich names colours; "" for none
    wraps  holds sentences, which a terminal may break; other cells stay whole even if the terminal is too narrow
    """

    title: str
    right: bool = False
    style: Callable[[str], str] = _plain
    wraps: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, which may hold text of strangers: control characters are escaped, markup means nothing."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip([column.title for column in columns], *cells, strict=True)]
    if sys.stdout.isatty() and len(cells) <= RICH_ROWS:
        _print_rich(columns, widths, cells)
    else:
        _print_plain(columns, widths, cells)


def _print_plain(columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    form = (" " * GAP).join(
        f"{{:{'>' if column.right else '<'}{width}}}" for column, width in zip(columns, widths, strict=True)
    )
    for row in ([column.title for column in columns], *rows):
        click.echo(form.format(*row).rstrip())


def _print_rich(columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a pipe never needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=not column.wraps, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell, style=column.style(cell)) for column, cell in zip(columns, row, strict=True)))
    needed = sum(
        GAP + (min(width, NARROW) if column.wraps else width) for column, width in zip(columns, widths, strict=True)
    )
    Console(width=max(Console().width, needed), highlight=False).print(table)
