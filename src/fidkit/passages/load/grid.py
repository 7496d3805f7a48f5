"""Tables as text: a row a line, `Header: value | Header: value`, so that each row says what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fidkit.passages.load.document import Writer
from fidkit.passages.load.prose import flat

# Numbers, dates, sums of money, shares: what stands in a column and not above it.
_VALUE = re.compile(r"[-+(]?\s*[$€£¥]?\s*[-+]?\d[\d\s.,:/%)TZ'’-]*[$€£¥]?", re.ASCII)
_HEADER_CHARACTERS = 100


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """A row on one line; cells without a text are passed over, and those without a header stand alone."""
    parts = []
    for at, cell in enumerate(cells):
        value = flat(cell)
        if value:
            head = header[at].rstrip(" :") if at < len(header) else ""
            parts.append(f"{head}: {value}" if head else value)
    return " | ".join(parts)


def is_value(text: str) -> bool:
    """Whether a cell is a number, a date or the like, which no header is."""
    return _VALUE.fullmatch(text.strip()) is not None


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns of the following ones.

    It does where it has at least two texts, short and different ones, no numbers, and one above each column
    but the first, which often has none. Two columns whose first cells end with a colon are names and values,
    side by side.

    Args:
        rows: the first rows of a table, each with a text a cell.
    """
    first, following = [cell.strip() for cell in rows[0]], [row for row in rows[1:] if any(row)]
    names = [cell for cell in first if cell]
    if len(names) < 2 or len(set(names)) < len(names) or not following:
        return False
    if any(is_value(cell) or len(cell) > _HEADER_CHARACTERS for cell in names):
        return False
    if all(row[0].rstrip().endswith(":") for row in (rows[0], *following) if row and row[0].strip()):
        return False
    used = {at for row in following for at, cell in enumerate(row) if cell.strip()}
    unnamed = {at for at in used if at >= len(first) or not first[at]}
    return not unnamed - {min(used, default=0)}


def write_table(writer: Writer, rows: Sequence[Sequence[str]], headed: bool | None = None) -> None:
    """Write all rows of a table that stands in a text.

    Args:
        writer: where to.
        rows: a text a cell.
        headed: whether the first row is a header; None where the file doesn't say.
    """
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    if headed is None:
        headed = is_header(rows[:20])
    header = [flat(cell) for cell in rows[0]] if headed and len(rows) > 1 else []
    for at, row in enumerate(rows):
        writer.block(row_text([] if at == 0 else header, row), "row")
    writer.write("\n")
