"""Passages as a table: DPR's psgs_w100.tsv, and tables like it.

DPR's cells are quoted where they hold a quote, a tab or a line end. Other tools write cells as they are,
and a quote in front of such a cell is a character like any other. Which of them a line means is decided
by where it leads: a quoted cell closes before a line that is a whole row by itself.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.record import Row, UnreadableFile, line_of, malformed, row_of

COLUMNS = ("id", "text", "title")
_CELL_CHARACTERS = 10_000_000
# More lines than any quoted cell has: what isn't closed by then was never opened.
_MOST_LINES = 1000


class OtherHeader(UnreadableFile):
    """A table that names other columns than passages have."""


def read_tsv(stream: BinaryIO, name: str) -> Iterator[Row]:
    """A passage for each row below a header that names id, text and title, in any order.

    Raises:
        OtherHeader: the table is no passage file.
        UnreadableFile: a row is no passage; names the file and the line.
    """
    lines = _Lines(stream, name)
    header = _quoted([lines.take() or ""]) or []
    if not set(COLUMNS) <= set(header):
        reason = f"expected the header id, text, title of DPR's psgs_w100.tsv, got {', '.join(header)[:80]!r}"
        raise OtherHeader(name, f", line 1: {reason}", "add it or convert the file to JSONL")
    while (line := lines.take()) is not None:
        if line:
            cells, number = _cells(line, lines, len(header)), lines.number
            if len(cells) != len(header):
                reason = f"expected {len(header)} tab-separated columns, got {len(cells)}"
                raise malformed(name, number, reason)
            yield row_of(dict(zip(header, cells, strict=True)), name, number)


class _Lines:
    """Lines of a file as text without their ends; some may be looked at before they are taken.

    Attributes:
        number: of the line that was taken last, counted from 1.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.number = 0
        self._stream, self._name = stream, name
        self._ahead: deque[str] = deque()

    def take(self) -> str | None:
        """The next line; None at the end."""
        line = self._ahead.popleft() if self._ahead else self._read(self.number + 1)
        self.number += line is not None
        return line

    def look(self, at: int) -> str | None:
        """The line `at` places behind the next one; None where the file ends before."""
        while len(self._ahead) <= at:
            line = self._read(self.number + len(self._ahead) + 1)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[at]

    def _read(self, number: int) -> str | None:
        line = line_of(self._stream, self._name, number)
        if not line:
            return None
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise malformed(self._name, number, f"expected UTF-8, tab-separated, but {error}") from error
        return text.rstrip("\r\n")


def _cells(line: str, lines: _Lines, columns: int) -> list[str]:
    """The cells of the row that begins with `line`, taking the lines that it goes on in."""
    plain = line.split("\t")
    if not any(cell.startswith('"') for cell in plain):
        return plain
    for more in range(_MOST_LINES):
        whole = [line, *(str(lines.look(at)) for at in range(more))]
        cells = _quoted(whole)
        if cells is not None and len(cells) == columns:
            for _ in range(more):
                lines.take()
            return cells
        following = lines.look(more)
        # The next line is a row by itself, and so is this one: its quote doesn't open anything.
        if following is None or (len(plain) == columns and following.count("\t") == columns - 1):
            return plain
    return plain


def _quoted(lines: list[str]) -> list[str] | None:
    """The cells of one row in CSV's way of quoting; None where the lines aren't one row."""
    csv.field_size_limit(_CELL_CHARACTERS)
    try:
        rows = list(csv.reader((line + "\n" for line in lines), delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
