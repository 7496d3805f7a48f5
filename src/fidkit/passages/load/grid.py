"""Tables as text: a row a line, `Header: value | Header: value`, so that each row says what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice

from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.prose import flat, sound

# Numbers, dates, sums of money, shares: what stands in a column and not above it.
_VALUE = re.compile(r"[-+(]?\s?[$€£¥]?\s?[-+]?[0-9][0-9\s.,:/%)TZ'’-]*[$€£¥]?")
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}")
_HEADER_CHARACTERS = 100
_LOOK = 20
"""Rows below a header that are looked at to tell whether it is one."""

MOST_CHARACTERS = 100_000_000
"""Of the text of a workbook or table; what is left out is said."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """A row of a sheet.

    Attributes:
        number: as the program shows it, counted from 1.
        cells: texts from the first column on; what a merged cell says stands in each row that it covers.
        wide: first and last column of cells that are merged across columns, counted from 0.
    """

    number: int
    cells: list[str]
    wide: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet of a workbook: its name, and its rows without the empty ones."""

    name: str
    rows: Iterable[GridRow]
    hidden: bool = False


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """A row on one line; cells without a text are passed over, and those without a header stand alone."""
    text = ""
    for at, cell in enumerate(cells):
        value = flat(cell)
        if value:
            head = header[at].rstrip(" :") if at < len(header) else ""
            # A cell that ends with a colon names the next one, where no header does.
            between = "" if not text else " " if text.endswith(":") and not header else " | "
            text += between + (f"{head}: {value}" if head else value)
    return sound(text)


def is_value(text: str) -> bool:
    """Whether a cell is a number, a date or the like, which no header is."""
    return _VALUE.fullmatch(text.strip()) is not None


def is_header(rows: Sequence[Sequence[str]], sure: bool = False) -> bool:
    """Whether the first row names the columns of the following ones.

    It does where it has at least two texts, short and different ones, no numbers but years, and one above
    each column but the first, which often has none. Two columns whose first cells end with a colon are names
    and values, side by side.

    Args:
        rows: the first rows of a table, each with a text a cell.
        sure: whether a column of values, which the first row is none of, has to show it.
    """
    first, following = [cell.strip() for cell in rows[0]], [row for row in rows[1:] if any(row)]
    names = [cell for cell in first if cell]
    if len(names) < 2 or not following or any(len(cell) > _HEADER_CHARACTERS for cell in names):
        return False
    if not all(_names(at, cell, following) for at, cell in enumerate(first) if is_value(cell)):
        return False
    if all(row[0].rstrip().endswith(":") for row in (rows[0], *following) if row and row[0].strip()):
        return False
    valued = any(cell and _values(at, following) for at, cell in enumerate(first))
    if not valued and (sure or len(set(names)) < len(names) or all(map(is_value, names))):
        return False
    used = {at for row in following for at, cell in enumerate(row) if cell.strip()}
    unnamed = {at for at in used if at >= len(first) or not first[at]}
    return not unnamed - {min(used, default=0)}


