"""Tables as text (CSV, TSV): one line a row, cells between commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.grid import GridRow, write_sheet

_DELIMITERS = ",;\t|"
_SAMPLE = 50
_CELL_CHARACTERS = 10_000_000
# A quoted cell of more lines was never meant as one: its quote is a character like any other.
_CELL_LINES = 1000


def read_table(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A table of cells with delimiters. Places: `row`, labelled by number as a spreadsheet counts them.

    Args:
        stream: the whole file.
        name: of the file.

    Raises:
        UnreadableFile: it is no text.
    """
    text = decode(stream.read(), name).removeprefix("\ufeff")
    writer = Writer()
    delimiter, quoting = _dialect(text)
    left = write_sheet(writer, _rows(text, delimiter, quoting))
    notes = (f"the table is too long: rows from {left} on are left out",) if left else ()
    yield writer.document(notes=notes)


def _dialect(text: str) -> tuple[str, bool]:
    """The delimiter, and whether quotes have the meaning that CSV gives them."""
    csv.field_size_limit(_CELL_CHARACTERS)
    if _says(text):
        return text[4:5], True
    scores = {}
    for delimiter in _DELIMITERS:
        widths = Counter(map(len, islice(_parsed(text, delimiter, True), _SAMPLE)))
        widths.pop(0, None)
        # The delimiter that cuts most lines into the same number of cells, then the one of more cells.
        width, rows = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        scores[delimiter] = (rows / max(1, widths.total()) if width > 1 else 0.0, width)
    delimiter = max(_DELIMITERS, key=scores.__getitem__)
    return delimiter, _well_quoted(text, delimiter)


def _says(text: str) -> bool:
    """Whether the first line names the delimiter, which Excel writes and heeds."""
    return text[:4].lower() == "sep=" and text[4:5] in tuple(_DELIMITERS) and text[5:6] in ("\r", "\n")


def _well_quoted(text: str, delimiter: str) -> bool:
    """Whether each quote that opens a cell is closed, and that not far away."""
    last: list[str] = []
    try:
        for row in csv.reader(io.StringIO(text, ""), delimiter=delimiter):
            if any(cell.count("\n") > _CELL_LINES for cell in row):
                return False
            last = row or last
    except csv.Error:
        return False
    return not last or "\n" not in last[-1] or text.rstrip().endswith('"')


def _parsed(text: str, delimiter: str, quoting: bool) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text, ""), delimiter=delimiter, quoting=0 if quoting else 3)
    except csv.Error:
        return


def _rows(text: str, delimiter: str, quoting: bool) -> Iterator[GridRow]:
    for number, cells in enumerate(_parsed(text, delimiter, quoting), start=1):
        if any(map(str.strip, cells)) and not (number == 1 and _says(text)):
            yield GridRow(number, [cell.strip() for cell in cells])
