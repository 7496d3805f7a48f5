"""Tables for people: by rich on a terminal, aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[int]) -> None:
    """Print rows of cells on stdout.

    Args:
        header: a name a column.
        rows: a cell a column each.
        text: numbers of the columns that hold text, set on the left; the others hold numbers.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        from fidkit.cli.say import terminal

        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number in text else "right")
        for row in rows:
            table.add_row(*row)
        Console(file=terminal(sys.stdout)).print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if number in text else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
