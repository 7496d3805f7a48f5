"""Tables of web pages, a row a line that names its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fidkit.passages.load.html_parts import text_of

# Spans of cells that a page claims, beyond which nobody draws a table.
_WIDEST = 100
_TALLEST = 1000
_COLUMNS = 1000
# Cells with parts such as these are places on a page, and the table a way to arrange them.
_OF_PAGES = frozenset((
    "table", "h1", "h2", "h3", "h4", "h5", "h6", "article", "section", "main", "nav", "form",
    "pre",
))  # fmt: skip
_LONGEST_CELL = 2000


def is_table_of_data(table: Any) -> bool:
    """Whether a table has facts in rows and columns, and doesn't merely arrange a page."""
    if table.get("role") in ("presentation", "none"):
        return False
    if any(part.tag in _OF_PAGES for part in table.iterdescendants()):
        return False
    rows = list(_rows(table))
    if not any(len(row) > 1 for row in rows):
        return False
    return all(len(text_of(cell)) <= _LONGEST_CELL for row in rows for cell in row)


def rows_of(table: Any) -> tuple[str, list[str]]:
    """The caption of a table, and its rows as `Column: value | Column: value`."""
    caption = next((_plain(part) for part in table.iter("caption")), "")
    rows = list(_rows(table))
    heads = _heads(table, rows)
    names: list[str] = []
    lines: list[str] = []
    for number, cells in enumerate(_spread(rows)):
        if number < heads:
            names = _joined(names, cells)
            continue
        values = cells
        if not heads and len(cells) == 2 and rows[number][0].tag == "th":
            values, labels = cells[1:], cells[:1]  # a fact a line, named by its first cell
        else:
            labels = names
        if line := _line(labels, values):
            lines.append(line)
    return caption, lines or [" | ".join(name for name in names if name)]


def _rows(table: Any) -> Iterator[list[Any]]:
    for row in table.iter("tr"):
        yield [cell for cell in row if cell.tag in ("td", "th")]


def _heads(table: Any, rows: list[list[Any]]) -> int:
    """How many rows name the columns: those of `thead`, or else first rows of `th` alone."""
    parents = [row.getparent() for row in table.iter("tr")]
    said = sum(1 for parent in parents if parent is not None and parent.tag == "thead")
    if said:
        return said
    heads = 0
    while heads < len(rows) and len(rows[heads]) > 1 and all(cell.tag == "th" for cell in rows[heads]):
        heads += 1
    return heads


def _spread(rows: list[list[Any]]) -> Iterator[list[str]]:
    """Texts of the cells in their columns, with those that reach over several in each of them."""
    hanging: dict[int, tuple[int, str]] = {}
    for row in rows:
        texts: list[str] = []
        cells = iter(row)
        cell = next(cells, None)
        while cell is not None or any(column >= len(texts) for column in hanging):
            if (column := len(texts)) in hanging:
                left, text = hanging.pop(column)
                texts.append(text)
                if left > 1:
                    hanging[column] = left - 1, text
            elif cell is None:
                texts.append("")
            else:
                text, tall = _plain(cell), _span(cell, "rowspan", _TALLEST)
                wide = _span(cell, "colspan", _WIDEST) if column < _COLUMNS else 1
                for at in range(column, column + wide):
                    texts.append(text)
                    if tall > 1:
                        hanging[at] = tall - 1, text
                cell = next(cells, None)
        yield texts


def _line(names: list[str], values: list[str]) -> str:
    """A row with the names of its columns; a cell that reaches over several is said once."""
    parts: list[str] = []
    before: tuple[str, str] | None = None
    for number, value in enumerate(values):
        name = names[number] if number < len(names) else ""
        if value and (before is None or before[1] != value or before[0] != name):
            parts.append(f"{name.rstrip(':')}: {value}" if name and name != value else value)
        before = name, value
    return " | ".join(parts)


def _joined(above: list[str], below: list[str]) -> list[str]:
    width = max(len(above), len(below))
    above, below = above + [""] * (width - len(above)), below + [""] * (width - len(below))
    return [
        f"{high} {low}" if high and low and high != low else high or low
        for high, low in zip(above, below, strict=True)
    ]


def _span(cell: Any, name: str, most: int) -> int:
    given = str(cell.get(name) or "1").strip()
    said = int(given) if given.isascii() and given.isdecimal() and len(given) < 6 else 1
    return min(max(1, said), most)


def _plain(element: Any) -> str:
    return " ".join(text_of(element).split())
