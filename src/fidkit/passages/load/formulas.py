"""Formulas of a workbook (XLSX) whose result the file doesn't hold: libraries write none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fidkit.wording import counted

# The end of a cell: of a formula and nothing behind it, or an empty result. It begins with fixed letters,
# which are searched several times as fast; a formula that is copied from another cell has no text.
_WITHOUT = rb"\s*(?:<(?:\w+:)?v\s*(?:/>|>\s*</(?:\w+:)?v>)\s*)?</(\w+:)?c>"
_ENDS = (re.compile(rb"f>(?<=[/:]f>)" + _WITHOUT), re.compile(rb"f t=(?<=[<:]f t=)[^<>]{0,500}/>" + _WITHOUT))
_TEXT = re.compile(rb"""\st=["']str["']""")
_LONGEST_CELL = 1 << 16
"""Bytes; a formula has 8,192 characters at most."""


class Formulas:
    """Counts the formulas without a result in a sheet.

    Attributes:
        without: how many there are so far.
    """

    def __init__(self) -> None:
        self.without = 0
        self._rest = b""

    def look(self, xml: bytes) -> None:
        """Take note of the cells in a piece of a sheet; pieces come in order, without overlap."""
        xml = self._rest + xml
        for pattern in _ENDS:
            for found in pattern.finditer(xml):
                self.without += not _is_text(xml, found)
        done = max(xml.rfind(b"</c>"), xml.rfind(b":c>")) + 1
        self._rest = xml[max(done, len(xml) - _LONGEST_CELL) :]


def _is_text(xml: bytes, end: re.Match[bytes]) -> bool:
    """Whether the file says that the result is a text: it is an empty one, and nothing lacks."""
    at = xml.rfind(b"<" + (end[1] or b"") + b"c ", max(0, end.start() - _LONGEST_CELL), end.start())
    return at >= 0 and _TEXT.search(xml, at, xml.find(b">", at) + 1) is not None


def without_result(sheets: Iterable[tuple[str, int]]) -> list[str]:
    """The note about sheets by name, with how many formulas in each have no result; none where none has."""
    said = [f"{counted(count, 'cell', 'cells')} of sheet {name}" for name, count in sheets if count]
    if not said:
        return []
    remedy = "opening and saving the file in a spreadsheet program stores them"
    return [f"formulas whose result the file doesn't hold are left out: {', '.join(said)}; {remedy}"]