def _values(at: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether most of what stands in a column are values."""
    cells = [row[at] for row in rows if at < len(row) and row[at].strip()]
    return bool(cells) and 2 * sum(map(is_value, cells)) > len(cells)


def _names(at: int, cell: str, rows: Sequence[Sequence[str]]) -> bool:
    """Whether a number is the name of a column: a year above what are no years."""
    below = [row[at] for row in rows if at < len(row) and row[at].strip()]
    return bool(_YEAR.fullmatch(cell)) and not any(_YEAR.fullmatch(other.strip()) for other in below)


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
        headed = is_header(rows[: _LOOK + 1])
    header = [flat(cell) for cell in rows[0]] if headed else []
    for at, row in enumerate(rows):
        writer.block(row_text([] if at == 0 else header, row), "row")
    writer.write("\n")


def write_workbook(sheets: Iterable[Sheet], title: str, facts: dict[str, str], notes: list[str]) -> Document:
    """A document of all sheets, each in a place of its own."""
    writer, hidden = Writer(), []
    for sheet in sheets:
        writer.begin("sheet", flat(sheet.name))
        left = write_sheet(writer, sheet.rows)
        writer.end()
        if left:
            notes.append(f"sheet {sheet.name} is too long: rows from {left} on are left out")
        if sheet.hidden:
            hidden.append(sheet.name)
    if hidden:
        notes.append(f"hidden sheets are read like the others: {', '.join(hidden)}")
    return writer.document(title, facts=facts, notes=tuple(notes))


def write_sheet(writer: Writer, rows: Iterable[GridRow]) -> int:
    """Write the rows of a sheet as they come, each with a place of its own.

    A sheet may have titles above its table, and several tables, with empty rows between them.

    Returns:
        0, or the number of the first row that was left out since the text got too long.
    """
    header: list[str] = []
    for rest in _tables(rows):
        table = list(islice(rest, _LOOK + 3))
        lead = _titles(table)
        head, found = _header(table[lead:], bool(header))
        if head or not _fits(table, header):
            header = found
        for at, row in enumerate(chain(table, rest)):
            if len(writer) > MOST_CHARACTERS:
                return row.number
            writer.begin("row", str(row.number))
            writer.block(row_text([] if at < lead + head else header, row.cells), "row")
            writer.end()
        writer.write("\n")
    return 0


def _tables(rows: Iterable[GridRow]) -> Iterator[Iterator[GridRow]]:
    """Stretches of rows without an empty one between them; each is to be taken whole before the next."""
    ahead = (row for row in rows)
    row = next(ahead, None)

    def stretch(first: GridRow) -> Iterator[GridRow]:
        nonlocal row
        last, row = first.number, first
        while row is not None and row.number <= last + 1:
            last = row.number
            yield row
            row = next(ahead, None)

    while row is not None:
        yield stretch(row)


def _titles(rows: Sequence[GridRow]) -> int:
    """How many rows with a single cell stand above the table proper."""
    widths = [sum(map(bool, row.cells)) for row in rows]
    lead = next((at for at, width in enumerate(widths) if width > 1), 0)
    return lead if lead < 5 else 0


def _header(rows: Sequence[GridRow], sure: bool) -> tuple[int, list[str]]:
    """How many of the rows are a header (0, 1, or 2 where the first has merged cells), and its names."""
    if not rows:
        return 0, []
    if rows[0].wide and len(rows) > 2:
        above = list(rows[0].cells)
        for first, last in rows[0].wide:
            above += [""] * (last + 1 - len(above))
            above[first : last + 1] = [above[first]] * (last + 1 - first)
        below = rows[1].cells
        above += [""] * (len(below) - len(above))
        both = [
            flat(up if down in ("", up) else f"{up} {down}")
            for up, down in zip(above, below + [""] * (len(above) - len(below)), strict=True)
        ]
        if is_header([both, *(row.cells for row in rows[2 : _LOOK + 2])]):
            return 2, both
    if is_header([row.cells for row in rows[: _LOOK + 1]], sure):
        return 1, [flat(cell) for cell in rows[0].cells]
    return 0, []


def _fits(rows: Sequence[GridRow], header: Sequence[str]) -> bool:
    """Whether rows go on with the table above them: all they have stands below its names."""
    used = {at for row in rows for at, cell in enumerate(row.cells) if cell}
    return len(used) > 1 and all(at < len(header) and (header[at] or at == min(used)) for at in used)


def number_text(value: float) -> str:
    """At most 15 digits, as spreadsheets show them, without an exponent unless it is very large or small."""
    text = str(value) if isinstance(value, int) else f"{value:.15g}"
    if "e" in text and 1e-10 < abs(value) < 1e21:
        text = f"{Decimal(text):f}"
    return text
